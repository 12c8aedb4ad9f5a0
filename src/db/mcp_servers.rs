//! MCP servers that were added over the API.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

/// Stores a server. `false` when there is one of that name.
pub async fn add(
    db: &mut PgConnection,
    name: &str,
    settings: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let added = sqlx::query!(
        "insert into mcp_servers (name, settings, created_at) values ($1, $2, $3) on conflict do nothing",
        name,
        settings,
        now
    )
    .execute(&mut *db)
    .await?;
    announce(db).await?;
    Ok(added.rows_affected() == 1)
}

/// Removes a server. `false` when there is none.
pub async fn remove(db: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let gone = sqlx::query!("delete from mcp_servers where name = $1", name).execute(&mut *db).await?;
    announce(db).await?;
    Ok(gone.rows_affected() == 1)
}

/// The settings of all, in the order they were added.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Value>> {
    sqlx::query_scalar!("select settings from mcp_servers order by created_at, name").fetch_all(db).await
}

/// Tells every replica; delivered when the transaction commits.
pub(super) async fn announce(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_servers', '')").execute(db).await?;
    Ok(())
}
