//! Errors that end the processing of a report early, and their consequences.

use crate::blocking::BlockingError;
use crate::db;
use tokio_util::sync::CancellationToken;

/// Error of a processing step.
#[derive(Debug)]
pub(super) enum StepError {
    /// Temporary error: retry later.
    Retry(String),
    /// Permanent error.
    Failed(String),
    /// Another worker has taken over the report.
    Lost,
    /// The server is shutting down.
    Stopping,
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Retry(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::Lost => f.write_str("another worker has the report"),
            Self::Stopping => f.write_str("the process stops"),
        }
    }
}

impl StepError {
    pub(super) fn from_ref(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) if !db::is_away(error.code().as_deref()) => {
                Self::Failed(format!("the database refused a statement: {}", error.message()))
            }
            other => Self::Retry(format!("the database is away: {other}")),
        }
    }
}

/// Runs long work without side effects until the server shuts down.
pub(super) async fn unless_stopped<T, E: Into<StepError>>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StepError> {
    tokio::select! {
        done = work => done.map_err(Into::into),
        () = cancel.cancelled() => Err(StepError::Stopping),
    }
}

impl From<BlockingError> for StepError {
    /// Temporary: the machine is overloaded, or the input was unusually expensive.
    fn from(error: BlockingError) -> Self {
        Self::Retry(format!("its evidence could not be worked through: {error}"))
    }
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        Self::from_ref(&error)
    }
}
