//! Schema of the durable job queue, and statements that add jobs within a transaction.

use anyhow::Context as _;
use sqlx::{PgExecutor, PgPool};
use std::time::Duration;
use uuid::Uuid;

/// Schema of the queue.
pub const SCHEMA: &str = "graphile_worker";
/// Name of the job that processes a report. The payload contains only the report's id, because payloads are logged.
pub const TRIAGE_JOB: &str = "triage";

/// Creates or updates the queue's schema. Replicas that start concurrently take turns.
///
/// # Errors
/// Fails when the database is unavailable.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    let mut lock = pool.begin().await.context("the database is away")?;
    sqlx::query!("select pg_advisory_xact_lock(hashtext('regreen queue schema'))")
        .execute(&mut *lock)
        .await?;
    graphile_worker::WorkerOptions::default()
        .schema(SCHEMA)
        .pg_pool(pool.clone())
        .init()
        .await
        .map_err(|error| anyhow::anyhow!("cannot create the queue's schema: {error}"))?;
    lock.commit().await?;
    Ok(())
}

/// Adds the job of a report. A waiting job is kept; a running job gets a successor.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn add_triage(db: impl PgExecutor<'_>, report: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "select 1 from graphile_worker.add_job($1, json_build_object('report', $2::text), max_attempts => 25, job_key => 'report-' || $2::text)",
    )
    .bind(TRIAGE_JOB)
    .bind(report.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Name of the job that notifies a target. The payload contains only the target's name.
pub const NOTIFY_JOB: &str = "notify";

/// Adds the delayed job that notifies a target; a waiting job keeps its time. Jobs run one at a time, so that a first
/// message or a shared comment is not sent twice.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn add_notify(db: impl PgExecutor<'_>, target: &str, after: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "select 1 from graphile_worker.add_job($1, json_build_object('target', $2::text), max_attempts => 25,
             queue_name => 'notify-' || $2::text, job_key => 'notify-' || $2::text, job_key_mode => 'preserve_run_at', run_at => now() + make_interval(secs => $3))",
    )
    .bind(NOTIFY_JOB)
    .bind(target)
    .bind(after.as_secs_f64())
    .execute(db)
    .await?;
    Ok(())
}

/// Returns whether a target has a waiting or running job. Adding another would take the key of a job whose worker died,
/// and that job would never be completed or removed.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn has_notify(db: impl PgExecutor<'_>, target: &str) -> sqlx::Result<bool> {
    use sqlx::Row as _;
    let row = sqlx::query(
        "select exists (select from graphile_worker.jobs
                        where key = 'notify-' || $1 and (attempts < max_attempts or locked_by is not null)) as has",
    )
    .bind(target)
    .fetch_one(db)
    .await?;
    row.try_get("has")
}

/// Adds a job for every unfinished report without a lease and without a job. Returns their number.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn reclaim(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    sqlx::query(
        "select graphile_worker.add_job($1, json_build_object('report', r.id::text), max_attempts => 25, job_key => 'report-' || r.id::text)
         from reports r
         where r.status in ('queued', 'running') and (r.lease_until is null or r.lease_until < now())
               -- A job that runs and lost its key to a successor has the lease, or takes it in a moment: the other one finds nothing to do.
               and not exists (select from graphile_worker.jobs j
                               where j.key = 'report-' || r.id::text and j.attempts < j.max_attempts)",
    )
    .bind(TRIAGE_JOB)
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}

/// Counts waiting and running jobs.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn pending(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    use sqlx::Row as _;
    let row =
        sqlx::query("select count(*) as pending from graphile_worker.jobs where attempts < max_attempts")
            .fetch_one(db)
            .await?;
    row.try_get("pending")
}

/// Name of the job that embeds chunks without an embedding.
pub const INDEX_JOB: &str = "index";

/// Adds the embedding job. A waiting job is kept; a running job gets a successor. Jobs run one at a time.
#[expect(
    clippy::disallowed_methods,
    reason = "the queue's crate owns this schema, so the macros cannot check it"
)]
pub async fn add_index(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query(
        "select 1 from graphile_worker.add_job($1, '{}'::json, queue_name => $1, max_attempts => 25, job_key => $1)",
    )
    .bind(INDEX_JOB)
    .execute(db)
    .await?;
    Ok(())
}
