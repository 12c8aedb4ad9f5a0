//! The measured program in a separate process: start, resource usage and stop.

use crate::support::{self, Setup, eventually};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running service.
pub struct Program {
    child: Child,
    pub base: String,
    /// Database URL.
    pub database: String,
    /// Time from start to ready.
    pub ready: Duration,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Program {
    pub async fn start(env: &[(&str, &str)]) -> Self {
        let port = support::real_servers::free_port();
        let program = regreen::config::process_env("REGREEN_BENCH_PROGRAM");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_regreen").to_owned()));
        command
            .arg("serve")
            .env("PORT", port.to_string())
            .env("REGREEN_LOG", "error")
            // Disables limits, because the capacity is measured.
            .envs(["REQUESTS", "REPORTS", "QUESTIONS", "STREAMS", "ANSWERS", "WAITS"].map(unlimited))
            .envs(env.iter().copied());
        let begun = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder().build().unwrap();
        eventually("the service is ready", async || {
            let answer = http.get(format!("{base}/health/ready")).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        let database = env.iter().find(|(name, _)| *name == "DATABASE_URL").map(|(_, url)| (*url).to_owned());
        Self { child, base, database: database.unwrap_or_default(), ready: begun.elapsed() }
    }

    /// Starts the program with the settings of a test.
    pub async fn of(setup: &Setup) -> Self {
        let env = setup.env().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // `start` chooses the port, so that the address is known.
        Self::start(&env.filter(|(name, _)| *name != "REGREEN_PORT").collect::<Vec<_>>()).await
    }

    /// Returns host and port.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Returns the resident memory in KiB.
    pub fn kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Returns user and system CPU time, from clock ticks of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

fn unlimited(limit: &str) -> (String, &'static str) {
    (format!("REGREEN_LIMIT_{limit}"), "0")
}

/// Returns a percentile of sorted durations.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
