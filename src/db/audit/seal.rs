//! Sealing of audit rows. Rows are inserted without a hash, so that transactions do not wait for each other. One
//! process at a time then chains them in the order in which they became visible.

use super::chain::ChainEntry;
use sqlx::{PgExecutor, PgPool};

/// Number of rows sealed per transaction.
const BATCH: i64 = 2_000;

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of rows in the chain.
    pub seq: i64,
    /// Hash of the last row, in hexadecimal.
    pub hash: String,
}

/// Returns the end of the chain.
pub async fn head(db: impl PgExecutor<'_>) -> sqlx::Result<Head> {
    sqlx::query_as!(Head, r#"select seq, encode(hash, 'hex') as "hash!" from audit_head"#).fetch_one(db).await
}

/// Seals all unsealed rows and returns their number; 0 while another process seals.
pub async fn seal(pool: &PgPool) -> sqlx::Result<u64> {
    let mut sealed = 0;
    loop {
        let batch = seal_batch(pool).await?;
        sealed += batch;
        if batch < BATCH.unsigned_abs() {
            return Ok(sealed);
        }
    }
}

async fn seal_batch(pool: &PgPool) -> sqlx::Result<u64> {
    let waiting = sqlx::query_scalar!(r#"select exists (select from audit where seq is null) as "any!""#);
    if !waiting.fetch_one(pool).await? {
        return Ok(0);
    }
    let mut transaction = pool.begin().await?;
    let head = sqlx::query!("select seq, hash from audit_head for update skip locked");
    let Some(head) = head.fetch_optional(&mut *transaction).await? else { return Ok(0) };
    // A statement after the lock sees all rows sealed by the previous holder.
    let links = sqlx::query_as!(
        ChainEntry,
        r#"select id, at, actor, action, object_kind, object, outcome, duration_ms, trace, run, detail, data::text as "data!", seq, hash
           from audit where seq is null order by id limit $1"#,
        BATCH
    )
    .fetch_all(&mut *transaction)
    .await?;
    if links.is_empty() {
        transaction.rollback().await?;
        return Ok(0);
    }
    let mut hashes = Vec::with_capacity(links.len());
    let (mut seq, mut hash) = (head.seq, head.hash);
    for link in &links {
        seq += 1;
        hash = link.sealed(&hash, seq).to_vec();
        hashes.push(hash.clone());
    }
    let written = sqlx::query!(
        "update audit set seq = s.seq, hash = s.hash
         from unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bytea[]) as s (id, at, seq, hash)
         where audit.id = s.id and audit.at = s.at",
        &links.iter().map(|link| link.id).collect::<Vec<_>>(),
        &links.iter().map(|link| link.at).collect::<Vec<_>>(),
        &(head.seq + 1..=seq).collect::<Vec<_>>(),
        &hashes
    )
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    sqlx::query!("update audit_head set seq = $1, hash = $2", seq, hash).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(written)
}
