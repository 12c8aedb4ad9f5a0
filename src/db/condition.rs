//! What condition a database is in, for whoever looks at a deployment: nothing here changes it, not even its schema.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A server, its pgvector, and what we may do there.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Version of PostgreSQL.
    pub version: String,
    /// Version of pgvector in this database.
    pub vector: Option<String>,
    /// Version of pgvector that could be made part of it.
    pub vector_offered: Option<String>,
    /// It follows another server, or refuses to write by its settings.
    pub read_only: bool,
    /// We may make tables in our schema.
    pub may_create: bool,
    /// A table that we may not write.
    pub closed: Option<String>,
}

/// Looks at a database.
///
/// # Errors
/// It is away.
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

/// The time by the database's clock.
///
/// # Errors
/// It is away.
pub async fn clock(db: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await
}
