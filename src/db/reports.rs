//! Reports, their leases and their steps.

use crate::domain::{Failure, Report, ReportStatus, Step, StepName};
use crate::evidence::redact;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

/// A report to insert.
#[derive(Debug)]
pub struct NewReport<'a> {
    /// Row id.
    pub id: Uuid,
    /// Caller that sent the report.
    pub caller: &'a str,
    /// Idempotency key of the caller.
    pub idempotency_key: Option<&'a str>,
    /// Hash of the request.
    pub request_hash: &'a str,
    /// Reported failure.
    pub failure: &'a Failure,
    /// Current time.
    pub now: DateTime<Utc>,
    /// W3C `traceparent` of the report's trace.
    pub traceparent: Option<&'a str>,
}

/// Lease of a worker on a report. Expiry is decided by the database clock only, because the clocks of replicas may
/// differ or jump.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Fencing token: only its holder may write.
    pub token: Uuid,
    /// Lease duration from now, unless renewed.
    pub length: Duration,
}

/// A report claimed by a worker.
#[derive(Debug)]
pub struct ClaimedReport {
    /// The report after the claim.
    pub report: Report,
    /// Whether the report leads the investigation of its cause.
    pub leads: bool,
    /// W3C `traceparent`, if the report has one.
    pub traceparent: Option<String>,
    /// Start of the wait for an outcome: creation time, or the time of a later reinvestigation request.
    pub since: DateTime<Utc>,
    /// Whether the report is reinvestigated although a conclusion exists.
    pub anew: bool,
}

struct Row {
    id: Uuid,
    caller: String,
    failure: Json<Failure>,
    status: String,
    result: Option<String>,
    error: Option<String>,
    incident_id: Option<Uuid>,
    attempts: i32,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<Row> for Report {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            failure: row.failure.0,
            caller: row.caller,
            status: ReportStatus::parse(&row.status),
            result: row.result,
            error: row.error,
            incident_id: row.incident_id,
            attempts: row.attempts,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

/// Inserts a report. Returns `false` when the caller already used the idempotency key.
pub async fn insert(db: impl PgExecutor<'_>, report: &NewReport<'_>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "insert into reports (id, idempotency_key, request_hash, namespace, pod_name, container_name, failure, created_at, caller,
             traceparent)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (caller, idempotency_key) do nothing",
        report.id,
        report.idempotency_key,
        report.request_hash,
        report.failure.namespace,
        report.failure.pod_name,
        report.failure.container_name,
        Json(report.failure) as _,
        report.now,
        report.caller,
        report.traceparent,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Returns the id and request hash of the report with this idempotency key.
pub async fn by_key(
    db: impl PgExecutor<'_>,
    caller: &str,
    key: &str,
) -> sqlx::Result<Option<(Uuid, String)>> {
    let row = sqlx::query!(
        "select id, request_hash from reports where caller = $1 and idempotency_key = $2",
        caller,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id, row.request_hash)))
}

/// Counts unfinished reports, up to `most`.
pub async fn active(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "active!"
           from (select from reports where status in ('queued', 'running', 'waiting') limit $1) as active"#,
        most
    )
    .fetch_one(db)
    .await
}

/// Returns the number of unfinished reports and the age of the oldest one.
pub async fn unfinished(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<(i64, Option<TimeDelta>)> {
    let row = sqlx::query!(
        r#"select count(*) as "count!", min(created_at) as oldest from reports
           where status in ('queued', 'running', 'waiting')"#
    )
    .fetch_one(db)
    .await?;
    Ok((row.count, row.oldest.map(|oldest| now - oldest)))
}

/// Returns the name of the caller that sent a report.
pub async fn caller(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select caller from reports where id = $1", id).fetch_optional(db).await
}

/// Returns a report.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Report>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, caller, failure as "failure: Json<Failure>", status, result, error, incident_id, attempts, created_at, finished_at
           from reports where id = $1"#,
        id
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Report::from))
}

/// Returns finished reports of an incident whose commit has the same first seven digits, in any repository, newest
/// first.
pub async fn of_commit(db: impl PgExecutor<'_>, commit: &str, most: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from reports
         where left(lower(failure ->> 'commit'), 7) = left(lower($1), 7) and incident_id is not null and status = 'done'
         order by id desc limit $2",
        commit,
        most
    )
    .fetch_all(db)
    .await
}

/// Returns the report whose evidence led to the incident's conclusion, if it is known.
pub async fn leader(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from reports where incident_id = $1 and leads order by created_at desc, id desc limit 1",
        incident
    )
    .fetch_optional(db)
    .await
}

/// Filter of a report list.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Report status.
    pub status: Option<&'a str>,
    /// Kubernetes namespace.
    pub namespace: Option<&'a str>,
    /// Permitted namespaces.
    pub within: Option<&'a [String]>,
    /// Incident.
    pub incident: Option<Uuid>,
    /// Pipeline.
    pub pipeline: Option<&'a str>,
    /// Caller name.
    pub caller: Option<&'a str>,
    /// Cursor for the next page: only reports older than this one.
    pub before: Option<Uuid>,
}

/// Lists reports, newest first. Ids are time-ordered, so they serve as page cursors.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter<'_>, limit: i64) -> sqlx::Result<Vec<Report>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, caller, failure as "failure: Json<Failure>", status, result, error, incident_id, attempts, created_at, finished_at
           from reports
           where ($1::text is null or status = $1)
             and ($2::text is null or namespace = $2)
             and ($3::uuid is null or incident_id = $3)
             and ($4::uuid is null or id < $4)
             and ($5::text is null or caller = $5)
             and ($6::text[] is null or namespace = any($6))
             and ($8::text is null or failure ->> 'pipeline' = $8)
           order by id desc limit $7"#,
        filter.status,
        filter.namespace,
        filter.incident,
        filter.before,
        filter.caller,
        filter.within,
        limit,
        filter.pipeline
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Report::from).collect())
}

/// Counts failed reports.
pub async fn failed(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from reports where status = 'failed'"#)
        .fetch_one(db)
        .await
}

/// Claims a report, unless it is finished, waits for another report, or has an unexpired lease.
pub async fn take(db: impl PgExecutor<'_>, id: Uuid, lease: Lease) -> sqlx::Result<Option<ClaimedReport>> {
    let row = sqlx::query!(
        r#"update reports set status = 'running', attempts = attempts + 1, lease_token = $2,
                  lease_until = clock_timestamp() + make_interval(secs => $3)
           where id = $1 and status in ('queued', 'running') and (lease_until is null or lease_until < clock_timestamp())
           returning id, caller, failure as "failure: Json<Failure>", status, result, error, incident_id, attempts, created_at,
                     finished_at, leads, traceparent, coalesce(again_at, created_at) as "since!", anew"#,
        id,
        lease.token,
        lease.length.as_secs_f64()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let report = Row {
            id: row.id,
            caller: row.caller,
            failure: row.failure,
            status: row.status,
            result: row.result,
            error: row.error,
            incident_id: row.incident_id,
            attempts: row.attempts,
            created_at: row.created_at,
            finished_at: row.finished_at,
        };
        ClaimedReport {
            report: report.into(),
            leads: row.leads,
            traceparent: row.traceparent,
            since: row.since,
            anew: row.anew,
        }
    }))
}

/// Returns when the lease of a report ends; `None` when no retry is needed.
pub async fn held_until(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select lease_until from reports where id = $1 and status in ('queued', 'running')",
        id
    )
    .fetch_optional(db)
    .await
    .map(Option::flatten)
}

/// Renews a lease. Returns `false` when the lease was lost.
pub async fn renew(db: impl PgExecutor<'_>, id: Uuid, lease: Lease) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update reports set lease_until = clock_timestamp() + make_interval(secs => $3) where id = $1 and lease_token = $2",
        id,
        lease.token,
        lease.length.as_secs_f64()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Returns a report to the queue without counting the attempt, because a shutdown is not a crash.
pub async fn hand_back(db: impl PgExecutor<'_>, id: Uuid, token: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update reports set status = 'queued', attempts = greatest(attempts - 1, 0), lease_token = null, lease_until = null
         where id = $1 and lease_token = $2 and status = 'running'",
        id,
        token
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Does not count the current attempt: a worker that lost its lease because it was slow did not crash.
pub async fn survived(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update reports set attempts = greatest(attempts - 1, 0) where id = $1 and status in ('queued', 'running', 'waiting')",
        id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sets a report to wait for the report that investigates its cause. Returns `false` when the lease was lost.
pub async fn wait(db: impl PgExecutor<'_>, id: Uuid, token: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update reports set status = 'waiting', lease_token = null, lease_until = null
         where id = $1 and lease_token = $2",
        id,
        token
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Outcome of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'a> {
    /// Succeeded, with the sentence returned to callers.
    Done(&'a str),
    /// Failed, with the reason.
    Failed(&'a str),
}

impl End<'_> {
    fn parts(&self) -> (&'static str, Option<&str>, Option<&str>) {
        match self {
            Self::Done(result) => ("done", Some(result), None),
            Self::Failed(error) => ("failed", None, Some(error)),
        }
    }
}

/// Finishes a report and notifies waiting clients. Returns `false` when the lease was lost.
pub async fn finish(
    db: impl PgExecutor<'_>,
    id: Uuid,
    token: Uuid,
    end: &End<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let (status, result, error) = end.parts();
    // Both may contain texts of servers, models and trackers.
    let (result, error) = (result.map(redact::plain), error.map(redact::plain));
    let ended = sqlx::query!(
        "update reports set status = $3, result = $4, error = $5, finished_at = $6, lease_token = null, lease_until = null
         where id = $1 and lease_token = $2",
        id,
        token,
        status,
        result,
        error,
        now
    )
    .execute(db)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// A report that finished with the outcome of its leader.
#[derive(Debug)]
pub struct FollowerReport {
    /// Report id.
    pub id: Uuid,
    /// Kubernetes namespace of its pod.
    pub namespace: String,
}

/// Finishes the reports of a namespace that wait for the incident's leader, with the leader's outcome.
pub async fn finish_waiting(
    db: impl PgExecutor<'_>,
    incident: Uuid,
    namespace: &str,
    result: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<FollowerReport>> {
    sqlx::query_as!(
        FollowerReport,
        r#"with ended as (
               update reports set status = 'done', result = $2, finished_at = $3
               where incident_id = $1 and status = 'waiting' and namespace = $4 returning id, namespace)
           select id as "id!", namespace as "namespace!" from ended order by id"#,
        incident,
        redact::plain(result),
        now,
        namespace
    )
    .fetch_all(db)
    .await
}

/// Returns the reports that still wait for a leader to the queue. Each returned id needs a job.
pub async fn requeue_waiting(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "update reports set status = 'queued' where incident_id = $1 and status = 'waiting' returning id",
        incident
    )
    .fetch_all(db)
    .await
}

/// A completed step.
#[derive(Debug)]
pub struct NewStep<'a> {
    /// Name of the step.
    pub name: StepName,
    /// Result of the step.
    pub detail: &'a str,
    /// End time.
    pub at: DateTime<Utc>,
    /// Duration.
    pub took: Duration,
}

/// Inserts a step; an existing row of the same step is kept.
pub async fn add_step(db: impl PgExecutor<'_>, report: Uuid, step: &NewStep<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into steps (report_id, name, detail, at, duration_ms) values ($1, $2, $3, $4, $5)
         on conflict (report_id, name) do nothing",
        report,
        step.name.as_str(),
        redact::plain(step.detail),
        step.at,
        i64::try_from(step.took.as_millis()).unwrap_or(i64::MAX)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the steps of a report in chronological order.
pub async fn steps(db: impl PgExecutor<'_>, report: Uuid) -> sqlx::Result<Vec<Step>> {
    sqlx::query_as!(
        Step,
        "select name, detail, at, duration_ms from steps where report_id = $1 order by at, name",
        report
    )
    .fetch_all(db)
    .await
}

/// Deletes all reports and the data derived from them. Only for the demo database.
pub async fn forget_all(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("truncate reports, incidents, fingerprint_aliases, events cascade")
        .execute(db)
        .await
        .map(|_| ())
}
