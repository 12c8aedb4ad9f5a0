//! A service in a separate process that can be killed, stopped by a signal, and run next to others.

use super::postgres::signal_to;
use super::{Answer, Setup, TestApp, eventually, http_without_tls, real_servers};
use serde_json::Value;
use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// The running process.
pub struct Replica {
    child: Child,
    /// Base URL, if it serves.
    pub base: String,
    folder: TempDir,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "{} wrote at last:\n{}",
                self.base,
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

impl Replica {
    /// Starts `serve`, which also works; it may not be ready yet.
    pub fn serve(setup: &Setup) -> Self {
        Self::start(setup, "serve", &[])
    }

    /// Starts `work`.
    pub fn work(setup: &Setup) -> Self {
        Self::start(setup, "work", &[])
    }

    /// Starts with additional environment variables; an empty value removes one.
    pub fn start(setup: &Setup, role: &str, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, port) = (folder.path().join("settings.toml"), real_servers::free_port());
        std::fs::write(&file, setup.toml()).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
        command.arg("--config").arg(file).arg(role).env_clear().envs(setup.env());
        command.env("REGREEN_PORT", port.to_string()).env("REGREEN_LOG", "info");
        for (name, value) in more {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), base: format!("http://127.0.0.1:{port}"), folder }
    }

    /// Waits until it accepts reports.
    pub async fn ready(self) -> Self {
        eventually("the replica is ready", async || {
            let answer = self.get("/health/ready").await?;
            (answer.status == 200).then_some(())
        })
        .await;
        self
    }

    /// Returns the response, if any.
    pub async fn get(&self, path: &str) -> Option<Answer> {
        TestApp::try_read(http().get(format!("{}{path}", self.base))).await
    }

    /// Sends a report with an immediate response.
    pub async fn report(&self, body: &Value, key: &str) -> Option<Answer> {
        let request = http().post(format!("{}/report-failure", self.base)).json(body);
        TestApp::try_read(request.header("prefer", "respond-async").header("idempotency-key", key)).await
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process (`kill -9`).
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and returns the exit status and the log.
    pub async fn terminate(mut self) -> (ExitStatus, String) {
        signal_to(self.child.id(), "-TERM");
        let status = eventually("the replica ends", async || self.child.try_wait().unwrap()).await;
        (status, self.log())
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the replica ends", async || self.child.try_wait().unwrap()).await
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// Creates a client without connection reuse, because connections to a killed replica are dead.
pub fn http() -> reqwest::Client {
    http_without_tls().pool_max_idle_per_host(0).build().unwrap()
}
