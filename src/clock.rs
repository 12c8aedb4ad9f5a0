//! The one place that reads the time.

use chrono::{DateTime, Datelike as _, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The current time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Whether the database can hold a time: its years begin with 4713 BC.
#[must_use]
pub fn can_be_stored(time: DateTime<Utc>) -> bool {
    time.year() > -4712
}

/// When a piece of work began.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// The time, for the record.
    pub at: DateTime<Utc>,
    instant: Instant,
}

impl Started {
    /// It begins now.
    #[must_use]
    pub fn now() -> Self {
        Self { at: now(), instant: Instant::now() }
    }

    /// How long it has taken.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.instant.elapsed()
    }
}

/// The deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before the work was done")]
pub struct DeadlinePassed;

/// Until when a piece of work may go on. Loops over lines or chunks look at it; cloning shares it.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Option<Instant>,
    given_up: Arc<AtomicBool>,
}

impl Deadline {
    /// That far from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { at: Instant::now().checked_add(limit), given_up: Arc::default() }
    }

    /// Never: for whoever works for a person at a terminal, and for tests.
    #[must_use]
    pub fn never() -> Self {
        Self { at: None, given_up: Arc::default() }
    }

    /// Whether to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Lets the work go on until it is over.
    ///
    /// # Errors
    /// It is over.
    pub fn check(&self) -> Result<(), DeadlinePassed> {
        if self.is_over() { Err(DeadlinePassed) } else { Ok(()) }
    }

    /// The same, and at most that far from now.
    #[must_use]
    pub fn at_most(&self, limit: Duration) -> Self {
        let own = Self::within(limit).at;
        let at = [self.at, own].into_iter().flatten().min();
        Self { at, given_up: Arc::clone(&self.given_up) }
    }

    /// A guard that ends the deadline when it is dropped.
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
