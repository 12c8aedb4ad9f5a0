//! Measures memory per investigation with a thousand concurrent investigations that wait for the model, on one process.

use crate::endpoint::SlowModel;
use crate::program::Program;
use crate::support::{self, Setup, eventually};
use futures::StreamExt as _;
use regreen::config::process_env;
use serde_json::json;
use std::time::{Duration, Instant};

/// Number of investigations; `REGREEN_BENCH_REPORTS` overrides it.
const INVESTIGATIONS: usize = 1_000;
/// Number of warm-up investigations, which initialise shared state and are not measured.
const FIRST: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn flight() {
    for lines in [20, 1_000] {
        measure(lines).await;
    }
}

async fn measure(lines: usize) {
    let many = process_env("REGREEN_BENCH_REPORTS").map_or(INVESTIGATIONS, |number| number.parse().unwrap());
    let model = SlowModel::start().await;
    let setup = Setup::whole().await.set("REGREEN_MODEL_URL", &model.url).set("REGREEN_MODEL", "slow");
    let setup =
        setup.set("REGREEN_QUEUE_CONCURRENCY", &(many + FIRST).to_string()).set("REGREEN_QUEUE_LEASE", "60s");
    let program = Program::of(&setup.set("REGREEN_QUEUE_HEARTBEAT", "5s")).await;
    report(&program, 0..FIRST, lines).await;
    eventually("the first are in flight", async || (model.asked() >= FIRST).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, begun) = (program.kib(), Instant::now());
    report(&program, FIRST..FIRST + many, lines).await;
    let accepted = begun.elapsed();
    while model.asked() < FIRST + many {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (held, cpu) = (program.kib().saturating_sub(before), program.cpu());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = (program.cpu() - cpu).as_secs_f64() / 5.0;
    println!(
        "{many} investigations in flight, each with a log of {lines} lines: {:.0} KiB each; {} MiB before; accepted in {:.1} s, all in flight after {:.1} s; {:.0} % of a CPU meanwhile",
        held as f64 / many as f64,
        before / 1024,
        accepted.as_secs_f64(),
        all.as_secs_f64(),
        used * 100.0
    );
    let pool = support::pool(&program.database).await;
    loop {
        model.end();
        let open: i64 =
            sqlx::query_scalar("select count(*) from reports where status not in ('done', 'failed')")
                .fetch_one(&pool)
                .await
                .unwrap();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let done: i64 = sqlx::query_scalar("select count(*) from reports where status = 'done'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(done).unwrap(), many + FIRST);
    println!("  all done, {} MiB at the end", program.kib() / 1024);
}

/// Sends reports with distinct causes.
async fn report(program: &Program, numbers: std::ops::Range<usize>, lines: usize) {
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let send = |number: usize| {
        let name: String =
            format!("{number:05}").bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
        let mut log: String = (0..lines)
            .map(|line| format!("step {line} of the part {name} does what it is there for\n"))
            .collect();
        log.push_str(&format!("error: the part {name} is broken\nexit status 1\n"));
        let body = json!({"namespace": "bench", "pod_name": format!("pod-{name}"), "log": log});
        let request = http
            .post(format!("{}/report-failure", program.base))
            .json(&body)
            .header("prefer", "respond-async");
        async move {
            loop {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                match answer.status().as_u16() {
                    202 => return,
                    429 | 503 => tokio::time::sleep(Duration::from_secs(1)).await,
                    status => panic!("{status}: {}", answer.text().await.unwrap()),
                }
            }
        }
    };
    futures::stream::iter(numbers.map(send)).buffer_unordered(16).collect::<Vec<()>>().await;
}
