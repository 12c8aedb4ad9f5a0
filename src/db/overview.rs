//! Aggregates over all incidents, reports and runs.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Number of incidents of one status and class.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// `open` or `resolved`.
    pub status: String,
    /// Failure class.
    pub class: String,
    /// Number of incidents.
    pub incidents: i64,
}

/// Counts incidents by status and class.
pub async fn counts(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"select status, class, count(*) as "incidents!" from incidents where merged_into is null
           group by status, class order by 3 desc, class"#
    )
    .fetch_all(db)
    .await
}

/// Reports of a UTC day.
#[derive(Debug, Clone, Serialize)]
pub struct Day {
    /// The day.
    pub day: NaiveDate,
    /// Number of reports.
    pub reports: i64,
    /// Number of reports that opened an incident, that is, had an unknown cause.
    pub new: i64,
}

/// Returns all days of the range, including those without reports.
pub async fn trend(db: impl PgExecutor<'_>, since: NaiveDate, until: NaiveDate) -> sqlx::Result<Vec<Day>> {
    sqlx::query_as!(
        Day,
        r#"select day::date as "day!", coalesce(r.reports, 0) as "reports!", coalesce(r.new, 0) as "new!"
           from generate_series($1::date::timestamp, $2::date::timestamp, interval '1 day') as day
           left join (select (created_at at time zone 'utc')::date as on_day, count(*) as reports, count(*) filter (where leads) as new
                      from reports where created_at >= ($1::date::timestamp at time zone 'utc') group by 1) r on r.on_day = day::date
           order by 1"#,
        since,
        until
    )
    .fetch_all(db)
    .await
}

/// Aggregates of a period.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Number of reports.
    pub reports: i64,
    /// Median of the milliseconds from a report to its outcome, over reports with an outcome.
    pub p50_ms: Option<f64>,
    /// 95th percentile of the same duration.
    pub p95_ms: Option<f64>,
    /// Number of claims in diagnoses.
    pub claims: i64,
    /// Number of claims verified against the evidence.
    pub claims_verified: i64,
    /// Tokens of all runs.
    pub tokens: i64,
    /// Cost of all runs; `None` without prices.
    pub cost: Option<f64>,
}

/// Returns the aggregates since a time.
pub async fn figures(db: impl PgExecutor<'_>, since: DateTime<Utc>) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"select (select count(*) from reports where created_at >= $1) as "reports!",
                  t.p50 as p50_ms, t.p95 as p95_ms,
                  r.claims as "claims!", r.verified as "claims_verified!", r.tokens as "tokens!", r.cost
           from (select percentile_cont(0.5) within group (order by ms) as p50, percentile_cont(0.95) within group (order by ms) as p95
                 from (select extract(epoch from finished_at - coalesce(again_at, created_at))::double precision * 1000 as ms
                       from reports where created_at >= $1 and leads and status = 'done') as waits) t,
                (select coalesce(sum(claims), 0)::bigint as claims, coalesce(sum(claims_verified), 0)::bigint as verified,
                        coalesce(sum(input_tokens + output_tokens), 0)::bigint as tokens, sum(cost) as cost
                 from runs where started_at >= $1) r"#,
        since
    )
    .fetch_one(db)
    .await
}

/// An answer in progress.
#[derive(Debug, Clone, Serialize)]
pub struct Answering {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Title of the conversation.
    pub title: String,
    /// Start time.
    pub started_at: DateTime<Utc>,
}

/// Lists answers in progress, at most 20.
pub async fn answering(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Answering>> {
    sqlx::query_as!(
        Answering,
        "select t.conversation_id, c.title, t.started_at from turns t join conversations c on c.id = t.conversation_id
         where t.state = 'running' and t.lease_until > now() order by t.started_at limit 20"
    )
    .fetch_all(db)
    .await
}

/// Returns a value that changes whenever the lists change.
pub async fn pulse(db: impl PgExecutor<'_>) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"select concat_ws(' ', (select id from reports order by id desc limit 1),
                  (select string_agg(id::text || status, ',' order by id) from reports where status in ('queued', 'running', 'waiting')),
                  (select last_seen from incidents order by last_seen desc, id desc limit 1),
                  (select count(*) from incidents where status = 'open'),
                  (select count(*) from reports where status = 'failed'),
                  (select count(*) from steps s join reports r on r.id = s.report_id where r.status = 'running')) as "pulse!""#
    )
    .fetch_one(db)
    .await
}
