//! A PostgreSQL of a test's own, which may be stopped, killed and started again. It listens on loopback.

use super::{eventually, real_servers};
use regreen::config::process_env;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Whom root lends it to, since PostgreSQL refuses root.
pub const NOBODY: u32 = 65_534;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Clients are cut off, transactions are rolled back.
    Fast,
    /// As in a crash: nothing is put in order.
    Immediate,
}

/// The server; its data lives as long as it does.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// The folder with the programs of the test server.
pub fn programs() -> PathBuf {
    let programs = process_env("REGREEN_TEST_PROGRAMS");
    programs.expect("run the tests with `make test`, or under `.ci/with-postgres`").into()
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Postgres {
    /// A new one that runs.
    pub async fn start() -> Self {
        let folder =
            tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut server = Self { folder, programs: programs(), port: real_servers::free_port(), child: None };
        let made = server
            .command("initdb")
            .arg("-D")
            .arg(server.cluster())
            .args([
                "-U",
                "regreen",
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--no-sync",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run().await;
        server
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("data/cluster")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(self.folder.path().join("data")).stdin(Stdio::null());
        command
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its database, reached at that address.
    pub fn url_at(address: &str) -> String {
        format!("postgres://regreen@{address}/postgres")
    }

    pub fn url(&self) -> String {
        Self::url_at(&self.address())
    }

    /// Starts it and waits until it answers.
    pub async fn run(&mut self) {
        self.launch();
        eventually("the server answers", async || {
            let asked = self
                .command("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            asked.unwrap().success().then_some(())
        })
        .await;
    }

    /// Starts it.
    pub fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.cluster())
            .args(["-p", &self.port.to_string(), "-k", "", "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Stops it and waits for its end.
    pub fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else { return };
        let signal = if how == Stop::Fast { "-INT" } else { "-QUIT" };
        signal_to(child.id(), signal);
        child.wait().unwrap();
    }
}

/// Sends a signal such as `-TERM`.
pub fn signal_to(process: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

/// A folder that another user can reach.
pub fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap()
}
