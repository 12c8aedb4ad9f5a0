//! Embedded migrations of `migrations/`. Files of a folder may override those not applied yet.

use super::queue;
use super::schema::{self, Schema};
use crate::overrides::replacements;
use anyhow::Context as _;
use sqlx::migrate::{Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, SqlSafeStr as _};
use std::path::Path;

static BUILT_IN: Migrator = sqlx::migrate!("./migrations");

/// Migrations of the schema.
#[derive(Debug)]
pub struct Migrations(Migrator);

impl Default for Migrations {
    /// The built-in migrations.
    fn default() -> Self {
        let mut migrator = Migrator::with_migrations(BUILT_IN.iter().cloned().collect());
        // Migrations of a newer version are checked with the schema floor instead.
        migrator.set_ignore_missing(true);
        Self(migrator)
    }
}

impl Migrations {
    /// Loads the built-in migrations, overridden by files of the same name.
    ///
    /// # Errors
    /// Fails when the folder cannot be read, or a file matches no built-in migration.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut migrations = Self::default();
        let Some(folder) = folder else { return Ok(migrations) };
        let names: Vec<String> = BUILT_IN.iter().map(file_name).collect();
        let all = migrations.0.migrations.to_mut();
        for file in replacements(folder, &names)? {
            if let Some(replaced) = all.iter_mut().find(|migration| file_name(migration) == file.name) {
                let no_tx = file.text.starts_with("-- no-transaction");
                // Safe: whoever can mount files here can run arbitrary programs anyway.
                let sql = AssertSqlSafe(file.text).into_sql_str();
                let description = replaced.description.clone();
                *replaced =
                    Migration::new(replaced.version, description, replaced.migration_type, sql, no_tx);
            }
        }
        Ok(migrations)
    }

    /// Returns the migration state of a database.
    ///
    /// # Errors
    /// Fails when the database is unavailable or not readable.
    pub async fn schema(&self, db: &mut PgConnection) -> sqlx::Result<Schema> {
        schema::of(db, &self.0.migrations).await
    }

    /// Migrates the schema. Concurrent callers wait for each other on an advisory lock.
    ///
    /// # Errors
    /// Fails when the database is unavailable, lacks pgvector, was migrated by a version incompatible with this one, or
    /// has a migration with a different text.
    pub async fn run(&self, pool: &PgPool) -> anyhow::Result<()> {
        match self.schema(&mut *pool.acquire().await?).await? {
            Schema::Newer(version) => anyhow::bail!(
                "a newer Regreen migrated the database ({version}) and took away what this one needs: run that version, or restore the backup from before it"
            ),
            Schema::Fits { newer: Some(version), .. } => {
                tracing::warn!(
                    version,
                    "a newer Regreen migrated the database; this one still works with it"
                );
            }
            _ => {}
        }
        self.0.run(pool).await.context(
            "cannot bring the database schema up to date; if it says that extension \"vector\" is not available, install pgvector on the server",
        )?;
        queue::migrate(pool).await
    }
}

/// Returns the file name as in `migrations/`.
fn file_name(migration: &Migration) -> String {
    format!("{}_{}.sql", migration.version, migration.description.replace(' ', "_"))
}

#[cfg(test)]
mod unit {
    use super::*;

    /// Returns whether older programs might miss something that the migration removes.
    fn takes_away(sql: &str) -> bool {
        let code = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join(" ").to_lowercase();
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let has = |phrase: &[&str]| words.windows(phrase.len()).any(|found| found == phrase);
        [&["drop", "table"][..], &["drop", "column"], &["rename"], &["set", "not", "null"], &["type"]]
            .into_iter()
            .any(has)
    }

    #[test]
    fn what_takes_away_is_told_from_what_adds() {
        for sql in [
            "drop table if exists runs;",
            "alter table runs\n    DROP COLUMN analyst",
            "alter table runs rename analyst to model",
            "alter table runs alter column analyst set not null",
            "alter table runs alter analyst type bigint",
        ] {
            assert!(takes_away(sql), "{sql}");
        }
        for sql in
            ["alter table runs add column model text; drop index runs_by_end", "select 1 -- drop table runs"]
        {
            assert!(!takes_away(sql), "{sql}");
        }
    }

    #[test]
    fn a_migration_that_takes_away_keeps_older_programs_off() {
        for migration in BUILT_IN.iter().filter(|migration| migration.version > 20_261_122_000_020) {
            let raises = migration.sql.as_str().contains("update schema_floor set version");
            assert!(
                raises || !takes_away(migration.sql.as_str()),
                "{}: raise `schema_floor`, or take away a version later",
                file_name(migration)
            );
        }
    }
}
