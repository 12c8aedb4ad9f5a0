//! `kill -9` between any two steps, and a restart: the report finishes, exactly one issue.

use crate::support::{Setup, eventually, pool};
use regreen::demo::samples::sample;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::process::{Child, Command, Stdio};

/// A service in a process of its own.
struct Process {
    child: Child,
}

impl Process {
    fn start(setup: &Setup) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
        command
            .arg("work")
            .env_clear()
            .envs(setup.env())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { child: command.spawn().unwrap() }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A trigger that stops the worker at a step: the insert of the next step's row waits for a lock that the test holds.
async fn hold_at(pool: &PgPool, step: &str) {
    let sql = format!(
        "create or replace function hold() returns trigger language plpgsql as $$ begin
             if new.name = '{step}' then perform pg_advisory_xact_lock(77); end if; return new; end $$;
         drop trigger if exists hold on steps; create trigger hold before insert on steps for each row execute function hold()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

async fn waits_for_lock(pool: &PgPool) -> Option<()> {
    let waiting: i64 = sqlx::query_scalar("select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())")
        .fetch_one(pool)
        .await
        .unwrap();
    (waiting > 0).then_some(())
}

async fn submit(setup: &Setup, slug: &str) -> uuid::Uuid {
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    regreen::db::migrate(&pool).await.unwrap();
    let failure = regreen::domain::Failure {
        namespace: "ci".into(),
        pod_name: sample(slug).unwrap().pod.into(),
        ..Default::default()
    };
    let submission = regreen::triage::Submission { failure, ..Default::default() };
    match regreen::triage::intake(&pool, &submission, Default::default()).await.unwrap() {
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
        hold_at(&pool, step).await;
        let mut holder = pool.begin().await.unwrap();
        sqlx::query("select pg_advisory_xact_lock(77)").execute(&mut *holder).await.unwrap();
        let first = Process::start(&setup);
        eventually("the worker comes to the step", async || waits_for_lock(&pool).await).await;
        first.kill();
        holder.rollback().await.unwrap();
        let _second = Process::start(&setup);
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
    hold_at(&pool, "place").await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(77)").execute(&mut *holder).await.unwrap();
    for _ in 0..3 {
        let process = Process::start(&setup);
        let taken: i32 = sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
        eventually("the worker takes it and waits", async || {
            let attempts: i32 =
                sqlx::query_scalar("select attempts from reports").fetch_one(&pool).await.unwrap();
            if attempts > taken { waits_for_lock(&pool).await } else { None }
        })
        .await;
        process.kill();
        // The server notices a dead client late; its backend goes now, as it would in time.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted",
        )
        .execute(&pool)
        .await
        .unwrap();
    }
    let _last = Process::start(&setup);
    let outcome = outcome(&pool, id).await;
    assert_eq!(outcome["status"], "failed");
    let error = outcome["error"].as_str().unwrap();
    assert!(error.contains("died 3 times") && error.contains("`collect`"), "{error}");
    assert!(setup.forge().issues().is_empty());
}
