//! Long work stays off the async threads, and out of transactions.

use crate::support::fake_model::{FakeModel, Reply, Style};
use crate::support::replica::Replica;
use crate::support::{Setup, eventually, fresh_database, pool};
use regreen::blocking::BlockingPool;
use regreen::triage::{Intake, Submission, intake};
use serde_json::json;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Takes a thread of the pool until it is told to end; returns when it has it.
fn hold(threads: &BlockingPool) -> (oneshot::Receiver<()>, mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (begun, begins) = oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let threads = threads.clone();
    let held = tokio::spawn(async move {
        let work = move |_: &regreen::clock::Deadline| {
            begun.send(()).unwrap();
            let _ = released.recv();
        };
        threads.run(Duration::from_secs(600), work).await.unwrap();
    });
    (begins, release, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_prepared_before_its_transaction_begins() {
    let database = fresh_database().await;
    regreen::db::migrations::Migrations::default().run(&pool(&database).await).await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&database).await.unwrap();
    let count = async || {
        let count: i64 = sqlx::query_scalar("select count(*) from reports").fetch_one(&pool).await.unwrap();
        count
    };
    let threads = BlockingPool::new(1);
    let submission = Submission {
        failure: serde_json::from_value(json!({"namespace": "ci", "pod_name": "build-1"})).unwrap(),
        log: Some("error: password=Tr0ub4dor&3x\n".to_owned()),
        idempotency_key: Some("one".to_owned()),
        ..Submission::default()
    };
    let (begins, release, first) = hold(&threads);
    begins.await.unwrap();
    let taken = tokio::spawn({
        let (pool, threads, submission) = (pool.clone(), threads.clone(), submission.clone());
        async move { intake(&pool, &threads, submission, Default::default()).await.unwrap() }
    });
    // Who asks second has the thread after the hash, and before the rest.
    while threads.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let (begins, release_second, second) = hold(&threads);
    while threads.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    begins.await.unwrap();
    while threads.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count().await, 0, "the only connection is free while the report waits to be cleaned");
    release_second.send(()).unwrap();
    let Intake::Accepted(id) = taken.await.unwrap() else { panic!("it is new") };
    first.await.unwrap();
    second.await.unwrap();
    let text: String = sqlx::query_scalar("select text from evidence").fetch_one(&pool).await.unwrap();
    assert_eq!(text, "error: password=[redacted:connection-string:1]\n");
    // The same key again: answered by its hash, whatever else came.
    let repeat = async |submission| intake(&pool, &threads, submission, Default::default()).await.unwrap();
    assert_eq!(repeat(submission.clone()).await, Intake::Repeated(id));
    assert_eq!(repeat(Submission { log: None, ..submission }).await, Intake::KeyReused(id));
    assert_eq!(count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_the_same_time_makes_one_report() {
    let database = fresh_database().await;
    let pool = pool(&database).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let submission = Submission {
        failure: serde_json::from_value(json!({"namespace": "ci", "pod_name": "build-1"})).unwrap(),
        log: Some("error\n".repeat(1_000)),
        idempotency_key: Some("one".to_owned()),
        ..Submission::default()
    };
    let threads = BlockingPool::default();
    let all = (0..8).map(|_| intake(&pool, &threads, submission.clone(), Default::default()));
    let all: Vec<Intake> = futures::future::try_join_all(all).await.unwrap();
    let accepted = all.iter().filter(|taken| matches!(taken, Intake::Accepted(_))).count();
    assert_eq!(accepted, 1, "{all:?}");
    assert!(all.iter().all(|taken| !matches!(taken, Intake::KeyReused(_))), "{all:?}");
}

/// A log in which no automaton finds its way: whether `#` follows 480 letters after an `x` depends on all of them.
fn hostile_log(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut log = String::with_capacity(bytes + 100);
    while log.len() < bytes {
        for _ in 0..400 {
            let word: String =
                (0..random.usize(4..9)).map(|_| if random.bool() { 'x' } else { 'y' }).collect();
            log.push_str(&word);
            log.push(' ');
        }
        log.push('\n');
    }
    log.push_str("error: the part is broken\nexit status 1\n");
    log
}

/// A pattern within all bounds that is slow in this log.
const SLOW: &str = "x[xy ]{480}#|y[xy ]{480}%|xx[xy ]{470}&|yy[xy ]{470}~";

/// Patterns of an attacker: those that are refused by their size, and those that run into the limit.
fn hostile_patterns() -> Vec<String> {
    let mut patterns = vec!["[ -~]{0,3990}[^ -~]".to_owned()];
    patterns.extend(
        ["(?:[ -~]{0,90}){0,90}#", r"(?:\w{1,400}\W){400}", "((((x{9}){9}){9}){9}){9}"].map(str::to_owned),
    );
    patterns.extend((0..6).map(|number| format!("{SLOW}|{number}")));
    patterns
}

fn searches() -> Reply {
    let calls = hostile_patterns()
        .into_iter()
        .map(|pattern| ("search_evidence", json!({"pattern": pattern}).to_string()));
    Reply::Calls(calls.collect(), Style::Whole)
}

fn conclusion() -> Reply {
    let claim = json!({"statement": "the part is broken", "evidence": "E1", "first_line": 1, "last_line": 1, "quote": "error: the part is broken"});
    Reply::call(
        "submit_diagnosis",
        json!({"title": "the part is broken", "cause": "The part is broken.", "class": "code", "confidence": "high", "claims": [claim]}),
    )
}

/// On one async thread: whatever keeps it busy keeps everybody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_is_answered_while_hostile_patterns_are_searched_for() {
    let model = FakeModel::start(vec![searches(), conclusion()]).await;
    let app = Setup::bare().await.model(&model).start().await;
    let body = json!({"namespace": "ci", "pod_name": "p", "log": hostile_log(1 << 20)});
    let accepted = app.post(&body, &[("prefer", "respond-async")]).await;
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    eventually("the model asks for its searches", async || (model.requests().len() == 1).then_some(())).await;
    let threads = app.app().blocking.clone();
    let mut answered = 0;
    while model.requests().len() == 1 {
        let searches = threads.working() > 0;
        assert_eq!(app.get("/health/live").await.status, 200);
        answered += usize::from(searches && threads.working() > 0 && model.requests().len() == 1);
    }
    assert!(answered > 4, "{answered} answers while the searches ran");
    // Each pattern has its answer: too large, overrun, or refused after the overruns.
    let told = model.requests()[1]["messages"].to_string();
    assert_eq!(told.matches("`pattern` is not taken: it is too large").count(), 4, "{told}");
    assert_eq!(
        told.matches("the search took longer than 3s and was stopped; use a simpler pattern").count(),
        2,
        "{told}"
    );
    assert_eq!(told.matches("2 searches of this run took too long").count(), 4, "{told}");
    let report = format!("/api/reports/{}", accepted.body["report_id"].as_str().unwrap());
    let ended = eventually("the report ends", async || {
        let report = app.get(&report).await.body;
        (report["status"] == "done").then_some(report)
    })
    .await;
    assert!(ended["result"].as_str().unwrap().contains("the part is broken"), "{ended}");
    assert_eq!(model.refusals(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_hostile_patterns_are_searched_for_ends_and_the_next_start_goes_on() {
    let model = FakeModel::start(vec![searches()]).await;
    let setup = Setup::bare().await.model(&model);
    let replica = Replica::serve(&setup).ready().await;
    let body = json!({"namespace": "ci", "pod_name": "p", "log": hostile_log(1 << 20)});
    let accepted = replica.report(&body, "one").await.unwrap();
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    eventually("the model asks for its searches", async || (model.requests().len() == 1).then_some(())).await;
    let (status, said) = replica.terminate().await;
    assert!(status.success(), "{status}: {said}");
    assert_eq!(model.requests().len(), 1, "it was stopped in the middle of the searches: {said}");
    // The same patterns again: the next start is not frozen either.
    model.push(vec![searches(), conclusion()]);
    let replica = Replica::serve(&setup).ready().await;
    let report = format!("/api/reports/{}", accepted.body["report_id"].as_str().unwrap());
    eventually("the report ends", async || {
        let report = replica.get(&report).await?.body;
        (report["status"] == "done").then_some(())
    })
    .await;
    let (status, said) = replica.terminate().await;
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_whose_signature_would_be_slow_is_refused_by_name() {
    let app = Setup::bare().await.start().await;
    let runbook = |pattern: &str| {
        format!(
            "---\ntitle: Slow\nkind: runbook\nclass: test\nsignatures:\n- id: slow-one\n  pattern: '{pattern}'\n  title: t\n  cause: c\n---\n# Slow\n\nText.\n"
        )
    };
    let send = async |pattern: &str| {
        app.send("/api/documents", &json!({"path": "team/slow.md", "content": runbook(pattern)})).await
    };
    let refused = send("[ -~]{0,3990}[^ -~]").await;
    assert_eq!(refused.status, 422, "{:?}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("`slow-one`") && detail.contains("slow.md") && detail.contains("too large"),
        "{detail}"
    );
    assert_eq!(send("upload of .{0,200} refused").await.status, 201);
    app.stop().await;
}
