//! Measures a thousand open streams on one process: memory per stream, delay from model to reader, and CPU usage.

use crate::endpoint::{SlowModel, nanos};
use crate::follow::{Readers, follow, get, post};
use crate::program::{Program, millis, percentile};
use crate::support::{self, Setup, eventually};
use futures::StreamExt as _;
use sqlx::PgPool;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const STREAMS: usize = 1_000;
/// Number of answers with many readers.
const ANSWERS: usize = 50;
/// Number of streams opened concurrently.
const AT_ONCE: usize = 32;
/// Duration of the measurement.
const STEADY: Duration = Duration::from_secs(20);

/// Kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Answers,
    Pages,
    Lists,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn streams() {
    for kind in [Kind::Events, Kind::Answers, Kind::Pages, Kind::Lists] {
        measure(kind).await;
    }
}

struct Bench {
    model: SlowModel,
    program: Program,
    pool: PgPool,
    readers: Arc<Readers>,
    /// Running readers.
    reading: Mutex<JoinSet<()>>,
}

impl Bench {
    async fn start() -> Self {
        let model = SlowModel::start().await;
        let setup = Setup::bare()
            .await
            .set("REGREEN_MODEL_URL", &model.url)
            .set("REGREEN_MODEL", "slow")
            // The model never calls tools, so detection is skipped.
            .set("REGREEN_MODEL_TOOL_CALLS", "native")
            .set("REGREEN_DATABASE_MAX_CONNECTIONS", "20");
        let program = Program::of(&setup).await;
        let pool = support::pool(&setup.env()["DATABASE_URL"]).await;
        Self { model, program, pool, readers: Arc::default(), reading: Mutex::default() }
    }

    /// Opens streams and returns their response heads.
    async fn open(&self, requests: impl Iterator<Item = String>) -> Vec<String> {
        let opened = requests.map(|request| async move {
            let (begun, head) = oneshot::channel();
            let address = self.program.address().to_owned();
            let reader = follow(Arc::clone(&self.readers), address, request, begun);
            self.reading.lock().unwrap().spawn(reader);
            head.await.unwrap()
        });
        futures::stream::iter(opened).buffer_unordered(AT_ONCE).collect().await
    }

    /// Asks questions, each in its own conversation, and returns the run ids.
    async fn ask(&self, answers: usize) -> Vec<String> {
        let body = r#"{"message":"my pod says ImagePullBackOff, what now?"}"#;
        let request = post(self.program.address(), "/api/chat/stream", body);
        let heads = self.open(std::iter::repeat_n(request, answers)).await;
        let run = |head: &String| {
            let (_, rest) = head.split_once("regreen-run: ").unwrap();
            rest.split_once('\r').unwrap().0.to_owned()
        };
        heads.iter().map(run).collect()
    }

    /// Ends all answers and returns the time until every reader has ended.
    async fn end(&self) -> Duration {
        let begun = Instant::now();
        self.model.end();
        eventually("every stream ends", async || {
            (self.readers.open.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
        begun.elapsed()
    }

    /// Returns the age of the newest stored piece, which a reconnecting reader would get.
    async fn kept_after(&self) -> Duration {
        let now = nanos();
        let newest: Option<String> = sqlx::query_scalar(
            "select max(lpad(substring(payload::text from '.*w=(\\d+);'), 20, '0')) from events where kind = 'text.delta'",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        Duration::from_nanos(now.saturating_sub(newest.unwrap().parse().unwrap()))
    }
}

async fn measure(kind: Kind) {
    let bench = Bench::start().await;
    let address = bench.program.address();
    // Warm-up: state initialised on first use does not count towards the streams.
    let runs = bench.ask(ANSWERS).await;
    bench.open(runs.iter().map(|run| get(address, &format!("/chat/turns/{run}")))).await;
    bench.end().await;
    let answers = if matches!(kind, Kind::Events | Kind::Pages) { ANSWERS } else { 0 };
    let runs = bench.ask(answers).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, begun) = (bench.program.kib(), Instant::now());
    let each = runs.iter().cycle().take(STREAMS);
    match kind {
        Kind::Events => {
            bench.open(each.map(|run| get(address, &format!("/api/chat/{run}/events")))).await;
        }
        Kind::Pages => drop(bench.open(each.map(|run| get(address, &format!("/chat/turns/{run}")))).await),
        Kind::Answers => drop(bench.ask(STREAMS).await),
        Kind::Lists => drop(bench.open(std::iter::repeat_n(get(address, "/live"), STREAMS)).await),
    }
    let opening = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let held = bench.program.kib().saturating_sub(before);
    let title = match kind {
        Kind::Events => "1,000 readers of 50 answers (/api/chat/{run}/events)",
        Kind::Answers => "1,000 answers, each with a reader (/api/chat/stream)",
        Kind::Pages => "1,000 pages that show 50 answers (/chat/turns/{run}; text gathers for 80 ms)",
        Kind::Lists => "1,000 pages that wait for changes (/live)",
    };
    println!(
        "{title}\n  {:.1} KiB per stream; {} MiB before; opened in {:.1} s",
        held as f64 / STREAMS as f64,
        before / 1024,
        opening.as_secs_f64()
    );
    if kind == Kind::Lists {
        let (cpu, begun) = (bench.program.cpu(), Instant::now());
        tokio::time::sleep(STEADY).await;
        let used = (bench.program.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("  {:.0} % of a CPU while nothing changes", used * 100.0);
        return;
    }
    steady(&bench).await;
    println!("  all ended in {:.1} s", bench.end().await.as_secs_f64());
}

async fn steady(bench: &Bench) {
    let (cpu, begun) = (bench.program.cpu(), Instant::now());
    bench.readers.measure();
    let mut kept = Vec::new();
    while begun.elapsed() < STEADY {
        tokio::time::sleep(STEADY / 5).await;
        kept.push(bench.kept_after().await);
    }
    let used = (bench.program.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let delays = bench.readers.delays();
    println!(
        "  {} pieces of text, from the model's write to their reader: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        delays.len(),
        millis(percentile(&delays, 50)),
        millis(percentile(&delays, 99)),
        millis(percentile(&delays, 100))
    );
    println!(
        "  {:.0} % of a CPU; events are kept {:.0} ms after the model's write at the latest; {} MiB at the end",
        used * 100.0,
        millis(*kept.iter().max().unwrap()),
        bench.program.kib() / 1024
    );
}
