//! Environment for pipeline scripts: a folder with its own shell and programs, and an API with the failed objects.

use super::apis;
use super::real_servers::tool;
use regreen::config::process_env;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Programs that the scripts need besides a shell and curl. Every BusyBox build has them; with a BusyBox shell, no
/// others are available.
const APPLETS: [&str; 14] =
    ["sh", "awk", "od", "sed", "tail", "tr", "head", "mktemp", "cut", "cat", "date", "sleep", "rm", "wc"];

/// A workspace.
pub struct Place {
    folder: TempDir,
    path: String,
}

/// Result of a script.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    /// Combined standard output and error.
    pub said: String,
}

/// Returns the available shells; pipeline images use BusyBox.
pub fn shells() -> Vec<PathBuf> {
    let path = process_env("PATH").unwrap();
    let find =
        |name: &str| path.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let mut found: Vec<PathBuf> = ["sh", "dash", "bash"].into_iter().filter_map(find).collect();
    found.push(tool("busybox-static/bin/busybox"));
    found
}

impl Place {
    /// Creates a workspace with this `sh`, its programs, and a curl that records its arguments and environment.
    pub fn with(shell: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let usual = process_env("PATH").unwrap();
        let (names, path) = if shell.ends_with("busybox") {
            (&APPLETS[..], bin.display().to_string())
        } else {
            (&APPLETS[..1], format!("{}:{usual}", bin.display()))
        };
        for name in names {
            symlink(shell, bin.join(name)).unwrap();
        }
        let place = Self { path, folder };
        let calls = place.file("calls").display().to_string();
        place.program(
            "curl",
            &format!("export PATH='{usual}'\n{{ echo \"$*\"; env; }} >>'{calls}'\nexec curl \"$@\""),
        );
        place
    }

    pub fn new() -> Self {
        Self::with(&shells()[0])
    }

    /// Adds a program that takes precedence.
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.folder.path().join("bin").join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let file = self.file(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Returns the recorded arguments and environments of curl.
    pub fn calls(&self) -> String {
        self.read("calls")
    }

    /// Starts a program with only this environment.
    pub fn start(&self, program: &[&str], env: &[(&str, &str)]) -> Child {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).env_clear().env("PATH", &self.path).env("HOME", self.folder.path());
        command.envs(env.iter().copied()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &[&str], env: &[(&str, &str)]) -> Ran {
        ended(self.start(program, env)).await
    }
}

/// Waits for the end of a process.
pub async fn ended(child: Child) -> Ran {
    let output = tokio::time::timeout(super::PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the script ends").unwrap();
    let said = [output.stdout, output.stderr].concat();
    Ran { code: output.status.code(), said: String::from_utf8(said).unwrap() }
}

/// Starts a Kubernetes API with these objects and writes a `kubeconfig` for kubectl.
pub async fn cluster(place: &Place, objects: Vec<Value>) -> apis::Api {
    let api = apis::objects(objects).await;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    });
    symlink(tool("kubernetes-client/usr/bin/kubectl"), place.file("bin/kubectl")).unwrap();
    place.write("kubeconfig", config.to_string());
    api
}
