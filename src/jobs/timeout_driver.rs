//! Database driver of the queue with a timeout for each statement. Without it, a statement on a dead connection, such as
//! after a failover to another host, could wait until the operating system closes the connection, if ever.

use crate::db;
use graphile_worker::{
    BoxFuture, Database, DatabaseDriver, DbError, DbExecutor, DbParams, DbRow, DbTransaction,
    NotificationStream,
};
use sqlx::PgPool;
use std::any::Any;

/// A pool whose statements fail after a timeout, which restarts the worker.
#[derive(Debug)]
pub(super) struct TimeoutDriver(Database);

impl TimeoutDriver {
    pub(super) fn with(pool: &PgPool) -> Database {
        Database::new(Self(Database::from(pool)))
    }
}

async fn limited<T>(work: BoxFuture<'_, Result<T, DbError>>) -> Result<T, DbError> {
    let late = |_| Err(DbError::new("the database did not answer in time"));
    tokio::time::timeout(db::CALL_TIMEOUT, work).await.unwrap_or_else(late)
}

impl DbExecutor for TimeoutDriver {
    fn execute<'a>(&'a self, sql: &'a str, params: DbParams) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(limited(self.0.execute(sql, params)))
    }

    fn fetch_all<'a>(&'a self, sql: &'a str, params: DbParams) -> BoxFuture<'a, Result<Vec<DbRow>, DbError>> {
        Box::pin(limited(self.0.fetch_all(sql, params)))
    }
}

impl DatabaseDriver for TimeoutDriver {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn begin(&self) -> BoxFuture<'_, Result<DbTransaction, DbError>> {
        Box::pin(limited(Box::pin(self.0.begin())))
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<NotificationStream>, DbError>> {
        Box::pin(limited(Box::pin(self.0.listen(channel))))
    }
}
