//! Reports, their leases and their steps.

use crate::domain::{Failure, Report, ReportStatus, Step, StepName};
use crate::evidence::redact;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

/// A report as it comes in.
#[derive(Debug)]
pub struct NewReport<'a> {
    /// Its id.
    pub id: Uuid,
    /// Who reports.
    pub caller: &'a str,
    /// Caller's key.
    pub idempotency_key: Option<&'a str>,
    /// Hash of the request.
    pub request_hash: &'a str,
    /// What is reported.
    pub failure: &'a Failure,
    /// The time.
    pub now: DateTime<Utc>,
    /// What its trace is called.
    pub traceparent: Option<&'a str>,
}

/// Who holds a report, and for how long. The database's clock alone says when that is over: those of replicas may differ,
/// and jump.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Fences: only the holder of the token writes.
    pub token: Uuid,
    /// Its length from now on, unless renewed.
    pub length: Duration,
}

/// A report that was taken up.
#[derive(Debug)]
pub struct ClaimedReport {
    /// As it is now.
    pub report: Report,
    /// Whether it leads the investigation of its cause.
    pub leads: bool,
    /// What its trace is called, when it came with one or one began with it.
    pub traceparent: Option<String>,
    /// Since when it waits for its outcome: it came in, or was asked for again.
    pub since: DateTime<Utc>,
    /// Whether it is investigated although there is a conclusion.
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

/// Stores a report. `false` when the key is taken.
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

/// Id and request hash of the report under a caller's key.
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

/// How many reports are not over; counted up to `most`.
pub async fn active(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "active!"
           from (select from reports where status in ('queued', 'running', 'waiting') limit $1) as active"#,
        most
    )
    .fetch_one(db)
    .await
}

/// Reports that are not over: how many, and for how long the oldest has been there.
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

/// Who reported, by name.
pub async fn caller(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select caller from reports where id = $1", id).fetch_optional(db).await
}

/// One report.
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

/// Reports that have a cause and whose commit begins as this one does, in any repository, the latest first.
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

/// The report whose evidence led to the incident's conclusion, if it is known.
pub async fn leader(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from reports where incident_id = $1 and leads order by created_at desc, id desc limit 1",
        incident
    )
    .fetch_optional(db)
    .await
}

/// What a list is narrowed to.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Only of this status.
    pub status: Option<&'a str>,
    /// Only of this namespace.
    pub namespace: Option<&'a str>,
    /// Only of these namespaces.
    pub within: Option<&'a [String]>,
    /// Only of this incident.
    pub incident: Option<Uuid>,
    /// Only of this pipeline.
    pub pipeline: Option<&'a str>,
    /// Only by this caller.
    pub caller: Option<&'a str>,
    /// Only older than this one (for the next page).
    pub before: Option<Uuid>,
}

/// Reports, newest first. Ids are time-ordered, so they page.
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

/// How many failed.
pub async fn failed(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from reports where status = 'failed'"#)
        .fetch_one(db)
        .await
}

/// Takes a report up, unless it is finished, waits for another, or is held by a living worker.
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

/// When the lease of a report that cannot be taken ends; `None` when nobody needs to come back.
pub async fn held_until(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select lease_until from reports where id = $1 and status in ('queued', 'running')",
        id
    )
    .fetch_optional(db)
    .await
    .map(Option::flatten)
}

/// Prolongs a lease. `false` when it was lost.
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

/// Hands a report back untouched by the count of deaths: a stop is not a crash.
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

/// Takes one from the count of deaths: a worker that lost a report to another one, because it was slow, is alive.
pub async fn survived(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update reports set attempts = greatest(attempts - 1, 0) where id = $1 and status in ('queued', 'running', 'waiting')",
        id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Lets a report wait for the one that investigates its cause.
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

/// How a report ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<'a> {
    /// With the sentence callers get.
    Done(&'a str),
    /// With the reason.
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

/// Ends a report and tells whoever waits for it. `false` when the lease was lost.
pub async fn finish(
    db: impl PgExecutor<'_>,
    id: Uuid,
    token: Uuid,
    end: &End<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let (status, result, error) = end.parts();
    // Words of servers, models and trackers stand in both.
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

/// A report that ended with another.
#[derive(Debug)]
pub struct FollowerReport {
    /// Which one.
    pub id: Uuid,
    /// Where its pod is.
    pub namespace: String,
}

/// Ends the reports of a namespace that waited for this incident's leader, with its outcome.
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

/// Puts the reports that still wait for a leader back into the queue. Returns their ids: each needs a job.
pub async fn requeue_waiting(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "update reports set status = 'queued' where incident_id = $1 and status = 'waiting' returning id",
        incident
    )
    .fetch_all(db)
    .await
}

/// A step that was taken.
#[derive(Debug)]
pub struct NewStep<'a> {
    /// Which one.
    pub name: StepName,
    /// What came of it.
    pub detail: &'a str,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
}

/// Notes a step; the first note of a step stays.
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

/// The steps of a report, in the order they were taken.
pub async fn steps(db: impl PgExecutor<'_>, report: Uuid) -> sqlx::Result<Vec<Step>> {
    sqlx::query_as!(
        Step,
        "select name, detail, at, duration_ms from steps where report_id = $1 order by at, name",
        report
    )
    .fetch_all(db)
    .await
}

/// Empties everything that reports left behind. For the demonstration's own database.
pub async fn forget_all(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("truncate reports, incidents, fingerprint_aliases, events cascade")
        .execute(db)
        .await
        .map(|_| ())
}
