//! The only module that reads the clock.

use chrono::{DateTime, Datelike as _, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Returns the current time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Returns whether the database can store a time: PostgreSQL timestamps begin in 4713 BC.
#[must_use]
pub fn can_be_stored(time: DateTime<Utc>) -> bool {
    time.year() > -4712
}

/// Start of a unit of work.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Wall-clock time, for records.
    pub at: DateTime<Utc>,
    instant: Instant,
}

impl Started {
    /// Starts now.
    #[must_use]
    pub fn now() -> Self {
        Self { at: now(), instant: Instant::now() }
    }

    /// Returns the elapsed time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.instant.elapsed()
    }
}

/// Error of work that exceeded its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before the work was done")]
pub struct DeadlinePassed;

/// Deadline of a unit of work, checked by loops over lines or chunks. Clones share their cancellation.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Option<Instant>,
    given_up: Arc<AtomicBool>,
}

impl Deadline {
    /// Creates a deadline `limit` from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { at: Instant::now().checked_add(limit), given_up: Arc::default() }
    }

    /// Creates a deadline that never passes, for commands at a terminal and for tests.
    #[must_use]
    pub fn never() -> Self {
        Self { at: None, given_up: Arc::default() }
    }

    /// Returns whether to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Checks the deadline.
    ///
    /// # Errors
    /// Fails when the deadline has passed.
    pub fn check(&self) -> Result<(), DeadlinePassed> {
        if self.is_over() { Err(DeadlinePassed) } else { Ok(()) }
    }

    /// Returns the earlier of this deadline and `limit` from now.
    #[must_use]
    pub fn at_most(&self, limit: Duration) -> Self {
        let own = Self::within(limit).at;
        let at = [self.at, own].into_iter().flatten().min();
        Self { at, given_up: Arc::clone(&self.given_up) }
    }

    /// Returns a guard that ends the deadline when dropped.
    #[must_use]
    pub fn over_on_drop(self) -> OverOnDrop {
        OverOnDrop(self)
    }
}

/// Ends a [`Deadline`] when it is dropped.
#[derive(Debug)]
pub struct OverOnDrop(Deadline);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}
