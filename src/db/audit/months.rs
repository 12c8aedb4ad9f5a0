//! Monthly partitions of the audit log: created ahead and dropped as a whole. A remaining row stores the hashes of
//! dropped rows, so that the chain can be verified across the gap.

use super::add;
use crate::domain::{Actor, AuditAction, AuditEvent};
use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

/// Number of future months with a partition.
const AHEAD: u32 = 2;
/// Timeout for a lock that would block other transactions.
const LOCK_TIMEOUT: &str = "2s";
/// Action of the row that stores the hashes of dropped rows.
pub(super) const DROP: &str = "audit.drop";

/// Dropped rows that are contiguous in the chain, with the hash of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) hash: String,
}

/// A dropped month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Name of its partition.
    pub name: String,
    /// Number of rows.
    pub rows: i64,
}

/// Creates the partitions of the current and the next months. Returns the number created.
pub async fn add_months(pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let this = NaiveDate::from_ymd_opt(now.year(), now.month(), 1).unwrap_or_default();
    let mut made = 0;
    for ahead in 0..=AHEAD {
        let month = this.checked_add_months(Months::new(ahead)).unwrap_or(this);
        let mut transaction = pool.begin().await?;
        give_way(&mut transaction).await?;
        let added = sqlx::query_scalar!(r#"select audit_add_month($1) as "added!""#, month);
        made += usize::from(added.fetch_one(&mut *transaction).await?);
        transaction.commit().await?;
    }
    Ok(made)
}

/// Sets a lock timeout, so that other transactions are not blocked for long; the operation is retried later.
async fn give_way(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query_scalar!("select set_config('lock_timeout', $1, true)", LOCK_TIMEOUT).fetch_one(db).await?;
    Ok(())
}

/// Drops the months that ended before `cutoff`, oldest first. Keeps months with unsealed rows.
pub async fn drop_before(
    pool: &PgPool,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Dropped>> {
    let months = sqlx::query!(
        r#"select name as "name!", first as "first!", past as "past!" from audit_months() where past <= $1"#,
        cutoff
    )
    .fetch_all(pool)
    .await?;
    let mut dropped = Vec::new();
    for month in months {
        match drop_month(pool, &month.name, month.first, month.past, now).await? {
            Some(rows) => dropped.push(Dropped { name: month.name, rows }),
            None => break,
        }
    }
    Ok(dropped)
}

async fn drop_month(
    pool: &PgPool,
    name: &str,
    first: DateTime<Utc>,
    past: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<i64>> {
    let mut transaction = pool.begin().await?;
    give_way(&mut transaction).await?;
    // Prevents concurrent sealing.
    sqlx::query!("select seq from audit_head for update").fetch_one(&mut *transaction).await?;
    let rows = sqlx::query!(
        r#"select count(*) as "all!", count(*) filter (where seq is null) as "unsealed!" from audit where at >= $1 and at < $2"#,
        first,
        past
    )
    .fetch_one(&mut *transaction)
    .await?;
    // Another process may have dropped it first.
    let exists = sqlx::query_scalar!(r#"select to_regclass($1) is not null as "exists!""#, name);
    if rows.unsealed > 0 || !exists.fetch_one(&mut *transaction).await? {
        // Explicit, because a drop releases the lock only later.
        transaction.rollback().await?;
        return Ok(None);
    }
    let mut gone = dropped(&mut transaction).await?;
    gone.extend(stretches(&mut transaction, first, past).await?);
    let data = json!({ "rows": rows.all, "first": first, "past": past, "stretches": joined(gone) });
    let detail =
        format!("{} rows of before {} are past `audit.retention`", rows.all, past.format("%Y-%m-%d"));
    let event = AuditEvent::new(&Actor::service(""), AuditAction::AuditDrop, now).on("partition", name);
    add(&mut *transaction, &event.detail(detail).data(data)).await?;
    sqlx::query!("select audit_drop_month($1)", name).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Some(rows.all))
}

/// Returns all dropped ranges from the latest row that stores them.
pub(super) async fn dropped(db: &mut PgConnection) -> sqlx::Result<Vec<Stretch>> {
    let kept = sqlx::query_scalar!(
        r#"select (data -> 'stretches')::text as "stretches!" from audit where action = $1 order by id desc limit 1"#,
        DROP
    );
    let kept = kept.fetch_optional(db).await?;
    Ok(kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default())
}

/// Returns the rows of a month as contiguous ranges of the chain; usually one, but more are possible at month
/// boundaries.
async fn stretches(
    db: &mut PgConnection,
    first: DateTime<Utc>,
    past: DateTime<Utc>,
) -> sqlx::Result<Vec<Stretch>> {
    sqlx::query_as!(
        Stretch,
        r#"select min(seq) as "first!", max(seq) as "last!", encode((array_agg(hash order by seq desc))[1], 'hex') as "hash!"
           from (select seq, hash, seq - row_number() over (order by seq) as stretch from audit where at >= $1 and at < $2) rows
           group by stretch order by 1"#,
        first,
        past
    )
    .fetch_all(db)
    .await
}

/// Sorts ranges and merges adjacent ones.
fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| stretch.first);
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if last.last + 1 == stretch.first => {
                *last = Stretch { first: last.first, ..stretch };
            }
            _ => joined.push(stretch),
        }
    }
    joined
}
