//! `make bench`: figures of a release build, with a model and tools that answer at once. Prints, asserts nothing about time.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench fails by panicking and owns its servers"
)]

#[path = "support/mod.rs"]
mod support;

use regreen::db::private::PrivatePostgres;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::fake_model::FakeModel;
use support::{Setup, eventually};

/// Reports of each measurement.
const REPORTS: usize = 600;

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time of a process, in clock ticks of 10 ms.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

struct Server {
    child: std::process::Child,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

async fn serve(env: &[(&str, &str)]) -> (Server, Duration) {
    let port = support::real_servers::free_port();
    let program = regreen::config::process_env("REGREEN_BENCH_PROGRAM");
    let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_regreen").to_owned()));
    command.arg("serve").env("PORT", port.to_string()).env("REGREEN_LOG", "error").envs(env.iter().copied());
    let begun = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::builder().build().unwrap();
    eventually("the service is ready", async || {
        let answer = http.get(format!("{base}/health/ready")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    (Server { child, base }, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn figures() {
    start_and_memory().await;
    for at_once in [1, 32] {
        throughput(at_once).await;
    }
}

async fn start_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    PrivatePostgres::start(folder.path(), None).await.unwrap().stop().await.unwrap();
    let env = [
        ("REGREEN_DATA_DIR", folder.path().to_str().unwrap()),
        ("REGREEN_DATABASE_URL", ""),
        ("DATABASE_URL", ""),
    ];
    let (first, _) = serve(&env).await;
    drop(first);
    let (server, ready) = serve(&env).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("start to ready, private PostgreSQL that was stopped: {} ms", ready.as_millis());
    println!("idle memory without PostgreSQL: {} MiB", status_kib(server.child.id(), "VmRSS") / 1024);
}

/// Every report is a cause of its own, so each asks the model: two completions and one search, then files an issue.
async fn throughput(at_once: usize) {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole().await.model(&model).set("REGREEN_QUEUE_CONCURRENCY", &at_once.to_string());
    let env: Vec<(&str, &str)> = setup
        .env()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != "REGREEN_PORT")
        .collect();
    let (server, _) = serve(&env).await;
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let post = |n: usize| {
        let name: String = format!("{n:05}").bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
        let log = format!("step one\nstep two\nerror: the part {name} is broken\nexit status 1\n");
        let body = json!({"namespace": "bench", "pod_name": format!("pod-{name}"), "log": log});
        let request = http.post(format!("{}/report-failure", server.base)).json(&body);
        async move {
            let begun = Instant::now();
            let response = request.send().await.unwrap();
            assert!(response.status().is_success(), "{}", response.text().await.unwrap());
            begun.elapsed()
        }
    };
    futures::future::join_all((90_000..90_016).map(&post)).await;
    let (cpu_before, begun) = (cpu(server.child.id()), Instant::now());
    use futures::StreamExt as _;
    let mut times: Vec<Duration> =
        futures::stream::iter((0..REPORTS).map(&post)).buffer_unordered(at_once).collect().await;
    let wall = begun.elapsed();
    times.sort();
    let used = (cpu(server.child.id()) - cpu_before).as_secs_f64() * 1000.0 / REPORTS as f64;
    println!(
        "{at_once} at once: {:.0} reports/s, p50 {:.1} ms, p99 {:.1} ms, {used:.2} ms CPU per report ({:.0} reports per CPU second), {} MiB",
        REPORTS as f64 / wall.as_secs_f64(),
        percentile(&times, 50).as_secs_f64() * 1000.0,
        percentile(&times, 99).as_secs_f64() * 1000.0,
        1000.0 / used,
        status_kib(server.child.id(), "VmRSS") / 1024
    );
}
