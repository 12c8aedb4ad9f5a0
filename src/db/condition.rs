//! Read-only diagnosis of a database; does not even change the schema.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// State of the server, pgvector and permissions.
#[derive(Debug, Clone)]
pub struct Condition {
    /// PostgreSQL version.
    pub version: String,
    /// Version of pgvector installed in this database.
    pub vector: Option<String>,
    /// Version of pgvector available for installation.
    pub vector_offered: Option<String>,
    /// Whether the server is a standby or read-only by its settings.
    pub read_only: bool,
    /// Whether this user may create tables in the schema.
    pub may_create: bool,
    /// A table that this user may not write to.
    pub closed: Option<String>,
}

/// Diagnoses a database.
///
/// # Errors
/// Fails when the database is unavailable.
pub async fn of(db: &mut PgConnection) -> sqlx::Result<Condition> {
    sqlx::query_as!(
        Condition,
        r#"select current_setting('server_version') as "version!",
                  (select extversion from pg_extension where extname = 'vector') as vector,
                  (select default_version from pg_available_extensions where name = 'vector') as vector_offered,
                  pg_is_in_recovery() or current_setting('default_transaction_read_only') = 'on' as "read_only!",
                  coalesce(has_schema_privilege(current_schema(), 'create'), false) as "may_create!",
                  (select min(c.relname::text) from pg_class c
                   where c.relnamespace = to_regnamespace(quote_ident(current_schema())) and c.relkind in ('r', 'p')
                         -- A list of privileges asks for any of them.
                         and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                                  and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))) as closed"#
    )
    .fetch_one(db)
    .await
}

/// Returns the time of the database's clock.
///
/// # Errors
/// Fails when the database is unavailable.
pub async fn clock(db: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await
}
