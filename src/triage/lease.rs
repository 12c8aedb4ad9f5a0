//! Lease of a report. Its worker renews it, and stops when another worker has taken over the report.

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

/// Additional time of an attempt beyond the investigation, for slow tools, and for the rules analyst after a model.
const SLACK: Duration = Duration::from_mins(15);

/// A report whose lease this worker holds.
pub(super) struct LeasedReport<'a> {
    pub(super) report: &'a Report,
    pub(super) leads: bool,
    /// Start of the measured duration: creation of the report or its latest retry by a user.
    pub(super) since: DateTime<Utc>,
    /// Whether to investigate again despite an existing diagnosis.
    pub(super) anew: bool,
    pub(super) token: Uuid,
    /// Number of earlier attempts by the queue.
    pub(super) retry: u32,
    /// Records the audit events of the attempt.
    pub(super) recorder: Recorder,
    /// Set before this worker releases the lease. After that, a missing lease does not mean that it was lost.
    pub(super) closing: AtomicBool,
}

impl LeasedReport<'_> {
    /// Announces that the current transaction releases the lease.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Renews the lease. Returns an error if it is lost.
    pub(super) async fn renew(&self, pool: &PgPool, length: Duration) -> Result<(), StepError> {
        let lease = Lease { token: self.token, length };
        if reports::renew(pool, self.report.id, lease).await? { Ok(()) } else { Err(StepError::Lost) }
    }

    /// Renews the lease within a transaction, which then locks the report's row.
    pub(super) async fn check(
        &self,
        transaction: &mut PgConnection,
        length: Duration,
    ) -> Result<(), StepError> {
        let lease = Lease { token: self.token, length };
        if reports::renew(transaction, self.report.id, lease).await? { Ok(()) } else { Err(StepError::Lost) }
    }
}

/// Renews the lease until it is lost or the maximum duration of an attempt has passed, for example when a statement waits on
/// a dead connection.
pub(super) async fn keep(pool: &PgPool, config: &Config, held: &LeasedReport<'_>) -> StepError {
    let third = config.queue.lease.max(Duration::from_secs(1)) / 3;
    let longest = config.agent.wall.saturating_mul(2).saturating_add(SLACK);
    let begun = Instant::now();
    let mut beat = tokio::time::interval(third);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    while begun.elapsed() < longest {
        beat.tick().await;
        // A short database outage is no reason to stop: the lease lasts three intervals.
        let renewed = tokio::time::timeout(third, held.renew(pool, config.queue.lease)).await;
        if matches!(renewed, Ok(Err(StepError::Lost))) && !held.closing.load(Ordering::Relaxed) {
            return StepError::Lost;
        }
    }
    StepError::Retry(format!("it was not done after {}", humantime::format_duration(longest)))
}
