//! `/health/live` under load: four reports with logs of 28 MB, and ten whose model searches logs of 1 and 4 MB with
//! slow patterns. Health is requested a hundred times per second until all reports have ended.

use crate::program::{Program, millis, percentile};
use crate::support::fake_model::{FakeModel, Reply, Style};
use crate::support::{self, Setup};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};

/// Size of each of the four long logs, in bytes.
const LONG: usize = 28_000_000;
/// Pause between requests.
const EVERY: Duration = Duration::from_millis(10);
/// Limit for the 99th percentile of response times.
const BOUND: Duration = Duration::from_millis(50);

/// A pattern within all limits that is slow on text of similar characters.
const SLOW: &str = "x[xy ]{480}#|y[xy ]{480}%|xx[xy ]{470}&|yy[xy ]{470}~";

/// Ten slow patterns of an attacker for each of three runs, because a rejection applies to one run only.
fn searches(run: usize) -> Reply {
    let fixed = [
        "[ -~]{0,3990}[^ -~]",
        "(?:[ -~]{0,90}){0,90}#",
        r"(?:\w{1,400}\W){400}",
        r"\w{490}\W{490}",
        "(?:x+x+)+#",
    ];
    let own = (0..5).map(|number| format!("{SLOW}|{number}|{run}"));
    let patterns = own.chain(fixed.map(str::to_owned));
    let calls = patterns.map(|pattern| ("search_evidence", json!({"pattern": pattern}).to_string()));
    Reply::Calls(calls.collect(), Style::Whole)
}

fn hostile_log(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut log = String::with_capacity(bytes + 4_000);
    while log.len() < bytes {
        for _ in 0..400 {
            log.extend((0..random.usize(4..9)).map(|_| if random.bool() { 'x' } else { 'y' }));
            log.push(' ');
        }
        log.push('\n');
    }
    log.push_str("error: the part is broken\nexit status 1\n");
    log
}

fn long_log(number: usize) -> String {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut log = String::with_capacity(LONG + 4_000);
    while log.len() < LONG {
        let (step, file) = (random.u32(..), random.u32(..));
        log.push_str(&format!(
            "2026-11-21T10:00:00.{:03}Z worker-{} copied the object {step:x} of /var/lib/build/{file:08x}.o in {} ms, password=[redacted] token: none\n",
            random.u32(..1000), random.u8(..), random.u16(..)
        ));
    }
    log.push_str(&format!("error: the part number-{number} of the machine is broken\nexit status 1\n"));
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn live() {
    let script = (0..30).map(searches).collect();
    let model = FakeModel::start(script).await;
    let setup = Setup::bare().await.model(&model).set("REGREEN_QUEUE_CONCURRENCY", "16");
    let setup = setup.set("REGREEN_QUEUE_LEASE", "60s");
    let program = Program::of(&setup).await;
    let pool = support::pool(&setup.env()["DATABASE_URL"]).await;
    let mut logs: Vec<Value> =
        (0..4).map(|number| body(&format!("long-{number}"), &long_log(number))).collect();
    logs.extend((0..10).map(|number| {
        body(&format!("hostile-{number}"), &hostile_log(if number % 2 == 0 { 1 << 20 } else { 4 << 20 }))
    }));
    let bodies: Vec<String> = logs.iter().map(Value::to_string).collect();
    drop(logs);
    let idle = probe(&program, tokio::time::sleep(Duration::from_secs(3))).await;
    told("idle", &idle);
    let begun = Instant::now();
    let count = i64::try_from(bodies.len()).unwrap();
    let work = async {
        let http = reqwest::Client::builder().build().unwrap();
        let sent = bodies.into_iter().enumerate().map(|(number, body)| send(&http, &program, number, body));
        futures::future::join_all(sent).await;
        println!("all accepted after {:.1} s", begun.elapsed().as_secs_f64());
        ended(&pool, count).await;
    };
    let busy = probe(&program, work).await;
    println!(
        "all done after {:.1} s, with {} requests to the model",
        begun.elapsed().as_secs_f64(),
        model.requests().len()
    );
    told("under attack", &busy);
    let p99 = percentile(&busy, 99);
    println!("p99 {} the bound of {BOUND:?}", if p99 <= BOUND { "keeps" } else { "BREAKS" });
}

fn body(pod: &str, log: &str) -> Value {
    json!({"namespace": "bench", "pod_name": pod, "log": log})
}

async fn send(http: &reqwest::Client, program: &Program, number: usize, body: String) {
    loop {
        let request = http.post(format!("{}/report-failure", program.base)).header("prefer", "respond-async");
        let request = request
            .header("idempotency-key", format!("live-{number}"))
            .header("content-type", "application/json");
        let answer = request.body(body.clone()).send().await.unwrap();
        match answer.status().as_u16() {
            202 => return,
            429 | 503 => tokio::time::sleep(Duration::from_secs(1)).await,
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }
}

async fn ended(pool: &PgPool, reports: i64) {
    loop {
        let ended: i64 =
            sqlx::query_scalar("select count(*) from reports where status in ('done', 'failed')")
                .fetch_one(pool)
                .await
                .unwrap();
        if ended == reports {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Requests health until the work is done. Returns the response times in order.
async fn probe(program: &Program, work: impl Future<Output = ()>) -> Vec<Duration> {
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let url = format!("{}/health/live", program.base);
    let mut times = Vec::new();
    let asking = async {
        let mut beat = tokio::time::interval(EVERY);
        loop {
            beat.tick().await;
            let begun = Instant::now();
            assert!(http.get(&url).send().await.unwrap().status().is_success());
            times.push(begun.elapsed());
        }
    };
    tokio::select! {
        () = work => {}
        () = asking => unreachable!("it asks without an end"),
    }
    times.sort();
    times
}

fn told(when: &str, times: &[Duration]) {
    println!(
        "/health/live {when}: {} answers, p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms",
        times.len(),
        millis(percentile(times, 50)),
        millis(percentile(times, 99)),
        times.get(times.len() * 999 / 1000).map_or(0.0, |time| millis(*time)),
        millis(*times.last().unwrap())
    );
}
