//! Invariants after any failure: no accepted report is lost, no cause has two issues, nothing is stuck.

use super::replica::Replica;
use super::{Setup, eventually};
use regreen::demo::samples::sample;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::time::Instant;
use uuid::Uuid;

/// Returns the report body of a sample's pod.
pub fn failed(slug: &str) -> Value {
    json!({"namespace": "ci", "pod_name": sample(slug).unwrap().pod})
}

/// Sends a report to a replica until accepted, like a pipeline with an `Idempotency-Key`.
pub async fn accepted(replica: &Replica, body: &Value, key: &str) -> Uuid {
    eventually("the report is accepted", async || {
        let answer = replica.report(body, key).await?;
        let id = answer.body["report_id"].as_str().filter(|_| answer.status == 202)?;
        Some(id.parse().unwrap())
    })
    .await
}

/// Makes the insert of a row block on a lock held by the test when the condition on `new` is met.
pub async fn hold(pool: &PgPool, table: &str, condition: &str) {
    let sql = format!(
        "create or replace function hold() returns trigger language plpgsql as $$ begin
             if {condition} then perform pg_advisory_xact_lock(77); end if; return new; end $$;
         drop trigger if exists hold on {table}; create trigger hold before insert on {table} for each row execute function hold()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

/// Takes the lock on which held rows block; released with the transaction.
pub async fn take_lock(pool: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(77)").execute(&mut *holder).await.unwrap();
    holder
}

/// Waits until this many statements block on the lock.
pub async fn waiters(pool: &PgPool, many: i64) {
    let sql = "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = 77
               and database = (select oid from pg_database where datname = current_database())";
    eventually("the step is reached", async || {
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        (waiting >= many).then_some(())
    })
    .await;
}

/// Terminates all other connections to the database and returns their number.
pub async fn cut_all(pool: &PgPool) -> usize {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity
               where pid <> pg_backend_pid() and datname = current_database() and application_name = 'regreen'";
    sqlx::query(sql).fetch_all(pool).await.unwrap().len()
}

/// Waits until all reports are done, checks the invariants and prints the recovery time.
pub async fn recovered(setup: &Setup, pool: &PgPool, reports: &[Uuid], trouble: (&str, Instant)) {
    let ended = "select count(*) from reports where id = any($1) and status in ('done', 'failed')";
    eventually("every accepted report ends", async || {
        let ended: i64 = sqlx::query_scalar(ended).bind(reports).fetch_one(pool).await.ok()?;
        (usize::try_from(ended).unwrap() == reports.len()).then_some(())
    })
    .await;
    println!(
        "{}: all {} reports done after {:.1} s",
        trouble.0,
        reports.len(),
        trouble.1.elapsed().as_secs_f64()
    );
    settled(setup, pool).await;
}

/// Asserts that nothing failed or is open, each cause has one issue and each report is counted once.
pub async fn settled(setup: &Setup, pool: &PgPool) {
    let odd: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select id::text, status, error from reports where status <> 'done' or lease_token is not null",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(odd.is_empty(), "{odd:?}");
    let (reports, counted, causes): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from reports), coalesce(sum(occurrences), 0)::bigint, count(*) from incidents",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(reports, counted, "each report counts once");
    let issues = setup.forge().issues();
    let markers: BTreeSet<String> = issues
        .iter()
        .map(|issue| {
            let (_, rest) = issue["body"].as_str().unwrap().split_once("<!-- regreen:incident:").unwrap();
            rest.split_once(' ').unwrap().0.to_owned()
        })
        .collect();
    assert_eq!(
        (issues.len(), markers.len()),
        (usize::try_from(causes).unwrap(), issues.len()),
        "one issue per cause"
    );
    eventually("no job is left", async || {
        let left: i64 =
            sqlx::query_scalar("select count(*) from graphile_worker.jobs where task_identifier = 'triage'")
                .fetch_one(pool)
                .await
                .unwrap();
        (left == 0).then_some(())
    })
    .await;
}
