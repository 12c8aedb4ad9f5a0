//! API keys, stored only as hashes.

use crate::domain::{ApiKey, Role};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

struct Row {
    id: Uuid,
    name: String,
    role: String,
    namespaces: Option<Vec<String>>,
    created_by: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            // An unreadable role gets the fewest permissions.
            role: Role::parse(&row.role).unwrap_or(Role::Reporter),
            namespaces: row.namespaces,
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Inserts a key. Returns `false` when the name is taken.
pub async fn add(db: impl PgExecutor<'_>, key: &ApiKey, hash: &[u8]) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "insert into api_keys (id, name, hash, role, namespaces, created_by, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (name) do nothing",
        key.id,
        key.name,
        hash,
        key.role.as_str(),
        key.namespaces.as_deref(),
        key.created_by,
        key.created_at,
        key.expires_at
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// Returns whether a caller is a key created by another caller, directly or through further keys.
pub async fn was_made_by(db: impl PgExecutor<'_>, caller: &str, maker: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with recursive made as (
               select name, created_by from api_keys where 'key:' || name = $1
               union select k.name, k.created_by from api_keys k join made on 'key:' || k.name = made.created_by)
           select exists (select from made where created_by = $2) as "made!""#,
        caller,
        maker
    )
    .fetch_one(db)
    .await
}

/// Returns the valid key with this hash and records its use with a resolution of one minute.
pub async fn used(
    db: impl PgExecutor<'_> + Copy,
    hash: &[u8],
    now: DateTime<Utc>,
) -> sqlx::Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, role, namespaces, created_by, created_at, expires_at, last_used_at, revoked_at from api_keys
         where hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
        hash,
        now
    );
    let key: Option<ApiKey> = row.fetch_optional(db).await?.map(Into::into);
    if let Some(key) = &key
        && key.last_used_at.is_none_or(|last| now - last > chrono::TimeDelta::minutes(1))
    {
        sqlx::query!("update api_keys set last_used_at = $2 where id = $1", key.id, now).execute(db).await?;
    }
    Ok(key)
}

/// Lists all keys, revoked ones last.
pub async fn list(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<ApiKey>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, role, namespaces, created_by, created_at, expires_at, last_used_at, revoked_at from api_keys
         order by revoked_at is not null, created_at desc, id desc"
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// Returns the next expiry of a valid key, if any.
pub async fn next_end(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
    let end = sqlx::query_scalar!(
        "select min(expires_at) from api_keys where revoked_at is null and expires_at > $1",
        now
    );
    end.fetch_one(db).await
}

/// Revokes a key by id or name. Returns `None` when no key can be revoked.
pub async fn revoke(
    db: impl PgExecutor<'_>,
    id_or_name: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        "update api_keys set revoked_at = $2 where (id::text = $1 or name = $1) and revoked_at is null
         returning id, name, role, namespaces, created_by, created_at, expires_at, last_used_at, revoked_at",
        id_or_name,
        now
    );
    Ok(row.fetch_optional(db).await?.map(Into::into))
}
