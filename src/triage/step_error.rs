//! Why a step of a report's way ends early, and what follows from it.

use crate::blocking::BlockingError;
use crate::db;
use tokio_util::sync::CancellationToken;

/// Why the way of a report stops before its end.
#[derive(Debug)]
pub(super) enum StepError {
    /// A moment later it may work.
    Retry(String),
    /// It never will.
    Failed(String),
    /// Another worker has the report.
    Lost,
    /// The process stops.
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

/// Long work that changes nothing, given up when the process stops.
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
    /// The machine is overloaded, or somebody made the work very long: a later try may end.
    fn from(error: BlockingError) -> Self {
        Self::Retry(format!("its evidence could not be worked through: {error}"))
    }
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        Self::from_ref(&error)
    }
}
