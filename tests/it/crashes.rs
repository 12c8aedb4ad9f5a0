//! `kill -9` between any two steps, and a restart: the report finishes, exactly one issue.

use crate::support::chaos::{hold, take_lock, waiters};
use crate::support::replica::Replica;
use crate::support::{Setup, eventually, pool};
use regreen::demo::samples::sample;
use serde_json::{Value, json};
use sqlx::PgPool;

async fn submit(setup: &Setup, slug: &str) -> uuid::Uuid {
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let failure = regreen::domain::Failure {
        namespace: "ci".into(),
        pod_name: sample(slug).unwrap().pod.into(),
        ..Default::default()
    };
    let submission = regreen::triage::Submission { failure, ..Default::default() };
    match regreen::triage::intake(&pool, &Default::default(), submission, Default::default()).await.unwrap() {
        regreen::triage::Intake::Accepted(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn outcome(pool: &PgPool, id: uuid::Uuid) -> Value {
    eventually("the report ends", async || {
        let report = regreen::db::reports::get(pool, id).await.unwrap().unwrap();
        report.status.is_final().then(|| json!({"status": report.status, "error": report.error}))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_any_two_steps_loses_and_doubles_nothing() {
    for step in ["collect", "place", "investigate", "verify", "publish"] {
        let setup = Setup::whole().await;
        let id = submit(&setup, "git-clone").await;
        let pool = pool(&setup.env()["DATABASE_URL"]).await;
        hold(&pool, "steps", &format!("new.name = '{step}'")).await;
        let holder = take_lock(&pool).await;
        let first = Replica::work(&setup);
        waiters(&pool, 1).await;
        first.kill();
        holder.rollback().await.unwrap();
        let _second = Replica::work(&setup);
        let outcome = outcome(&pool, id).await;
        assert_eq!(outcome["status"], "done", "killed at {step}: {outcome}");
        assert_eq!(setup.forge().issues().len(), 1, "killed at {step}");
        let occurrences: i32 =
            sqlx::query_scalar("select occurrences from incidents").fetch_one(&pool).await.unwrap();
        assert_eq!(occurrences, 1, "killed at {step}: counted once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_kills_its_worker_three_times_is_given_up() {
    let setup = Setup::whole().await.set("REGREEN_QUEUE_LEASE", "2s");
    let id = submit(&setup, "dns").await;
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    hold(&pool, "steps", "new.name = 'place'").await;
    let _holder = take_lock(&pool).await;
    for _ in 0..3 {
        let process = Replica::work(&setup);
        let taken: i32 = sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
        eventually("the worker takes it and waits", async || {
            let attempts: i32 =
                sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
            (attempts > taken).then_some(())
        })
        .await;
        waiters(&pool, 1).await;
        process.kill();
        // The server notices a dead client late; its backend goes now, as it would in time.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted",
        )
        .execute(&pool)
        .await
        .unwrap();
    }
    let _last = Replica::work(&setup);
    let outcome = outcome(&pool, id).await;
    assert_eq!(outcome["status"], "failed");
    let error = outcome["error"].as_str().unwrap();
    assert!(error.contains("died 3 times") && error.contains("`collect`"), "{error}");
    assert!(setup.forge().issues().is_empty());
}
