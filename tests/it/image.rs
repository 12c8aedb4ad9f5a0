//! The image's files, laid out as its build lays them out, on a read-only root and as the users that clusters give it.

use crate::support::real_servers::{free_port, tool};
use crate::support::replica::http;
use crate::support::{Setup, eventually};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// The tree, and how it is run.
struct Image {
    tree: TempDir,
    log: NamedTempFile,
    user: u32,
    ports: (u16, u16),
}

impl Image {
    fn of(user: u32) -> Self {
        let tree = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/image-tree");
        let laid_out = Command::new(script).arg(env!("CARGO_BIN_EXE_regreen")).arg(tree.path()).status();
        assert!(laid_out.unwrap().success());
        Self { tree, log: NamedTempFile::new().unwrap(), user, ports: (free_port(), free_port()) }
    }

    /// The program as process 1 of a container: no other files, no rights, nothing to write to but /tmp.
    fn command(&self, setup: &Setup, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool("bubblewrap/usr/bin/bwrap"));
        command.args(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--as-pid-1", "--die-with-parent"]);
        command.args(["--uid", &self.user.to_string(), "--gid", "0", "--cap-drop", "ALL"]);
        command.arg("--ro-bind").arg(self.tree.path()).arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
        // The database listens on a socket in a folder.
        let database = &setup.env()["DATABASE_URL"];
        let folder = database.split(['@', '/']).find(|part| part.starts_with("%2F")).unwrap();
        let folder = folder.replace("%2F", "/");
        command.args(["--bind", &folder, &folder, "--", "/usr/local/bin/regreen"]).args(arguments);
        command
            .env_clear()
            .envs(setup.env())
            .env("HOME", "/tmp")
            .env("REGREEN_PORT", self.ports.0.to_string());
        command.env("REGREEN_METRICS_BIND", format!("127.0.0.1:{}", self.ports.1));
        // A proxy for what is outside is not asked about what is inside.
        command.env("HTTP_PROXY", "http://127.0.0.1:1");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, setup: &Setup, arguments: &[&str]) -> Output {
        self.command(setup, arguments).output().unwrap()
    }
}

/// The process that the sandbox runs: its only child.
fn process_in(sandbox: &Child) -> u32 {
    let id = sandbox.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().parse().unwrap()
}

/// Starts, serves, is well, and stops in time.
async fn lives_and_ends(user: u32) {
    let (image, setup) = (Image::of(user), Setup::bare().await);
    let silent = image.run(&setup, &["health"]);
    assert_eq!(silent.status.code(), Some(1), "{silent:?}");
    let mut sandbox = image.command(&setup, &["serve"]);
    let mut sandbox = sandbox.stderr(image.log.reopen().unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(image.log.path()).unwrap();
    let page = format!("http://127.0.0.1:{}/openapi.json", image.ports.0);
    eventually("the image serves", async || {
        assert!(sandbox.try_wait().unwrap().is_none(), "it ended: {}", said());
        http().get(&page).send().await.ok().filter(|answer| answer.status() == 200)
    })
    .await;
    for arguments in [&["health"][..], &["health", "--ready"]] {
        let well = image.run(&setup, arguments);
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
    lives_and_ends(1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_as_whatever_user_a_namespace_gives_it() {
    lives_and_ends(fastrand::u32(1_000_000_000..1_001_000_000)).await;
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
