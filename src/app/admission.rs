//! How much one process takes on at a time: answers in the making, reporters that wait, reports that are not over.

use crate::config::Limits;
use crate::db::{self, reports};
use sqlx::PgPool;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How old a count of reports may be while there is room, and when there seems to be none.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_WHEN_FULL: Duration = Duration::from_millis(250);

/// Lets work in as long as there is room.
#[derive(Debug)]
pub struct AdmissionControl {
    answers: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    max_waiting: i64,
    state: std::sync::Mutex<State>,
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    counted: Option<Counted>,
    /// Being stored right now.
    incoming: i64,
}

/// A report that is let in and being stored.
#[derive(Debug)]
pub struct Incoming<'a> {
    admission: &'a AdmissionControl,
    stored: bool,
}

/// Reports that are not over: as counted then, with those this process has accepted since.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Instant,
    reports: i64,
}

/// A place that is taken; free again when it is dropped.
pub type Slot = OwnedSemaphorePermit;

impl AdmissionControl {
    /// As much as the limits say.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self {
            answers: places(limits.answers),
            waits: places(limits.waits),
            max_waiting: limits.max_waiting,
            state: std::sync::Mutex::default(),
            counting: Mutex::default(),
        }
    }

    /// A place for one more answer.
    #[must_use]
    pub fn answer(&self) -> Option<Slot> {
        Arc::clone(&self.answers).try_acquire_owned().ok()
    }

    /// A place for one more reporter that waits for the outcome.
    #[must_use]
    pub fn wait(&self) -> Option<Slot> {
        Arc::clone(&self.waits).try_acquire_owned().ok()
    }

    /// Room for one more report, if there is any. Counted once a second, with what this process stores meanwhile: together, replicas
    /// may accept more than the limit by what each of the others accepts in a second.
    ///
    /// # Errors
    /// The database is away.
    pub async fn report(&self, pool: &PgPool) -> sqlx::Result<Option<Incoming<'_>>> {
        if self.max_waiting == i64::MAX {
            return Ok(Some(self.begin()));
        }
        // One counts; who comes meanwhile goes by the last count, so that a database that is away holds nobody up in a line.
        let counting = match self.counting.try_lock() {
            Ok(counting) => Some(counting),
            Err(_) if self.state().counted.is_some() => None,
            Err(_) => Some(self.counting.lock().await),
        };
        if counting.is_some() && !self.state().is_fresh(self.max_waiting) {
            let at = Instant::now();
            let reports = db::with_timeout(reports::active(pool, self.max_waiting)).await?;
            self.state().counted = Some(Counted { at, reports });
        }
        let has_room = self.state().reports() < self.max_waiting;
        Ok(has_room.then(|| self.begin()))
    }

    fn begin(&self) -> Incoming<'_> {
        self.state().incoming += 1;
        Incoming { admission: self, stored: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reports(&self) -> i64 {
        self.counted.map_or(0, |counted| counted.reports) + self.incoming
    }

    fn is_fresh(&self, limit: i64) -> bool {
        let fresh = if self.reports() < limit { FRESH } else { FRESH_WHEN_FULL };
        self.counted.is_some_and(|counted| counted.at.elapsed() < fresh)
    }
}

impl Incoming<'_> {
    /// It is stored, or was before.
    pub fn over(mut self, stored: bool) {
        self.stored = stored;
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.incoming -= 1;
        if let Some(counted) = state.counted.as_mut().filter(|_| self.stored) {
            counted.reports += 1;
        }
    }
}
