//! What condition a database is in, for whoever looks at a deployment: nothing here changes it, not even its schema.

use super::migrations::Migrations;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::migrate::{Migrate as _, MigrateError};

/// Where sqlx keeps what it applied.
const TABLE: &str = "_sqlx_migrations";

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

/// The schema, against the one that this program works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// All migrations are applied, this many; and perhaps others of a newer program, up to this one.
    Fits {
        /// How many of ours.
        ours: usize,
        /// The last of the others.
        newer: Option<i64>,
    },
    /// These are not; `serve`, `work` and `migrate` apply them.
    Lacks(Vec<i64>),
    /// A newer program applied this one, and some of its migrations took away what this program uses.
    Newer(i64),
    /// This one was applied with another text.
    Differs(i64),
}

/// Looks at which migrations are applied.
///
/// # Errors
/// The database is away, or we may not read it.
pub async fn schema(db: &mut PgConnection, migrations: &Migrations) -> sqlx::Result<Schema> {
    let applied = match db.list_applied_migrations(TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_no_table(&error) => Vec::new(),
        Err(MigrateError::Execute(error)) => return Err(error),
        Err(other) => return Err(sqlx::Error::Protocol(other.to_string())),
    };
    let ours = migrations.all();
    let is_ours = |version: i64| ours.iter().any(|migration| migration.version == version);
    let newer = applied.iter().map(|applied| applied.version).filter(|version| !is_ours(*version)).max();
    if let Some(newer) = newer
        && !floor(db).await?.is_some_and(is_ours)
    {
        return Ok(Schema::Newer(newer));
    }
    let known = |version: i64| applied.iter().find(|applied| applied.version == version);
    let mut lacks = Vec::new();
    for migration in ours {
        match known(migration.version) {
            None => lacks.push(migration.version),
            Some(applied) if applied.checksum != migration.checksum => {
                return Ok(Schema::Differs(migration.version));
            }
            Some(_) => {}
        }
    }
    Ok(if lacks.is_empty() { Schema::Fits { ours: ours.len(), newer } } else { Schema::Lacks(lacks) })
}

/// The newest migration that a program has to know, if any was applied that says so.
async fn floor(db: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    match sqlx::query_scalar!("select version from schema_floor").fetch_optional(db).await {
        Err(error) if is_no_table(&error) => Ok(None),
        floor => floor,
    }
}

fn is_no_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42P01")
}
