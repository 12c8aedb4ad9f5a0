//! Pending and sent notifications.

use crate::domain::Novelty;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use std::time::Duration;
use uuid::Uuid;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Row id.
    pub id: Uuid,
    /// Novelty of the report's cause.
    pub novelty: Novelty,
    /// Finished report.
    pub report: Uuid,
    /// Time at which the report finished.
    pub at: DateTime<Utc>,
}

/// Queues notifications of reports for a target.
pub async fn add(
    db: impl PgExecutor<'_>,
    target: &str,
    novelty: Novelty,
    reports: &[Uuid],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = reports.iter().map(|_| Uuid::now_v7()).collect();
    sqlx::query!(
        "insert into notifications (id, target, event, report_id, created_at)
         select id, $2, $3, report, $5 from unnest($1::uuid[], $4::uuid[]) as new (id, report)",
        &ids,
        target,
        novelty.as_str(),
        reports,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns how long a target must not be contacted, by the database clock, after a message or a failed attempt. With
/// `alike`, the pause after a failed attempt applies to all notifications; otherwise each one has its own. Returns `None`
/// when nothing is pending.
pub async fn rests(
    db: impl PgExecutor<'_>,
    target: &str,
    every: Duration,
    alike: bool,
) -> sqlx::Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from greatest(
                      (select max(sent_at) + make_interval(secs => $2) from notifications where target = $1 and sent_at is not null),
                      case when $3 then max(not_before) else min(coalesce(not_before, now())) end, now()) - now())::float8 as seconds
           from notifications where target = $1 and sent_at is null and refused is null having count(*) > 0"#,
        target,
        every.as_secs_f64(),
        alike
    )
    .fetch_optional(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()))
}

/// Claims due notifications for the lease duration, oldest first.
pub async fn claim(
    db: impl PgExecutor<'_>,
    target: &str,
    most: i64,
    lease: Duration,
) -> sqlx::Result<Vec<Notification>> {
    let rows = sqlx::query!(
        "update notifications set claimed_until = now() + make_interval(secs => $3)
         where id in (select id from notifications
                      where target = $1 and sent_at is null and refused is null
                            and (claimed_until is null or claimed_until < now()) and (not_before is null or not_before <= now())
                      order by created_at, id limit $2 for update skip locked)
         returning id, event, report_id, created_at",
        target,
        most,
        lease.as_secs_f64()
    )
    .fetch_all(db)
    .await?;
    let mut claimed: Vec<Notification> = rows
        .into_iter()
        .filter_map(|row| {
            let novelty = Novelty::parse(&row.event)?;
            Some(Notification { id: row.id, novelty, report: row.report_id, at: row.created_at })
        })
        .collect();
    claimed.sort_by_key(|notification| (notification.at, notification.id));
    Ok(claimed)
}

/// Marks notifications as sent, or as permanently failed with the reason.
pub async fn close(db: impl PgExecutor<'_>, ids: &[Uuid], refused: Option<&str>) -> sqlx::Result<()> {
    sqlx::query!(
        "update notifications set claimed_until = null, refused = $2, sent_at = case when $2::text is null then now() end
         where id = any($1)",
        ids,
        refused
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Reschedules notifications with exponential backoff, at least `least` and otherwise at most one hour.
pub async fn give_back(db: impl PgExecutor<'_>, ids: &[Uuid], least: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "update notifications set tries = tries + 1, claimed_until = null, not_before = now()
             + greatest(make_interval(secs => $2), least(make_interval(secs => 2 ^ least(tries + 1, 20)), interval '1 hour'))
         where id = any($1)",
        ids,
        least.as_secs_f64()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Recent delivery status of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryStatus {
    /// Target name.
    pub target: String,
    /// Number of pending notifications.
    pub waiting: i64,
    /// Time of the last successful delivery.
    pub sent_at: Option<DateTime<Utc>>,
    /// Reason of the last failure, if it is more recent.
    pub refused: Option<String>,
}

/// Returns the delivery status of each target with notifications.
pub async fn told(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<DeliveryStatus>> {
    sqlx::query_as!(
        DeliveryStatus,
        r#"select target, count(*) filter (where sent_at is null and refused is null) as "waiting!", max(sent_at) as sent_at,
                  (array_agg(refused order by created_at desc) filter (where sent_at is not null or refused is not null))[1] as refused
           from notifications group by target order by target"#
    )
    .fetch_all(db)
    .await
}

/// Deletes completed notifications created before a time.
pub async fn prune(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "delete from notifications where created_at < $1 and (sent_at is not null or refused is not null)",
        before
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
