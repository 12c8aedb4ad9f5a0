//! A report under a lease: whoever works on it prolongs it, and finds it lost when another worker took the report over.

use super::step_error::StepError;
use crate::audit::Recorder;
use crate::config::Config;
use crate::db::reports::{self, Lease};
use crate::domain::Report;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

/// What a take-up may last beside its investigation: tools that are slow, a model and then the built-in analyst.
const SLACK: Duration = Duration::from_mins(15);

/// A report under our lease.
pub(super) struct LeasedReport<'a> {
    pub(super) report: &'a Report,
    pub(super) leads: bool,
    /// Since when its outcome is waited for.
    pub(super) since: DateTime<Utc>,
    /// Whether it is investigated although there is a conclusion.
    pub(super) anew: bool,
    pub(super) token: Uuid,
    /// Times the queue tried before.
    pub(super) retry: u32,
    /// What the take-up does.
    pub(super) recorder: Recorder,
    /// Set before we give the lease up ourselves: from then on that it is gone says nothing.
    pub(super) closing: AtomicBool,
}

impl LeasedReport<'_> {
    /// What follows gives the lease up, in a transaction that is about to be committed.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Prolongs the lease, or finds it lost.
    pub(super) async fn renew(&self, pool: &PgPool, length: Duration) -> Result<(), StepError> {
        let lease = Lease { token: self.token, length };
        if reports::renew(pool, self.report.id, lease).await? { Ok(()) } else { Err(StepError::Lost) }
    }

    /// The same within a transaction, which then holds the report's row.
    pub(super) async fn check(
        &self,
        transaction: &mut PgConnection,
        length: Duration,
    ) -> Result<(), StepError> {
        let lease = Lease { token: self.token, length };
        if reports::renew(transaction, self.report.id, lease).await? { Ok(()) } else { Err(StepError::Lost) }
    }
}

/// Prolongs the lease until it is lost, or until no take-up lasts that long: then one of its statements waits for an answer
/// over a connection that leads nowhere any more.
pub(super) async fn keep(pool: &PgPool, config: &Config, held: &LeasedReport<'_>) -> StepError {
    let third = config.queue.lease.max(Duration::from_secs(1)) / 3;
    let longest = config.agent.wall.saturating_mul(2).saturating_add(SLACK);
    let begun = Instant::now();
    let mut beat = tokio::time::interval(third);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    while begun.elapsed() < longest {
        beat.tick().await;
        // A database that is away for a moment is no reason to stop: the lease outlasts three beats.
        let renewed = tokio::time::timeout(third, held.renew(pool, config.queue.lease)).await;
        if matches!(renewed, Ok(Err(StepError::Lost))) && !held.closing.load(Ordering::Relaxed) {
            return StepError::Lost;
        }
    }
    StepError::Retry(format!("it was not done after {}", humantime::format_duration(longest)))
}
