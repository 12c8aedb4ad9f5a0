//! Approved tool definitions, and changes that wait for an admin.

use super::mcp_servers;
use crate::domain::{Definition, ServerKey};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use std::collections::HashMap;

/// A tool of a server.
#[derive(Debug, Clone, Copy)]
pub struct ToolKey<'a> {
    /// Its server.
    pub server: ServerKey<'a>,
    /// Tool name.
    pub name: &'a str,
}

/// A definition and its hash.
#[derive(Debug, Clone)]
pub struct Hashed {
    /// SHA-256 of the definition.
    pub hash: String,
    /// The definition.
    pub definition: Definition,
}

/// Stored state of a tool.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Definition in force.
    pub used: Hashed,
    /// Definition that waits for an admin.
    pub pending: Option<Pending>,
}

/// A definition that waits for an admin.
#[derive(Debug, Clone)]
pub struct Pending {
    /// SHA-256 of the definition.
    pub hash: String,
    /// Start of the wait.
    pub since: DateTime<Utc>,
}

fn written(definition: &Definition) -> sqlx::Result<String> {
    serde_json::to_string(definition).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn read(text: &str) -> sqlx::Result<Definition> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Returns all tools of a server.
pub async fn of(db: impl PgExecutor<'_>, server: ServerKey<'_>) -> sqlx::Result<HashMap<String, Stored>> {
    let rows = sqlx::query!(
        "select tool, hash, definition, pending_hash, pending_since from tool_definitions where server = $1 and address = $2",
        server.name,
        server.address
    )
    .fetch_all(db)
    .await?;
    let stored = rows.into_iter().map(|row| {
        let used = Hashed { hash: row.hash, definition: read(&row.definition)? };
        let pending = row.pending_hash.zip(row.pending_since).map(|(hash, since)| Pending { hash, since });
        Ok((row.tool, Stored { used, pending }))
    });
    stored.collect()
}

/// Inserts new tools; known ones stay unchanged.
pub async fn remember(
    db: impl PgExecutor<'_>,
    server: ServerKey<'_>,
    tools: &[(&str, Hashed)],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let names: Vec<String> = tools.iter().map(|(name, _)| (*name).to_owned()).collect();
    let hashes: Vec<String> = tools.iter().map(|(_, tool)| tool.hash.clone()).collect();
    let texts: Vec<String> =
        tools.iter().map(|(_, tool)| written(&tool.definition)).collect::<sqlx::Result<_>>()?;
    sqlx::query!(
        "insert into tool_definitions (server, address, tool, hash, definition, first_seen)
         select $1, $2, tool, hash, definition, $6
         from unnest($3::text[], $4::text[], $5::text[]) as new (tool, hash, definition)
         on conflict do nothing",
        server.name,
        server.address,
        &names,
        &hashes,
        &texts,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces a definition without confirmation. Returns `false` when another replica did so first.
pub async fn replace(
    db: impl PgExecutor<'_>,
    tool: ToolKey<'_>,
    old: &str,
    new: &Hashed,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let replaced = sqlx::query!(
        "update tool_definitions set hash = $5, definition = $6, first_seen = $7, confirmed_by = null, confirmed_at = null,
                pending_hash = null, pending_definition = null, pending_since = null
         where server = $1 and address = $2 and tool = $3 and hash = $4",
        tool.server.name,
        tool.server.address,
        tool.name,
        old,
        new.hash,
        written(&new.definition)?,
        now
    );
    Ok(replaced.execute(db).await?.rows_affected() == 1)
}

/// Stores a pending definition, replacing an earlier one. Returns `false` when it is pending already.
pub async fn propose(
    db: impl PgExecutor<'_>,
    tool: ToolKey<'_>,
    old: &str,
    new: &Hashed,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let proposed = sqlx::query!(
        "update tool_definitions set pending_hash = $5, pending_definition = $6, pending_since = $7
         where server = $1 and address = $2 and tool = $3 and hash = $4 and pending_hash is distinct from $5",
        tool.server.name,
        tool.server.address,
        tool.name,
        old,
        new.hash,
        written(&new.definition)?,
        now
    );
    Ok(proposed.execute(db).await?.rows_affected() == 1)
}

/// Removes the pending definition, because the server lists the definition in force again. Returns `false` when another
/// replica did so first.
pub async fn withdraw(db: impl PgExecutor<'_>, tool: ToolKey<'_>, hash: &str) -> sqlx::Result<bool> {
    let withdrawn = sqlx::query!(
        "update tool_definitions set pending_hash = null, pending_definition = null, pending_since = null
         where server = $1 and address = $2 and tool = $3 and hash = $4 and pending_hash is not null",
        tool.server.name,
        tool.server.address,
        tool.name,
        hash
    );
    Ok(withdrawn.execute(db).await?.rows_affected() == 1)
}

/// Puts the pending definition with this hash in force and notifies all replicas.
pub async fn confirm(
    db: &mut PgConnection,
    tool: ToolKey<'_>,
    hash: &str,
    by: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let confirmed = sqlx::query!(
        "update tool_definitions set hash = pending_hash, definition = pending_definition, first_seen = pending_since,
                confirmed_by = $5, confirmed_at = $6, pending_hash = null, pending_definition = null, pending_since = null
         where server = $1 and address = $2 and tool = $3 and pending_hash = $4",
        tool.server.name,
        tool.server.address,
        tool.name,
        hash,
        by,
        now
    )
    .execute(&mut *db)
    .await?;
    mcp_servers::announce(db).await?;
    Ok(confirmed.rows_affected() == 1)
}
