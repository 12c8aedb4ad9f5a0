//! Database checks: reachable, compatible, writable, and with a synchronised clock.

use super::finding::Finding;
use crate::config::Config;
use crate::db::condition::{self, Condition};
use crate::db::embeddings::{self, Space};
use crate::db::migrations::Migrations;
use crate::db::private::PrivatePostgres;
use crate::db::schema::Schema;
use crate::db::{keys, mcp_servers};
use crate::domain::ApiKey;
use crate::{app, clock};
use chrono::TimeDelta;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::time::Duration;
use tokio::time::timeout;

/// Connection timeout.
const CONNECT: Duration = Duration::from_secs(5);
/// Clock difference above which a warning is given.
const SKEW: TimeDelta = TimeDelta::seconds(5);
/// Clock tolerance of token validation; beyond it, valid tokens are rejected.
const GRACE: TimeDelta = TimeDelta::seconds(60);
/// First pgvector version with iterative index scans.
const VECTOR: (u32, u32) = (0, 8);

/// Findings, and data that other checks need.
#[derive(Default)]
pub(super) struct Database {
    pub(super) findings: Vec<Finding>,
    /// Settings of added MCP servers.
    pub(super) added: Vec<Value>,
    /// Embedding spaces.
    pub(super) spaces: Vec<Space>,
    /// Valid API keys, if known.
    pub(super) keys: Option<Vec<ApiKey>>,
}

impl Database {
    /// Creates the result of a check that failed or timed out.
    pub(super) fn late(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }

    pub(super) async fn look(config: &Config) -> Self {
        let options = match options(config).await {
            Ok(Some(options)) => options,
            Ok(None) => return Self::late(asleep(config)),
            Err(error) => {
                let finding = Finding::error("database", format!("{error:#}"));
                let advice = "set `database.url` (DATABASE_URL), or install PostgreSQL with pgvector";
                return Self::late(finding.advice(advice));
            }
        };
        let migrations = match Migrations::load(config.database.migrations.as_deref()) {
            Ok(migrations) => migrations,
            Err(error) => {
                let finding = Finding::error("migrations", format!("{error:#}"));
                return Self::late(
                    finding.advice("see what `database.migrations` (REGREEN_MIGRATIONS) names"),
                );
            }
        };
        let mut connection = match timeout(CONNECT, options.connect()).await {
            Ok(Ok(connection)) => connection,
            // A crash leaves the socket file behind.
            Ok(Err(sqlx::Error::Io(_))) if config.database.url.is_none() => {
                return Self::late(asleep(config));
            }
            Ok(Err(error)) => return Self::late(refused(&error)),
            Err(_) => {
                return Self::late(Finding::error("database", "does not answer within 5 s").advice(AWAY));
            }
        };
        let found = Self::of(&mut connection, &migrations).await;
        // An error on close has no consequence.
        drop(connection.close().await);
        found.unwrap_or_else(|error| Self::late(refused(&error)))
    }

    async fn of(db: &mut PgConnection, migrations: &Migrations) -> sqlx::Result<Self> {
        let condition = condition::of(db).await?;
        let schema = migrations.schema(db).await?;
        let migrations = applied(&schema, condition.may_create);
        let findings = vec![server(&condition, &schema), writing(&condition), migrations, time(db).await?];
        if !matches!(schema, Schema::Fits { .. }) {
            return Ok(Self { findings, ..Self::default() });
        }
        let now = clock::now();
        let mut keys = keys::list(&mut *db).await?;
        keys.retain(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now));
        Ok(Self {
            findings,
            added: mcp_servers::all(&mut *db).await?,
            spaces: embeddings::spaces(&mut *db).await?,
            keys: Some(keys),
        })
    }
}

fn asleep(config: &Config) -> Finding {
    let folder = config.database.data_dir.display();
    let says = format!("no private PostgreSQL runs in {folder}, and none is started for a look");
    Finding::note("database", says).advice("run `regreen serve`, then this once more")
}

async fn options(config: &Config) -> anyhow::Result<Option<PgConnectOptions>> {
    let database = &config.database;
    match app::database(config)? {
        Some(options) => Ok(Some(options.application_name("regreen doctor"))),
        None => PrivatePostgres::running(&database.data_dir, database.programs.as_deref()).await,
    }
}

const AWAY: &str = "see that it runs, that `database.url` (DATABASE_URL) names its host and port, and that nothing between refuses";

fn refused(error: &sqlx::Error) -> Finding {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    let advice = match code.as_str() {
        "28P01" | "28000" => {
            "see that user and password of `database.url` (DATABASE_URL) are right, and that pg_hba.conf lets them in"
        }
        "3D000" => "make the database, or name another one in `database.url` (DATABASE_URL)",
        "53300" => "raise max_connections of the server, or lower `database.max_connections`",
        "42501" => "grant the user of `database.url` all on the tables of its schema, or make it their owner",
        _ => AWAY,
    };
    Finding::error("database", format!("cannot be used: {error}")).advice(advice)
}

fn server(condition: &Condition, schema: &Schema) -> Finding {
    let Condition { version, vector, vector_offered, .. } = condition;
    let data = json!({ "postgres": version, "pgvector": vector, "pgvector_offered": vector_offered });
    let finding = match (vector, vector_offered) {
        (Some(vector), _) if is_old(vector) => Finding::error(
            "database",
            format!(
                "PostgreSQL {version} answers; its pgvector {vector} is older than {}.{}",
                VECTOR.0, VECTOR.1
            ),
        )
        .advice(
            "install a newer pgvector on the server, then `alter extension vector update` in the database",
        ),
        (Some(vector), _) => {
            Finding::ok("database", format!("PostgreSQL {version} answers, with pgvector {vector}"))
        }
        (None, Some(_)) if matches!(schema, Schema::Fits { .. }) => Finding::error(
            "database",
            format!("PostgreSQL {version} answers, but its pgvector was taken out of the database"),
        )
        .advice("bring the database back from a backup: with the extension went the vectors"),
        (None, Some(offered)) => Finding::note(
            "database",
            format!(
                "PostgreSQL {version} answers; pgvector {offered} is there and not yet part of the database"
            ),
        )
        .advice(
            "the first start makes it so; if it may not, let an administrator run `create extension vector`",
        ),
        (None, None) => {
            Finding::error("database", format!("PostgreSQL {version} answers, but has no pgvector"))
                .advice("install pgvector on the server (Debian: the package postgresql-NN-pgvector)")
        }
    };
    finding.data(data)
}

fn is_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) < VECTOR
}

fn applied(schema: &Schema, may_create: bool) -> Finding {
    match schema {
        Schema::Fits { ours, newer: None } => Finding::ok("migrations", format!("all {ours} are applied")),
        Schema::Fits { ours, newer: Some(newer) } => Finding::ok(
            "migrations",
            format!(
                "all {ours} are applied, and those of a newer Regreen up to {newer}, with which this one works"
            ),
        ),
        Schema::Lacks(lacks) => {
            let first = lacks.first().copied().unwrap_or_default();
            let says = format!("{} are not applied, the first is {first}", lacks.len());
            let advice = if may_create {
                "run `regreen migrate`, or start `regreen serve`, which does it too"
            } else {
                "grant the user create on its schema, then run `regreen migrate`"
            };
            Finding::error("migrations", says).advice(advice)
        }
        Schema::Newer(version) => Finding::error(
            "migrations",
            format!("a newer Regreen applied {version} and took away what this one needs"),
        )
        .advice("run that newer version; there is no way back but a backup from before it"),
        Schema::Differs(version) => Finding::error(
            "migrations",
            format!("{version} was applied with another text than this program has"),
        )
        .advice("run the build that made this database; a build from a branch may not share it"),
    }
}

fn writing(condition: &Condition) -> Finding {
    if condition.read_only {
        let says = "refuses to write: it follows another server, or is set to read only";
        let advice =
            "name the primary in `database.url` (DATABASE_URL), or turn default_transaction_read_only off";
        return Finding::error("database", says).advice(advice);
    }
    match &condition.closed {
        Some(table) => Finding::error("database", format!("its user may not write the table `{table}`"))
            .advice("grant it select, insert, update and delete on all tables, or make it their owner"),
        None if !condition.may_create => Finding::note(
            "database",
            "may be written, but its user may make no tables: a newer Regreen cannot migrate it",
        )
        .advice("grant the user create on its schema before an upgrade"),
        None => Finding::ok("database", "may be written, and migrated by a newer Regreen"),
    }
}

async fn time(db: &mut PgConnection) -> sqlx::Result<Finding> {
    let before = clock::now();
    let theirs = condition::clock(db).await?;
    let after = clock::now();
    // The server read its clock between the two readings; the midpoint is the best estimate.
    let skew = before + (after - before) / 2 - theirs;
    let data = json!({ "skew_ms": skew.num_milliseconds() });
    let apart = humantime::format_duration(Duration::from_secs(skew.num_seconds().unsigned_abs()));
    let way = if skew < TimeDelta::zero() { "behind" } else { "ahead of" };
    let says = format!("this machine's clock is {apart} {way} the database's");
    let advice = "let both machines keep their time by NTP (chrony, systemd-timesyncd)";
    Ok(match skew.abs() {
        skew if skew > GRACE => {
            Finding::error("clock", format!("{says}: tokens that are good are refused")).advice(advice)
        }
        skew if skew > SKEW => Finding::warning("clock", says).advice(advice),
        skew => Finding::ok("clock", format!("within {} ms of the database's", skew.num_milliseconds() + 1)),
    }
    .data(data))
}
