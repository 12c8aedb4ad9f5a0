//! Sealing: rows are added without a seal, so that no transaction waits for another one; then one process at a time chains them in
//! the order in which they became visible.

use super::chain::ChainEntry;
use sqlx::{PgExecutor, PgPool};

/// Rows that are sealed in one transaction.
const BATCH: i64 = 2_000;

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Rows in it.
    pub seq: i64,
    /// Seal of the last one, in hexadecimal.
    pub hash: String,
}

/// The end of the chain.
pub async fn head(db: impl PgExecutor<'_>) -> sqlx::Result<Head> {
    sqlx::query_as!(Head, r#"select seq, encode(hash, 'hex') as "hash!" from audit_head"#).fetch_one(db).await
}

/// Seals what has no seal. Returns how many rows; none when another process is about it.
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
    // The statement after the lock sees all that the holder before has sealed.
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
