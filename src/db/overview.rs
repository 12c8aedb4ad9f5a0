//! Figures over all incidents, reports and runs.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Incidents of one state and class.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    /// `open` or `resolved`.
    pub status: String,
    /// Class of failure.
    pub class: String,
    /// How many.
    pub incidents: i64,
}

/// How many incidents there are of each state and class.
pub async fn counts(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"select status, class, count(*) as "incidents!" from incidents where merged_into is null
           group by status, class order by 3 desc, class"#
    )
    .fetch_all(db)
    .await
}

/// What happened on a day (UTC).
#[derive(Debug, Clone, Serialize)]
pub struct Day {
    /// The day.
    pub day: NaiveDate,
    /// Reports that came in.
    pub reports: i64,
    /// Of these, those that opened an incident: a cause not known before.
    pub new: i64,
}

/// The days since then, also those without reports.
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

/// Figures of a while.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Reports that came in.
    pub reports: i64,
    /// Median and 95th percentile of the milliseconds from the report to its outcome, of reports that led to one.
    pub p50_ms: Option<f64>,
    /// See `p50_ms`.
    pub p95_ms: Option<f64>,
    /// Claims of diagnoses, and those of them that were found in the evidence.
    pub claims: i64,
    /// See `claims`.
    pub claims_verified: i64,
    /// Tokens of all runs.
    pub tokens: i64,
    /// Cost of all runs; absent without prices.
    pub cost: Option<f64>,
}

/// Figures since then.
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

/// An answer that is being made.
#[derive(Debug, Clone, Serialize)]
pub struct Answering {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Its title.
    pub title: String,
    /// Since when.
    pub started_at: DateTime<Utc>,
}

/// The answers that are being made.
pub async fn answering(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Answering>> {
    sqlx::query_as!(
        Answering,
        "select t.conversation_id, c.title, t.started_at from turns t join conversations c on c.id = t.conversation_id
         where t.state = 'running' and t.lease_until > now() order by t.started_at limit 20"
    )
    .fetch_all(db)
    .await
}

/// Changes when something happened that the lists show.
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
