//! What has to be told to whom.

use crate::domain::Novelty;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use std::time::Duration;
use uuid::Uuid;

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Row id.
    pub id: Uuid,
    /// How new it is.
    pub novelty: Novelty,
    /// The report that ended.
    pub report: Uuid,
    /// When it did.
    pub at: DateTime<Utc>,
}

/// Keeps something to be told to a target.
pub async fn add(
    db: impl PgExecutor<'_>,
    target: &str,
    novelty: Novelty,
    report: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into notifications (id, target, event, report_id, created_at) values ($1, $2, $3, $4, $5)",
        Uuid::now_v7(),
        target,
        novelty.as_str(),
        report,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How long the target has to be left alone, by the database's clock.
pub async fn rests(db: impl PgExecutor<'_>, target: &str, every: Duration) -> sqlx::Result<Duration> {
    let seconds = sqlx::query_scalar!(
        r#"select coalesce(extract(epoch from max(sent_at) + make_interval(secs => $2) - now()), 0)::float8 as "seconds!"
           from notifications where target = $1 and sent_at is not null"#,
        target,
        every.as_secs_f64()
    )
    .fetch_one(db)
    .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Takes what is due, oldest first, for so long.
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
                            and (claimed_until is null or claimed_until < now())
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

/// How long until something may be claimed, by the database's clock; `None` when nothing is left to tell.
pub async fn due(db: impl PgExecutor<'_>, target: &str) -> sqlx::Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from min(greatest(coalesce(claimed_until, now()), now())) - now())::float8 as seconds
           from notifications where target = $1 and sent_at is null and refused is null"#,
        target
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// They were sent, or never will be and why.
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

/// They are to be sent after all.
pub async fn give_back(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("update notifications set claimed_until = null where id = any($1)", ids).execute(db).await?;
    Ok(())
}

/// How it went lately with a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its name.
    pub target: String,
    /// What waits to be told.
    pub waiting: i64,
    /// When it was told something last.
    pub sent_at: Option<DateTime<Utc>>,
    /// Why it was not, when that is the latest.
    pub refused: Option<String>,
}

/// How it went lately with each target that there was something for.
pub async fn told(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Told>> {
    sqlx::query_as!(
        Told,
        r#"select target, count(*) filter (where sent_at is null and refused is null) as "waiting!", max(sent_at) as sent_at,
                  (array_agg(refused order by created_at desc) filter (where sent_at is not null or refused is not null))[1] as refused
           from notifications group by target order by target"#
    )
    .fetch_all(db)
    .await
}

/// Forgets what is over since then.
pub async fn prune(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "delete from notifications where created_at < $1 and (sent_at is not null or refused is not null)",
        before
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
