//! Read-only comparison of a database's schema with the migrations of this program.

use sqlx::PgConnection;
use sqlx::migrate::{Migrate as _, MigrateError, Migration};

/// Table in which sqlx records applied migrations.
const TABLE: &str = "_sqlx_migrations";

/// State of the schema relative to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// All migrations are applied, possibly with compatible ones of a newer program.
    Fits {
        /// Number of this program's migrations.
        ours: usize,
        /// Last migration of a newer program.
        newer: Option<i64>,
    },
    /// These migrations are not applied; `serve`, `work` and `migrate` apply them.
    Lacks(Vec<i64>),
    /// A newer program applied this migration and removed something that this program uses.
    Newer(i64),
    /// This migration was applied with a different text.
    Differs(i64),
}

/// Determines the state of the schema.
///
/// # Errors
/// Fails when the database is unavailable or not readable.
pub async fn of(db: &mut PgConnection, ours: &[Migration]) -> sqlx::Result<Schema> {
    let applied = match db.list_applied_migrations(TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_no_table(&error) => Vec::new(),
        Err(MigrateError::Execute(error)) => return Err(error),
        Err(other) => return Err(sqlx::Error::Protocol(other.to_string())),
    };
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

/// Returns the newest migration that a compatible program must know, if recorded.
async fn floor(db: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    match sqlx::query_scalar!("select version from schema_floor").fetch_optional(db).await {
        Err(error) if is_no_table(&error) => Ok(None),
        floor => floor,
    }
}

fn is_no_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42P01")
}
