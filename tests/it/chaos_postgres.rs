//! PostgreSQL goes away, comes back, cuts connections and changes its place, while two services work on it.

use crate::support::chaos::{accepted, cut_all, failed, hold, recovered, settled, take_lock, waiters};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::postgres::{Postgres, Stop};
use crate::support::replica::Replica;
use crate::support::wire::Wire;
use crate::support::{Setup, eventually, pool};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::migrate::Migrate as _;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

async fn on_own(server: &Postgres) -> Setup {
    Setup::whole().await.set("DATABASE_URL", &server.url())
}

/// The server crashes while a transaction of each step waits, and comes back; the same service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_any_transaction_loses_and_doubles_nothing() {
    let mut server = Postgres::start().await;
    let setup = on_own(&server).await;
    let replica = Replica::serve(&setup).ready().await;
    let mut reports = Vec::new();
    let steps = [
        ("steps", "new.name = 'collect'", "git-clone"),
        ("steps", "new.name = 'place'", "dns"),
        ("steps", "new.name = 'investigate'", "go-vet"),
        // Here the issue is filed, and nobody has written it down.
        ("audit", "new.action = 'issue.create'", "compile-error"),
        ("steps", "new.name = 'publish'", "helm-upgrade"),
    ];
    for (table, condition, slug) in steps {
        let pool = pool(&server.url()).await;
        hold(&pool, table, condition).await;
        let lock = take_lock(&pool).await;
        reports.push(accepted(&replica, &failed(slug), slug).await);
        waiters(&pool, 1).await;
        server.stop(Stop::Immediate);
        drop(lock);
        let down = Instant::now();
        server.run().await;
        recovered(&setup, &pool, &reports, (&format!("PostgreSQL crashed at {condition}"), down)).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop trigger hold on {table}")))
            .execute(&pool)
            .await
            .unwrap();
    }
    assert_eq!(setup.forge().issues().len(), steps.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_that_is_cut_off_is_refused_and_taken_once_when_sent_again() {
    let mut server = Postgres::start().await;
    let setup = on_own(&server).await;
    let replica = Replica::serve(&setup).ready().await;
    let pool = pool(&server.url()).await;
    hold(&pool, "reports", "true").await;
    let lock = take_lock(&pool).await;
    let body = failed("oom");
    let (answer, ()) = tokio::join!(replica.report(&body, "once"), async {
        waiters(&pool, 1).await;
        server.stop(Stop::Immediate);
    });
    let answer = answer.expect("an answer, not a broken connection");
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert!(answer.headers.contains_key("retry-after"));
    drop(lock);
    let down = Instant::now();
    server.run().await;
    let report = accepted(&replica, &body, "once").await;
    recovered(&setup, &pool, &[report], ("PostgreSQL crashed in an intake", down)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_outlive_a_stop_of_their_database() {
    let mut server = Postgres::start().await;
    let model = FakeModel::start(Vec::new()).await;
    let setup = on_own(&server).await.model(&model);
    let (one, two) = (Replica::serve(&setup).ready().await, Replica::serve(&setup).ready().await);
    let slugs = ["git-clone", "dns", "go-vet", "compile-error", "oom", "helm-upgrade"];
    let mut reports = Vec::new();
    for (number, slug) in (0..).zip(slugs) {
        let replica = if number % 2 == 0 { &one } else { &two };
        reports.push(accepted(replica, &failed(slug), slug).await);
    }
    server.stop(Stop::Fast);
    let down = Instant::now();
    for replica in [&one, &two] {
        assert_eq!(replica.get("/health/live").await.unwrap().status, 200);
        assert_eq!(replica.get("/health/ready").await.unwrap().status, 503);
        let refused = replica.report(&failed("dns"), "meanwhile").await.unwrap();
        assert_eq!((refused.status, &refused.body["status"]), (503, &json!(503)), "{:?}", refused.body);
    }
    server.run().await;
    let pool = pool(&server.url()).await;
    reports.push(accepted(&two, &failed("dns"), "meanwhile").await);
    recovered(&setup, &pool, &reports, ("PostgreSQL stopped for some seconds", down)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_again_and_again_lose_nothing() {
    let setup = Setup::whole().await;
    let _both = (Replica::serve(&setup).ready().await, Replica::serve(&setup).ready().await);
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let slugs = ["git-clone", "dns", "go-vet", "compile-error", "oom", "helm-upgrade"];
    let mut reports = Vec::new();
    let began = Instant::now();
    for (round, slug) in slugs.into_iter().enumerate() {
        reports.push(accepted(&_both.0, &failed(slug), slug).await);
        reports.push(accepted(&_both.1, &failed(slug), &format!("{slug} again")).await);
        eventually("somebody works on it", async || {
            let taken = "select count(*) from reports where attempts > 0";
            let taken: i64 = sqlx::query_scalar(taken).fetch_one(&pool).await.unwrap();
            (usize::try_from(taken).unwrap() > round).then_some(())
        })
        .await;
        assert!(cut_all(&pool).await > 0);
    }
    recovered(&setup, &pool, &reports, ("every connection cut six times", began)).await;
}

/// The queue loses the database for a moment and drops its slots; what they run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_investigation_outlives_a_cut_and_is_not_counted_as_a_death() {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("I look", Arc::clone(&gate), " at it")]).await;
    let setup = Setup::whole().await.model(&model);
    let replica = Replica::serve(&setup).ready().await;
    let report = accepted(&replica, &failed("go-vet"), "one").await;
    eventually("the model is asked", async || (model.requests().len() == 1).then_some(())).await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let cut = Instant::now();
    cut_all(&pool).await;
    eventually("the queue has dropped the job", async || {
        let free = "select count(*) from graphile_worker.jobs where locked_by is null and task_identifier = 'triage'";
        let free: i64 = sqlx::query_scalar(free).fetch_one(&pool).await.unwrap();
        (free == 1).then_some(())
    })
    .await;
    gate.notify_one();
    recovered(&setup, &pool, &[report], ("connections cut during an investigation", cut)).await;
    let begun =
        model.requests().iter().filter(|request| request["messages"].as_array().unwrap().len() == 2).count();
    assert_eq!(begun, 1, "the investigation did not begin anew");
    let (attempts, runs): (i32, i64) =
        sqlx::query_as("select attempts, (select count(*) from runs) from reports")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((attempts, runs), (1, 1));
}

/// As in a failover to another machine: the connections of before are open and lead nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_lead_nowhere_are_given_up() {
    let server = Postgres::start().await;
    let wire = Wire::to(&server.address()).await;
    let through = Postgres::url_at(wire.base.trim_start_matches("http://"));
    let setup = Setup::whole().await.set("DATABASE_URL", &through).set("REGREEN_ADDED_URLS", "127.0.0.1");
    let replica = Replica::serve(&setup).ready().await;
    let pool = pool(&server.url()).await;
    let first = accepted(&replica, &failed("dns"), "before").await;
    recovered(&setup, &pool, &[first], ("nothing yet", Instant::now())).await;
    wire.strand();
    let stranded = Instant::now();
    let second = accepted(&replica, &failed("oom"), "after").await;
    recovered(&setup, &pool, &[first, second], ("connections led nowhere", stranded)).await;
    // Announcements come over a connection that only listens.
    let added = json!({"name": "late", "transport": "sse", "url": "http://127.0.0.1:9/sse"});
    sqlx::query("insert into mcp_servers (name, settings, created_at) values ('late', $1, now())")
        .bind(&added)
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("select pg_notify('regreen_servers', '')").execute(&pool).await.unwrap();
    knows(&replica, "late").await;
    println!("announcements heard again after {:.1} s", stranded.elapsed().as_secs_f64());
}

async fn knows(replica: &Replica, server: &str) {
    eventually("the replica knows the server", async || {
        let servers = replica.get("/api/mcp-servers").await?.body;
        let all = servers["servers"].as_array().or_else(|| servers.as_array())?.clone();
        all.iter().any(|one| one["name"] == server).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_announced_while_nobody_could_hear_it_is_read_up() {
    let server = Postgres::start().await;
    let wire = Wire::to(&server.address()).await;
    let through = Postgres::url_at(wire.base.trim_start_matches("http://"));
    let direct = on_own(&server).await.set("REGREEN_ADDED_URLS", "127.0.0.1");
    let one = Replica::serve(&direct).ready().await;
    let two = Replica::start(&direct, "serve", &[("DATABASE_URL", &through)]).ready().await;
    wire.cut().await;
    let body = json!({"name": "meanwhile", "transport": "sse", "url": "http://127.0.0.1:9/sse"});
    let request = crate::support::replica::http().post(format!("{}/api/mcp-servers", one.base)).json(&body);
    let added = crate::support::TestApp::read(request).await;
    assert!(added.status < 300, "{:?}", added.body);
    knows(&one, "meanwhile").await;
    let cut = Instant::now();
    wire.mend();
    knows(&two, "meanwhile").await;
    println!(
        "a change made while a replica heard nothing is known to it after {:.1} s",
        cut.elapsed().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_database_and_says_so() {
    let mut server = Postgres::start().await;
    server.stop(Stop::Fast);
    let setup = on_own(&server).await;
    let early = Replica::serve(&setup);
    eventually("it says that it waits", async || early.log().contains("waiting for it").then_some(())).await;
    server.run().await;
    let early = early.ready().await;
    let report = accepted(&early, &failed("dns"), "one").await;
    recovered(&setup, &pool(&server.url()).await, &[report], ("started before PostgreSQL", Instant::now()))
        .await;
    server.stop(Stop::Fast);
    let mut hopeless = Replica::start(&setup, "work", &[("REGREEN_DATABASE_WAIT", "1s")]);
    assert!(!hopeless.ended().await.success());
    let said = hopeless.log();
    assert!(said.contains("did not answer within 1s") && said.contains("`database.wait`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_database_can_be_stopped() {
    let mut server = Postgres::start().await;
    server.stop(Stop::Fast);
    let setup = on_own(&server).await;
    let waiting = Replica::serve(&setup);
    eventually("it says that it waits", async || waiting.log().contains("waiting for it").then_some(()))
        .await;
    let (status, said) = waiting.terminate().await;
    assert!(status.code().is_some(), "it ended by itself: {status}");
    assert!(said.contains("stopped while the database did not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_another_ones_migration_can_be_stopped() {
    let setup = Setup::unmigrated().await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    let mut other = pool.acquire().await.unwrap();
    other.lock().await.unwrap();
    let waiting = Replica::serve(&setup);
    eventually("it waits for the lock", async || {
        let waits = "select exists (select from pg_locks join pg_database on pg_database.oid = database \
                     where locktype = 'advisory' and not granted and datname = current_database())";
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    let (status, said) = waiting.terminate().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("stopped while the schema was being brought up to date"), "{said}");
    other.unlock().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_job_is_gone_gets_another() {
    let setup = Setup::whole().await.set("REGREEN_QUEUE_LEASE", "2s");
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let submission = regreen::triage::Submission {
        failure: serde_json::from_value(failed("dns")).unwrap(),
        ..Default::default()
    };
    let regreen::triage::Intake::Accepted(report) =
        regreen::triage::intake(&pool, &Default::default(), submission, Default::default()).await.unwrap()
    else {
        panic!("a new report is accepted")
    };
    sqlx::query("delete from graphile_worker._private_jobs").execute(&pool).await.unwrap();
    let _replica = Replica::work(&setup);
    recovered(&setup, &pool, &[report], ("a job was lost", Instant::now())).await;
}

/// One that was believed dead finds its report with somebody else: the job is theirs, and stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_report_leaves_the_job_alone() {
    let model = FakeModel::start(vec![Reply::Hang]).await;
    let setup = Setup::whole().await.model(&model);
    let replica = Replica::serve(&setup).ready().await;
    accepted(&replica, &failed("dns"), "one").await;
    eventually("the model is asked", async || (!model.requests().is_empty()).then_some(())).await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    taken_over(&pool).await;
    eventually("it notices", async || replica.log().contains("another worker has the report").then_some(()))
        .await;
    let mine: Vec<Option<String>> = sqlx::query_scalar(
        "select locked_by from graphile_worker._private_jobs where payload ->> 'report' is not null",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(mine, [Some("another".to_owned())]);
    let deaths: i32 = sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
    assert_eq!(deaths, 0, "it is alive");
}

/// What the database holds after another worker took job and report over.
async fn taken_over(pool: &PgPool) {
    sqlx::query("update graphile_worker._private_jobs set locked_by = 'another', locked_at = now() + interval '1 hour'")
        .execute(pool)
        .await
        .unwrap();
    let taken: Value = sqlx::query_scalar(
        "update reports set lease_token = gen_random_uuid(), lease_until = now() + interval '1 hour' returning to_jsonb(id)",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert!(taken.is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_that_start_at_once_share_a_new_database() {
    let gate = Arc::new(Notify::new());
    let gated = || Reply::Gated("I look", Arc::clone(&gate), " at it");
    let model = FakeModel::start(vec![gated(), gated(), gated()]).await;
    let setup = Setup::whole().await.model(&model).set("REGREEN_QUEUE_CONCURRENCY", "1");
    let three = [Replica::serve(&setup), Replica::serve(&setup), Replica::serve(&setup)];
    let mut ready = Vec::new();
    for replica in three {
        ready.push(replica.ready().await);
    }
    let began = Instant::now();
    let mut reports = Vec::new();
    for slug in ["dns", "go-vet", "compile-error"] {
        // All to one: the others hear of it over the database.
        reports.push(accepted(&ready[0], &failed(slug), slug).await);
    }
    eventually("each has one in the making", async || (model.requests().len() == 3).then_some(())).await;
    for _ in 0..3 {
        gate.notify_one();
    }
    gate.notify_waiters();
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    recovered(&setup, &pool, &reports, ("three services on one database", began)).await;
    settled(&setup, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_up_at_the_end_is_not_taken_for_lost() {
    let setup = Setup::whole().await;
    let replica = Replica::serve(&setup).ready().await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    hold(&pool, "audit", "new.action = 'report.finish'").await;
    for slug in ["oom", "dns", "go-vet", "disk-full"] {
        let lock = take_lock(&pool).await;
        let report = accepted(&replica, &failed(slug), slug).await;
        waiters(&pool, 1).await;
        // The next beat of the lease waits for the row, and is answered by the same commit.
        let beats = "select count(*) from pg_locks join pg_stat_activity using (pid)
                     where not granted and locktype = 'transactionid' and datname = current_database()";
        eventually("a beat waits", async || {
            let waiting: i64 = sqlx::query_scalar(beats).fetch_one(&pool).await.unwrap();
            (waiting > 0).then_some(())
        })
        .await;
        drop(lock);
        eventually("the report is done", async || {
            (replica.get(&format!("/api/reports/{report}")).await?.body["status"] == "done").then_some(())
        })
        .await;
    }
    let figures = replica.get("/metrics").await.unwrap().body.as_str().unwrap().to_owned();
    let (status, log) = replica.terminate().await;
    assert!(status.success() && !log.contains("another worker has the report"), "{log}");
    assert!(figures.contains("regreen_reports_total{outcome=\"done\"} 4"), "{figures}");
}
