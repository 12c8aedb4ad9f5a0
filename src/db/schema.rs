//! The schema that a database has, against the migrations that this program knows. Nothing here changes it.

use sqlx::PgConnection;
use sqlx::migrate::{Migrate as _, MigrateError, Migration};

/// Where sqlx keeps what it applied.
const TABLE: &str = "_sqlx_migrations";

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
