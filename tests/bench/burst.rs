//! Burst of 2,000 simultaneous reports on two replicas. Every fifth report has a cause already under investigation, and
//! the model needs 200 ms per answer. Clients retry when asked to. No report may be lost, and each cause gets one
//! issue.

use crate::program::{Program, millis, percentile};
use crate::support::fake_model::FakeModel;
use crate::support::{self, Setup};
use futures::StreamExt as _;
use regreen::config::process_env;
use serde_json::json;
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Number of reports; `REGREEN_BENCH_REPORTS` overrides it.
const REPORTS: usize = 2_000;
/// Response time of the model.
const LATENCY: Duration = Duration::from_millis(200);
/// Pause after a rejection without `Retry-After`.
const AGAIN: Duration = Duration::from_secs(1);

/// Encodes a number in letters, because digits do not distinguish causes.
fn name(number: usize) -> String {
    format!("{number:05}").bytes().map(|digit| char::from(b'a' + digit - b'0')).collect()
}

/// Returns the cause of a report; every fifth shares that of the report four before it.
fn cause(number: usize) -> usize {
    if number % 5 == 4 { number - 4 } else { number }
}

#[derive(Default)]
struct Refused {
    busy: AtomicUsize,
    unavailable: AtomicUsize,
    broken: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn burst() {
    let reports = process_env("REGREEN_BENCH_REPORTS").map_or(REPORTS, |number| number.parse().unwrap());
    let model = FakeModel::start(Vec::new()).await;
    model.take(LATENCY);
    let setup = Setup::whole()
        .await
        .model(&model)
        .set("REGREEN_QUEUE_CONCURRENCY", "32")
        .set("REGREEN_QUEUE_LEASE", "30s");
    let setup = setup.set("REGREEN_QUEUE_HEARTBEAT", "5s").set("REGREEN_DATABASE_MAX_CONNECTIONS", "16");
    let (one, two) = (Program::of(&setup).await, Program::of(&setup).await);
    let pool = support::pool(&setup.env()["DATABASE_URL"]).await;
    let peaks = [AtomicU64::new(one.kib()), AtomicU64::new(two.kib())];
    let before = [one.kib(), two.kib()];
    let began = Instant::now();
    let work = async {
        let taken = accept(&[&one, &two], reports).await;
        println!("all {reports} accepted after {:.1} s", began.elapsed().as_secs_f64());
        ended(&pool, reports).await;
        taken
    };
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for (peak, program) in peaks.iter().zip([&one, &two]) {
                peak.fetch_max(program.kib(), Ordering::Relaxed);
            }
        }
    };
    let mut times = tokio::select! {
        times = work => times,
        () = watch => unreachable!("it watches without an end"),
    };
    times.sort();
    println!(
        "all done after {:.1} s: {:.0} reports/s",
        began.elapsed().as_secs_f64(),
        reports as f64 / began.elapsed().as_secs_f64()
    );
    println!(
        "acceptance: p50 {:.0} ms, p99 {:.0} ms",
        millis(percentile(&times, 50)),
        millis(percentile(&times, 99))
    );
    outcome(&pool).await;
    for (number, (peak, before)) in (1..).zip(peaks.iter().zip(before)) {
        println!(
            "replica {number}: {} MiB before, {} MiB at most",
            before / 1024,
            peak.load(Ordering::Relaxed) / 1024
        );
    }
    judge(&setup, &pool, reports).await;
}

/// Sends all reports at once and retries temporary rejections. Returns the time to acceptance of each.
async fn accept(replicas: &[&Program; 2], reports: usize) -> Vec<Duration> {
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let refused = Arc::new(Refused::default());
    let send = |number: usize| {
        let name = name(cause(number));
        let log = format!("step one\nstep two\nerror: the part {name} is broken\nexit status 1\n");
        let body = json!({"namespace": "bench", "pod_name": format!("pod-{name}"), "log": log});
        let url = format!("{}/report-failure", replicas[number % 2].base);
        let request = http
            .post(url)
            .json(&body)
            .header("prefer", "respond-async")
            .header("idempotency-key", format!("burst-{number}"));
        let refused = Arc::clone(&refused);
        async move {
            loop {
                let begun = Instant::now();
                let Ok(answer) = request.try_clone().unwrap().send().await else {
                    refused.broken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                    continue;
                };
                let count = match answer.status().as_u16() {
                    202 => return begun.elapsed(),
                    429 => &refused.busy,
                    503 => &refused.unavailable,
                    status => panic!("{status}: {}", answer.text().await.unwrap()),
                };
                count.fetch_add(1, Ordering::Relaxed);
                let after = answer.headers().get("retry-after").expect("a refusal says when to come back");
                let after = after.to_str().unwrap().parse().map_or(AGAIN, Duration::from_secs);
                tokio::time::sleep(after).await;
            }
        }
    };
    let times = futures::stream::iter((0..reports).map(send)).buffer_unordered(reports).collect().await;
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "refused for the moment: {} with 429, {} with 503; {} broken connections",
        count(&refused.busy),
        count(&refused.unavailable),
        count(&refused.broken)
    );
    times
}

async fn ended(pool: &PgPool, reports: usize) {
    loop {
        let open: i64 =
            sqlx::query_scalar("select count(*) from reports where status not in ('done', 'failed')")
                .fetch_one(pool)
                .await
                .unwrap();
        let all: i64 = sqlx::query_scalar("select count(*) from reports").fetch_one(pool).await.unwrap();
        if open == 0 && usize::try_from(all).unwrap() == reports {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn outcome(pool: &PgPool) {
    let seconds: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from finished_at - created_at)::float8 from reports order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let times: Vec<Duration> =
        seconds.into_iter().map(|seconds| Duration::from_secs_f64(seconds.max(0.0))).collect();
    println!(
        "outcome, from acceptance on: p50 {:.1} s, p99 {:.1} s",
        percentile(&times, 50).as_secs_f64(),
        percentile(&times, 99).as_secs_f64()
    );
}

/// Asserts that all reports are done and each cause has one issue.
async fn judge(setup: &Setup, pool: &PgPool, reports: usize) {
    let done: i64 = sqlx::query_scalar("select count(*) from reports where status = 'done'")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(done).unwrap(), reports);
    let causes: BTreeSet<usize> = (0..reports).map(cause).collect();
    let titles: BTreeSet<String> =
        setup.forge().issues().into_iter().map(|issue| issue["title"].to_string()).collect();
    assert_eq!(
        (setup.forge().issues().len(), titles.len()),
        (causes.len(), causes.len()),
        "one issue per cause"
    );
    println!("{} causes, {} issues, {done} reports done", causes.len(), titles.len());
}
