//! All SQL: free functions over any executor, checked at compile time. Also the private Postgres of a machine without one.

pub mod agents;
pub mod approvals;
pub mod audit;
pub mod conversations;
pub mod documents;
pub mod embeddings;
pub mod evidence;
pub mod hits;
pub mod incidents;
pub mod overview;
pub mod private;
pub mod queue;
pub mod reports;
pub mod resolutions;
pub mod runs;
pub mod servers;
pub mod turns;
pub mod words;

use anyhow::Context as _;
use sqlx::Connection as _;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::time::Duration;

/// The migrations of `migrations/`, embedded.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A connection that rested longer is tested before it is used.
const MAX_UNTESTED: Duration = Duration::from_secs(2);

/// A pool on these options; connects on first use.
#[must_use]
pub fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        // Shorter than any caller's patience: a database that is away is a 503, not a hang.
        .acquire_timeout(Duration::from_secs(5))
        // A question to the server before each use would double the round trips of a busy service.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A filter within a search for the nearest goes on until enough pass it; and the search looks at as many
                // neighbours as keep what it finds within two hundredths of what an exact one does.
                sqlx::raw_sql("set hnsw.iterative_scan = strict_order; set hnsw.ef_search = 120")
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        .before_acquire(|connection, use_of| {
            Box::pin(async move {
                if use_of.idle_for > MAX_UNTESTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.application_name("regreen"))
}

/// Brings the schema up to date. Concurrent callers wait for each other on an advisory lock.
///
/// # Errors
/// The database is away, lacks pgvector, or was migrated by a newer version.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    MIGRATIONS.run(pool).await.context(
        "cannot bring the database schema up to date; if it says that extension \"vector\" is not available, install pgvector on the server",
    )?;
    queue::migrate(pool).await
}

/// Whether the database answers.
///
/// # Errors
/// It does not.
pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query!(r#"select 1 as "one!""#).fetch_one(pool).await.map(|_| ())
}

/// Whether an SQLSTATE says that the server, and not the statement, is the trouble: connection, missing database,
/// rollback, resources, locks, operator intervention, system error.
#[must_use]
pub fn is_away(code: Option<&str>) -> bool {
    code.is_none_or(|code| {
        ["08", "3D", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
    })
}
