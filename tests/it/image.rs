//! The image's files, laid out as its build lays them out, on a read-only root and as the users that clusters give it.

use crate::support::database::server_url;
use crate::support::real_servers::{free_port, tool};
use crate::support::replica::http;
use crate::support::{Setup, eventually, fresh_database};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

type Env = BTreeMap<String, String>;

fn project(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What the Dockerfile says about the image after an instruction's name.
fn instructed(name: &str) -> String {
    let file = project("Dockerfile");
    let (_, image) = file.rsplit_once("\nFROM ").unwrap();
    let said: Vec<&str> = image.lines().filter_map(|line| line.strip_prefix(name)).collect();
    assert!(!said.is_empty(), "the Dockerfile has no {name}");
    said.join(" ")
}

/// The environment that every container of the image begins with.
fn env_of_the_image() -> Env {
    let pairs = instructed("ENV ");
    let pairs = pairs.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The tree, and how it is run.
struct Image {
    tree: TempDir,
    secrets: TempDir,
    log: NamedTempFile,
    user: u32,
}

impl Image {
    fn of(user: u32) -> Self {
        let tree = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/image-tree");
        let laid_out = Command::new(script).arg(env!("CARGO_BIN_EXE_regreen")).arg(tree.path()).status();
        assert!(laid_out.unwrap().success());
        Self { tree, secrets: tempfile::tempdir().unwrap(), log: NamedTempFile::new().unwrap(), user }
    }

    /// The program as process 1 of a container: no other files, no rights, nothing to write to but /tmp; the image's
    /// environment, and what is added to it.
    fn command(&self, added: &Env, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool("bubblewrap/usr/bin/bwrap"));
        command.args(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--as-pid-1", "--die-with-parent"]);
        command.args(["--uid", &self.user.to_string(), "--gid", "0", "--cap-drop", "ALL"]);
        command.arg("--ro-bind").arg(self.tree.path()).arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        command.arg("--ro-bind").arg(self.secrets.path()).arg("/run/secrets/regreen");
        // The database listens on a socket in a folder.
        let database = server_url();
        let folder = database.split(['@', '/']).find(|part| part.starts_with("%2F")).unwrap();
        let folder = folder.replace("%2F", "/");
        command.args(["--bind", &folder, &folder, "--", "/usr/local/bin/regreen"]).args(arguments);
        command.env_clear().envs(env_of_the_image()).envs(added).stdin(Stdio::null());
        command
    }

    fn run(&self, added: &Env, arguments: &[&str]) -> Output {
        self.command(added, arguments).output().unwrap()
    }
}

/// The process that the sandbox runs: its only child.
fn process_in(sandbox: &Child) -> u32 {
    let id = sandbox.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// What a deployment adds: who may call, ports that are free here, and a proxy for what is outside, which is not asked
/// about what is inside. With the addresses that then answer.
async fn deployment() -> (Env, [String; 2]) {
    let mut env = Setup::bare().await.set("REGREEN_AUTH", "keys").env().clone();
    let (port, beside) = (free_port(), free_port());
    let of_the_image = env_of_the_image();
    let bind = of_the_image.get("REGREEN_METRICS_BIND").expect("a worker listens nowhere else");
    let (address, _) = bind.rsplit_once(':').unwrap();
    for (name, value) in [
        ("REGREEN_PORT", port.to_string()),
        ("REGREEN_METRICS_BIND", format!("{address}:{beside}")),
        ("HTTP_PROXY", "http://127.0.0.1:1".to_owned()),
    ] {
        env.insert(name.to_owned(), value);
    }
    (env, [port, beside].map(|port| format!("http://127.0.0.1:{port}/health/live")))
}

/// Starts, answers, is well as its health check sees it, and stops in time.
async fn lives_and_ends(user: u32, role: &str) {
    let (image, (env, [own, beside])) = (Image::of(user), deployment().await);
    let check = instructed("HEALTHCHECK ");
    let (_, check) = check.split_once(" CMD ").unwrap();
    let check: Vec<&str> = serde_json::from_str(check).unwrap();
    let ("/usr/local/bin/regreen", check) = (check[0], &check[1..]) else { panic!("{check:?}") };
    let silent = image.run(&env, check);
    assert_eq!(silent.status.code(), Some(1), "{silent:?}");
    let mut sandbox = image.command(&env, &[role]);
    let mut sandbox = sandbox.stderr(image.log.reopen().unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(image.log.path()).unwrap();
    for page in [&beside, &own].into_iter().take(if role == "serve" { 2 } else { 1 }) {
        eventually("the image answers", async || {
            assert!(sandbox.try_wait().unwrap().is_none(), "it ended: {}", said());
            http().get(page).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }
    for arguments in [check, &["health", "--ready"]] {
        let well = image.run(&env, arguments);
        assert!(well.status.success() && well.stdout == b"ok\n", "{well:?}");
    }
    let process = process_in(&sandbox);
    let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro,"), "{root}");
    let asked = Instant::now();
    crate::support::postgres::signal_to(process, "-TERM");
    let ended = eventually("the image stops", async || sandbox.try_wait().unwrap()).await;
    assert!(ended.success(), "{ended}: {}", said());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}: {}", asked.elapsed(), said());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_as_its_own_user() {
    lives_and_ends(1000, "serve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_as_whatever_user_a_namespace_gives_it() {
    lives_and_ends(fastrand::u32(1_000_000_000..1_001_000_000), "serve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_image_is_well_too() {
    lives_and_ends(1000, "work").await;
}

/// It has no settings but the image's environment, its own, and the Secret: else no upgrade would begin.
#[tokio::test(flavor = "multi_thread")]
async fn the_job_before_an_upgrade_migrates() {
    let manifest = project("charts/rendered/regreen.yaml");
    let job = serde_norway::Deserializer::from_str(&manifest)
        .map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap())
        .find(|found| found["kind"] == "Job" && found["metadata"]["name"] == "regreen-migrate")
        .unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let env =
        container["env"].as_array().unwrap().iter().map(|set| (text(&set["name"]), text(&set["value"])));
    let arguments: Vec<&str> =
        container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let image = Image::of(1000);
    fs::write(image.secrets.path().join("database-url"), fresh_database().await).unwrap();
    let migrated = image.run(&env.collect(), &arguments);
    assert!(migrated.status.success(), "{migrated:?}");
    assert_eq!(migrated.stdout, b"The schema is up to date.\n");
}

fn walk(folder: &Path, found: &mut Vec<(String, fs::Metadata)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            walk(&path, found);
        }
        found.push((path.display().to_string(), metadata));
    }
}

#[test]
fn everybody_may_read_the_image_and_nobody_may_change_it() {
    let (image, mut found) = (Image::of(1000), Vec::new());
    walk(image.tree.path(), &mut found);
    for (path, metadata) in &found {
        let mode = metadata.permissions().mode();
        assert!(mode & 0o004 != 0 && (!metadata.is_dir() || mode & 0o001 != 0), "{path} is closed: {mode:o}");
        assert!(mode & 0o022 == 0 || path.ends_with("/tmp"), "{path} may be written: {mode:o}");
        assert!(mode & 0o6000 == 0, "{path} gives rights: {mode:o}");
    }
    let is_program = |path: &str| !path.contains("/lib") && path.contains("/bin/");
    let programs: Vec<&String> = found.iter().map(|(path, _)| path).filter(|path| is_program(path)).collect();
    assert!(programs.len() == 1 && programs[0].ends_with("/usr/local/bin/regreen"), "{programs:?}");
    assert!(found.iter().map(|(_, metadata)| metadata.size()).sum::<u64>() > 1 << 20);
}
