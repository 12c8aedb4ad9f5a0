//! The record of what was done: rows are added and never changed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;

/// Something that was done.
#[derive(Debug)]
pub struct Deed<'a> {
    /// Who did it.
    pub actor: &'a str,
    /// What: `conversation.delete`, `agent.store`, …
    pub action: &'a str,
    /// Kind and id or name of what it was done to.
    pub object: (&'a str, &'a str),
    /// `done`, `failed`, `refused`.
    pub outcome: &'a str,
    /// What else there is to know; without secrets and log contents.
    pub detail: &'a str,
}

/// Adds a row.
pub async fn add(db: impl PgExecutor<'_>, deed: &Deed<'_>, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit (at, actor, action, object_kind, object, outcome, detail) values ($1, $2, $3, $4, $5, $6, $7)",
        now,
        deed.actor,
        deed.action,
        deed.object.0,
        deed.object.1,
        deed.outcome,
        deed.detail
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A row.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Entry {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Kind of what it was done to.
    pub object_kind: String,
    /// Its id or name.
    pub object: String,
    /// `done`, `failed` or `refused`.
    pub outcome: String,
    /// What else there is to know.
    pub detail: String,
}

/// How the record is narrowed.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only by them.
    pub actor: Option<String>,
    /// Only actions that begin like this.
    pub action: Option<String>,
    /// Only what was done to this id or name.
    pub object: Option<String>,
    /// Not before then.
    pub since: Option<DateTime<Utc>>,
    /// Not after then.
    pub until: Option<DateTime<Utc>>,
    /// Only rows before this one.
    pub before: Option<i64>,
}

/// Rows, newest first.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        "select id, at, actor, action, object_kind, object, outcome, detail from audit
         where ($1::text is null or actor = $1) and ($2::text is null or starts_with(action, $2))
           and ($3::text is null or object = $3) and ($4::timestamptz is null or at >= $4)
           and ($5::timestamptz is null or at <= $5) and ($6::bigint is null or id < $6)
         order by id desc limit $7",
        filter.actor,
        filter.action,
        filter.object,
        filter.since,
        filter.until,
        filter.before,
        limit
    )
    .fetch_all(db)
    .await
}
