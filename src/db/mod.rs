//! All SQL as free functions over any executor, checked at compile time, and the private PostgreSQL server.

pub mod agents;
pub mod approvals;
pub mod audit;
pub mod condition;
pub mod conversations;
pub mod definitions;
pub mod documents;
pub mod embeddings;
pub mod events;
pub mod evidence;
pub mod fingerprints;
pub mod full_text;
pub mod incidents;
pub mod keys;
pub mod mcp_servers;
pub mod merges;
pub mod migrations;
pub mod notifications;
pub mod overview;
pub mod private;
pub mod prune;
pub mod queue;
pub mod recordings;
pub mod reinvestigate;
pub mod reports;
pub mod resolutions;
pub mod runs;
pub mod schema;
pub mod search_results;
pub mod sessions;
pub mod turns;
pub mod usage;

use anyhow::Context as _;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgExecutor, PgPool};
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Idle time after which a connection is tested before use.
const MAX_UNTESTED: Duration = Duration::from_secs(2);
/// Timeout of that test.
const TEST: Duration = Duration::from_secs(1);

/// Timeout of short database calls. Bounds the wait on a dead connection, for example after a failover to another host.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two attempts to reach the database.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Creates a lazily connecting pool.
#[must_use]
pub fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        // Shorter than client timeouts, so that an unavailable database results in a 503 instead of a hang.
        .acquire_timeout(Duration::from_secs(5))
        // A test before each use would double the round trips of a busy service.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Iterative scans continue until enough rows pass a filter. `ef_search` keeps recall within 0.02 of an
                // exact search.
                sqlx::raw_sql("set hnsw.iterative_scan = strict_order; set hnsw.ef_search = 120")
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        .before_acquire(|connection, use_of| {
            Box::pin(async move {
                if use_of.idle_for > MAX_UNTESTED {
                    // A short timeout, so that one acquisition can skip several dead connections.
                    let tested = timeout(TEST, connection.ping()).await;
                    tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // The pool tests a released connection without a timeout; a dead one would occupy its slot forever.
                let tested = timeout(TEST, connection.ping()).await;
                tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                Ok(true)
            })
        })
        .connect_lazy_with(options.application_name("regreen"))
}

/// Waits at most `limit` until the database accepts queries.
///
/// # Errors
/// Fails when the limit expires or the database rejects the connection.
pub async fn wait_until_ready(pool: &PgPool, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut said = false;
    loop {
        let Err(error) = ping(pool).await else { return Ok(()) };
        let error = reason(pool, error).await;
        let code = error.as_database_error().and_then(|error| error.code());
        let refused = code.as_deref().is_some_and(|code| !is_away(Some(code)) || code.starts_with("3D"));
        if refused {
            return Err(error)
                .context("the database refuses the connection; check `database.url` (DATABASE_URL)");
        }
        if Instant::now() >= deadline {
            let limit = humantime::format_duration(limit);
            return Err(error).context(format!(
                "the database did not answer within {limit}; check `database.url` (DATABASE_URL), or let a start wait longer with `database.wait`"
            ));
        }
        if !said {
            tracing::warn!(%error, "the database does not answer yet; waiting for it");
            said = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Finds the cause of a pool timeout: the pool retries and does not report connection errors.
async fn reason(pool: &PgPool, error: sqlx::Error) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match timeout(TEST, PgConnection::connect_with(&pool.connect_options())).await {
        Ok(Err(reason)) => reason,
        _ => error,
    }
}

/// Runs short database work with [`CALL_TIMEOUT`].
///
/// # Errors
/// Returns the error of the work, or `PoolTimedOut` on timeout.
pub async fn with_timeout<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(CALL_TIMEOUT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Parses a column value into its type.
fn decoded<T: FromStr>(name: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Checks that the database accepts queries.
///
/// # Errors
/// Fails when it does not.
pub async fn ping(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(r#"select 1 as "one!""#).fetch_one(db).await.map(|_| ())
}

/// Returns whether an SQLSTATE blames the server rather than the statement: connection, missing database, rollback,
/// resources, locks, operator intervention or system error. No code counts as such.
#[must_use]
pub fn is_away(code: Option<&str>) -> bool {
    code.is_none_or(|code| {
        ["08", "3D", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
    })
}
