//! A PostgreSQL server of one test on loopback that can be stopped, killed and restarted.

use super::{eventually, real_servers};
use regreen::config::process_env;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// User that runs the server when the test runs as root, because PostgreSQL refuses root.
pub const NOBODY: u32 = 65_534;

/// Shutdown mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Disconnects clients and rolls back transactions.
    Fast,
    /// Stops without a clean shutdown, as in a crash.
    Immediate,
}

/// The server; its data is removed when dropped.
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

/// Returns the folder of the test server's programs.
pub fn programs() -> PathBuf {
    let programs = process_env("REGREEN_TEST_PROGRAMS");
    programs.expect("run the tests with `make test`, or under `.ci/with-postgres`").into()
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Postgres {
    /// Creates and starts a server.
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

    /// Returns the listen address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the database URL at an address.
    pub fn url_at(address: &str) -> String {
        format!("postgres://regreen@{address}/postgres")
    }

    pub fn url(&self) -> String {
        Self::url_at(&self.address())
    }

    /// Starts the server and waits until it accepts connections.
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

    /// Starts the server.
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

    /// Stops the server and waits until it has ended.
    pub fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else { return };
        let signal = if how == Stop::Fast { "-INT" } else { "-QUIT" };
        signal_to(child.id(), signal);
        child.wait().unwrap();
    }
}

/// Sends a signal such as `-TERM` to a process.
pub fn signal_to(process: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

/// Creates a folder that other users can access.
pub fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap()
}
