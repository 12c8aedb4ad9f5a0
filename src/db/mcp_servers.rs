//! MCP servers added over the API.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

/// Inserts a server. Returns `false` when the name is taken.
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

/// Deletes a server. Returns `false` when it does not exist.
pub async fn remove(db: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let gone = sqlx::query!("delete from mcp_servers where name = $1", name).execute(&mut *db).await?;
    announce(db).await?;
    Ok(gone.rows_affected() == 1)
}

/// Returns the settings of all servers in the order of their creation.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Value>> {
    sqlx::query_scalar!("select settings from mcp_servers order by created_at, name").fetch_all(db).await
}

/// Notifies all replicas when the transaction commits.
pub(super) async fn announce(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_servers', '')").execute(db).await?;
    Ok(())
}
