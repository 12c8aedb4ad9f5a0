//! The migrations of `migrations/`, embedded; files of a folder take the places of those that are not applied yet.

use super::queue;
use super::schema::{self, Schema};
use crate::overrides::replacements;
use anyhow::Context as _;
use sqlx::migrate::{Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, SqlSafeStr as _};
use std::path::Path;

static BUILT_IN: Migrator = sqlx::migrate!("./migrations");

/// What brings the schema up to date.
#[derive(Debug)]
pub struct Migrations(Migrator);

impl Default for Migrations {
    /// The built-in ones.
    fn default() -> Self {
        let mut migrator = Migrator::with_migrations(BUILT_IN.iter().cloned().collect());
        // What a newer version applied is judged by the floor it left.
        migrator.set_ignore_missing(true);
        Self(migrator)
    }
}

impl Migrations {
    /// The built-in ones, or the files of the folder that are named as they are.
    ///
    /// # Errors
    /// The folder cannot be read, or has a file that takes the place of none.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut migrations = Self::default();
        let Some(folder) = folder else { return Ok(migrations) };
        let names: Vec<String> = BUILT_IN.iter().map(file_name).collect();
        let all = migrations.0.migrations.to_mut();
        for file in replacements(folder, &names)? {
            if let Some(replaced) = all.iter_mut().find(|migration| file_name(migration) == file.name) {
                let no_tx = file.text.starts_with("-- no-transaction");
                // Whoever mounts files into the program's folder may run any program there, let alone a statement.
                let sql = AssertSqlSafe(file.text).into_sql_str();
                let description = replaced.description.clone();
                *replaced =
                    Migration::new(replaced.version, description, replaced.migration_type, sql, no_tx);
            }
        }
        Ok(migrations)
    }

    /// Which of them a database has.
    ///
    /// # Errors
    /// The database is away, or we may not read it.
    pub async fn schema(&self, db: &mut PgConnection) -> sqlx::Result<Schema> {
        schema::of(db, &self.0.migrations).await
    }

    /// Brings the schema up to date. Concurrent callers wait for each other on an advisory lock.
    ///
    /// # Errors
    /// The database is away, lacks pgvector, was migrated by a version that took away what this one needs, or with
    /// another text.
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

/// As in `migrations/`.
fn file_name(migration: &Migration) -> String {
    format!("{}_{}.sql", migration.version, migration.description.replace(' ', "_"))
}

#[cfg(test)]
mod unit {
    use super::*;

    /// Whether a program that was written before might miss something.
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
