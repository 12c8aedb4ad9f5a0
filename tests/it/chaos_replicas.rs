//! Two services on one database: one is killed at any step, one is stopped under load, clocks differ.

use crate::support::chaos::{accepted, failed, hold, recovered, take_lock, waiters};
use crate::support::fake_model::FakeModel;
use crate::support::postgres::signal_to;
use crate::support::replica::{Replica, http};
use crate::support::{Setup, TestApp, eventually, pool};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Both take reports of the same cause; the one that investigates dies, the other one goes on with both.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_is_made_good_by_the_other_one() {
    let steps = [
        ("steps", "new.name = 'collect'"),
        ("steps", "new.name = 'place'"),
        ("steps", "new.name = 'investigate'"),
        ("audit", "new.action = 'issue.create'"),
        ("steps", "new.name = 'publish'"),
    ];
    for (table, condition) in steps {
        let setup = Setup::whole().await;
        let one = Replica::serve(&setup).ready().await;
        let pool = pool(&setup.env()["DATABASE_URL"]).await;
        hold(&pool, table, condition).await;
        let lock = take_lock(&pool).await;
        let first = accepted(&one, &failed("git-clone"), "first").await;
        waiters(&pool, 1).await;
        let two = Replica::serve(&setup).ready().await;
        let second = accepted(&two, &failed("git-clone"), "second").await;
        let killed = Instant::now();
        one.kill();
        lock.rollback().await.unwrap();
        recovered(&setup, &pool, &[first, second], (&format!("killed at {condition}"), killed)).await;
        assert_eq!(setup.forge().issues().len(), 1);
    }
}

/// Kills at moments nobody chose, one replica after the other, while reports come in.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_kills_loses_nothing() {
    let model = FakeModel::start(Vec::new()).await;
    model.take(Duration::from_millis(100));
    let setup =
        Setup::whole().await.model(&model).set("REGREEN_QUEUE_LEASE", "2s").set("REGREEN_MAX_ATTEMPTS", "20");
    let mut replica = Replica::serve(&setup).ready().await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let (mut reports, began) = (Vec::new(), Instant::now());
    for (round, slug) in ["git-clone", "dns", "go-vet", "compile-error", "oom"].into_iter().enumerate() {
        reports.push(accepted(&replica, &failed(slug), slug).await);
        let next = Replica::serve(&setup).ready().await;
        reports.push(accepted(&next, &failed(slug), &format!("{slug} again")).await);
        let asked = model.requests().len();
        eventually("work goes on", async || {
            let steps: i64 = sqlx::query_scalar("select count(*) from steps").fetch_one(&pool).await.unwrap();
            (model.requests().len() > asked || steps > i64::try_from(round).unwrap() * 3).then_some(())
        })
        .await;
        std::mem::replace(&mut replica, next).kill();
    }
    recovered(&setup, &pool, &reports, ("five kills in a row", began)).await;
}

/// Every request that was taken is answered, whatever else is open; what was accepted is finished by the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_answers_everybody_and_exits_cleanly() {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole().await.model(&model).set("REGREEN_QUEUE_CONCURRENCY", "2");
    let one = Replica::serve(&setup).ready().await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let address = one.base.trim_start_matches("http://").to_owned();
    // Those that a stop must not wait for: one that rests, one in the middle of a header, one that listens.
    let rests = TcpStream::connect(&address).await.unwrap();
    let mut begins = TcpStream::connect(&address).await.unwrap();
    begins.write_all(b"POST /report-failure HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ").await.unwrap();
    let mut listens = TcpStream::connect(&address).await.unwrap();
    listens.write_all(b"GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
    let mut heard = [0; 64];
    assert!(listens.read(&mut heard).await.unwrap() > 0);
    let url = format!("{}/report-failure", one.base);
    let sent = |number: usize| {
        let body = json!({"namespace": "ci", "pod_name": format!("p{number}"),
                          "log": format!("step one\nerror: part {} broke\nexit status 1\n", ["a", "b", "c"][number % 3])});
        let request = http().post(&url).json(&body).header("idempotency-key", format!("key-{number}"));
        async move { (format!("key-{number}"), TestApp::try_read(request).await) }
    };
    let answers = futures::future::join_all((0..40).map(sent));
    let stop = async {
        eventually("some are done and some are not", async || {
            let done: i64 = sqlx::query_scalar("select count(*) from reports where status = 'done'")
                .fetch_one(&pool)
                .await
                .unwrap();
            (done >= 3).then_some(())
        })
        .await;
        let asked = Instant::now();
        let (status, log) = one.terminate().await;
        println!("SIGTERM under load: ended after {:.1} s", asked.elapsed().as_secs_f64());
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("did not stop in time"), "{log}");
    };
    let (answers, ()) = tokio::join!(answers, stop);
    drop((rests, begins, listens));
    let (mut later, mut reports) = (0, Vec::new());
    for (key, answer) in answers {
        let known: Option<Uuid> = sqlx::query_scalar("select id from reports where idempotency_key = $1")
            .bind(&key)
            .fetch_optional(&pool)
            .await
            .unwrap();
        match answer {
            Some(answer) => {
                assert!(matches!(answer.status, 200 | 202), "{:?}", answer.body);
                assert_eq!(answer.body["report_id"], json!(known.unwrap()));
                later += usize::from(answer.status == 202);
            }
            None => assert_eq!(known, None, "{key} was accepted, and nobody was told"),
        }
        reports.extend(known);
    }
    assert!(later > 0, "the stop came when all was done");
    let begun = Instant::now();
    let _two = Replica::serve(&setup).ready().await;
    recovered(&setup, &pool, &reports, ("what a stop left to another replica", begun)).await;
}

/// A process that does not run for longer than its lease, and then goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_slept_finds_its_work_done_by_the_other_one() {
    let setup = Setup::whole().await.set("REGREEN_QUEUE_LEASE", "2s");
    let one = Replica::serve(&setup).ready().await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    hold(&pool, "steps", "new.name = 'investigate'").await;
    let lock = take_lock(&pool).await;
    let report = accepted(&one, &failed("dns"), "one").await;
    waiters(&pool, 1).await;
    signal_to(one.process(), "-STOP");
    let slept = Instant::now();
    // Its transaction waits on; it would commit once the lock is free, if the one that sleeps came to it.
    let _two = Replica::serve(&setup).ready().await;
    sqlx::query("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted and objid = 77")
        .execute(&pool)
        .await
        .unwrap();
    lock.rollback().await.unwrap();
    recovered(&setup, &pool, &[report], ("a replica stood still", slept)).await;
    signal_to(one.process(), "-CONT");
    let next = accepted(&one, &failed("oom"), "two").await;
    recovered(&setup, &pool, &[report, next], ("and went on", Instant::now())).await;
}

/// The library that shifts a process's clock.
pub(crate) fn faketime() -> std::path::PathBuf {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = places.iter().map(|place| std::path::Path::new(place).join("faketime/libfaketimeMT.so.1"));
    library.into_iter().find(|path| path.exists()).expect("libfaketime is missing: run `make tools`")
}

/// One clock is an hour ahead, one behind; leases are judged by the database's alone, so nobody takes what another one has.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_hours_change_nothing() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let gated = crate::support::fake_model::Reply::Gated("I look", std::sync::Arc::clone(&gate), " at it");
    let model = FakeModel::start(vec![gated]).await;
    let setup = Setup::whole().await.model(&model);
    let library = faketime();
    let shifted = |by: &'static str| {
        let more =
            [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", by), ("DONT_FAKE_MONOTONIC", "1")];
        Replica::start(&setup, "serve", &more)
    };
    let behind = shifted("-1h").ready().await;
    let report = accepted(&behind, &failed("dns"), "one").await;
    eventually("it is being investigated", async || (!model.requests().is_empty()).then_some(())).await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let shown: Duration = {
        let ahead: f64 =
            sqlx::query_scalar("select extract(epoch from now() - created_at)::float8 from reports")
                .fetch_one(&pool)
                .await
                .unwrap();
        Duration::from_secs_f64(ahead)
    };
    assert!(shown > Duration::from_secs(3_000), "its clock is behind: {shown:?}");
    let ahead = shifted("+1h").ready().await;
    // The job is lost to it, as when its worker is believed dead: whoever is ahead looks at the report's lease.
    sqlx::query("update graphile_worker._private_jobs set locked_by = null, locked_at = null, run_at = now() where payload ->> 'report' is not null")
        .execute(&pool)
        .await
        .unwrap();
    eventually("the one ahead meets the lease", async || {
        let met =
            [&ahead, &behind].iter().any(|replica| replica.log().contains("held by another worker until"));
        met.then_some(())
    })
    .await;
    let attempts: i32 = sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
    assert_eq!(attempts, 1, "nobody took it away");
    let opened = Instant::now();
    gate.notify_one();
    recovered(&setup, &pool, &[report], ("clocks two hours apart", opened)).await;
}
