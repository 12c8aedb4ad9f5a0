//! Measures startup time and report throughput with an instant model and instant tools.

use crate::program::{Program, millis, percentile};
use crate::support::Setup;
use crate::support::fake_model::FakeModel;
use futures::StreamExt as _;
use regreen::db::private::PrivatePostgres;
use serde_json::json;
use std::time::{Duration, Instant};

/// Number of reports per measurement.
const REPORTS: usize = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn reports() {
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
    drop(Program::start(&env).await);
    let program = Program::start(&env).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("start to ready, private PostgreSQL that was stopped: {} ms", program.ready.as_millis());
    println!("idle memory without PostgreSQL: {} MiB", program.kib() / 1024);
}

/// Each report has its own cause and therefore needs two completions, one search and one issue.
async fn throughput(at_once: usize) {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole().await.model(&model).set("REGREEN_QUEUE_CONCURRENCY", &at_once.to_string());
    let program = Program::of(&setup).await;
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let post = |n: usize| {
        let name: String = format!("{n:05}").bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
        let log = format!("step one\nstep two\nerror: the part {name} is broken\nexit status 1\n");
        let body = json!({"namespace": "bench", "pod_name": format!("pod-{name}"), "log": log});
        let request = http.post(format!("{}/report-failure", program.base)).json(&body);
        async move {
            let begun = Instant::now();
            let response = request.send().await.unwrap();
            assert!(response.status().is_success(), "{}", response.text().await.unwrap());
            begun.elapsed()
        }
    };
    futures::future::join_all((90_000..90_016).map(&post)).await;
    let (cpu_before, begun) = (program.cpu(), Instant::now());
    let mut times: Vec<Duration> =
        futures::stream::iter((0..REPORTS).map(&post)).buffer_unordered(at_once).collect().await;
    let wall = begun.elapsed();
    times.sort();
    let used = (program.cpu() - cpu_before).as_secs_f64() * 1000.0 / REPORTS as f64;
    println!(
        "{at_once} at once: {:.0} reports/s, p50 {:.1} ms, p99 {:.1} ms, {used:.2} ms CPU per report ({:.0} reports per CPU second), {} MiB",
        REPORTS as f64 / wall.as_secs_f64(),
        millis(percentile(&times, 50)),
        millis(percentile(&times, 99)),
        1000.0 / used,
        program.kib() / 1024
    );
}
