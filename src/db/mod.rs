//! All SQL: free functions over any executor, checked at compile time. Also the private Postgres of a machine without one.

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

/// A connection that rested longer is tested before it is used.
const MAX_UNTESTED: Duration = Duration::from_secs(2);
/// Longest wait for that.
const TEST: Duration = Duration::from_secs(1);

/// Longest wait for what a database that is there answers at once. A connection that leads nowhere, as after a failover to
/// another machine, is no longer waited for then.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause between two looks for a database that does not answer yet.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
                    // Soon, so that one acquisition gets past several that lead nowhere.
                    let tested = timeout(TEST, connection.ping()).await;
                    tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // The pool itself asks here too, without a limit: one that leads nowhere would keep its place for ever.
                let tested = timeout(TEST, connection.ping()).await;
                tested.map_err(|_| sqlx::Error::PoolTimedOut)??;
                Ok(true)
            })
        })
        .connect_lazy_with(options.application_name("regreen"))
}

/// Waits until the database answers, at most `limit`.
///
/// # Errors
/// It does not, or it does and refuses us.
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

/// What is behind a wait for a connection that came to nothing: the pool tries again and does not say.
async fn reason(pool: &PgPool, error: sqlx::Error) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match timeout(TEST, PgConnection::connect_with(&pool.connect_options())).await {
        Ok(Err(reason)) => reason,
        _ => error,
    }
}

/// Work on the database that is answered at once, or counts as done on one that is away.
///
/// # Errors
/// Those of the work, and `PoolTimedOut` when no answer comes in time.
pub async fn with_timeout<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(CALL_TIMEOUT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// A name that a column holds, as its type.
fn decoded<T: FromStr>(name: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Whether the database answers.
///
/// # Errors
/// It does not.
pub async fn ping(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(r#"select 1 as "one!""#).fetch_one(db).await.map(|_| ())
}

/// Whether an SQLSTATE says that the server, and not the statement, is the trouble: connection, missing database,
/// rollback, resources, locks, operator intervention, system error.
#[must_use]
pub fn is_away(code: Option<&str>) -> bool {
    code.is_none_or(|code| {
        ["08", "3D", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
    })
}
