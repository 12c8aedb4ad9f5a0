//! Bounded pool of blocking threads for work that takes more than a few milliseconds. The work checks a deadline
//! between lines or chunks. Async threads stay free for health checks, signals and leases.

use crate::clock::{Deadline, DeadlinePassed};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Minimum number of threads: a search that uses up its time must not block a report.
const LEAST: usize = 2;

/// Reason for a missing result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// The deadline passed while the work was queued or running.
    #[error("it took longer than {}", humantime::format_duration(*.limit))]
    Overran {
        /// Time limit.
        limit: Duration,
    },
    /// The work panicked; the panic hook has logged the reason.
    #[error("an internal error broke it off")]
    Panicked,
}

/// A shared pool handle; clones share the threads.
#[derive(Debug, Clone)]
pub struct BlockingPool {
    all: usize,
    threads: Arc<Semaphore>,
    /// One permit less than the number of threads.
    all_but_one: Arc<Semaphore>,
    leaves_one: bool,
    waiting: Arc<AtomicUsize>,
}

impl Default for BlockingPool {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(LEAST, NonZeroUsize::get);
        Self::new(cores.max(LEAST))
    }
}

impl BlockingPool {
    /// Creates a pool with this number of threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            all: threads,
            threads: Arc::new(Semaphore::new(threads)),
            all_but_one: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            leaves_one: false,
            waiting: Arc::default(),
        }
    }

    /// Returns a handle for work whose duration is controlled by others, such as a search for a model's pattern. All
    /// such work together leaves one thread free for essential work.
    #[must_use]
    pub fn leaving_one(&self) -> Self {
        Self { leaves_one: true, ..self.clone() }
    }

    /// Returns the number of queued jobs.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns the number of running jobs.
    #[must_use]
    pub fn working(&self) -> usize {
        self.all - self.threads.available_permits()
    }

    /// Waits for a free thread.
    async fn thread(&self) -> Option<(Option<OwnedSemaphorePermit>, OwnedSemaphorePermit)> {
        let _waits = Waits::begin(&self.waiting);
        let allowed = match self.leaves_one {
            true => Some(Arc::clone(&self.all_but_one).acquire_owned().await.ok()?),
            false => None,
        };
        Some((allowed, Arc::clone(&self.threads).acquire_owned().await.ok()?))
    }

    /// Runs work on a thread as soon as one is free. The deadline includes the time in the queue and passes at once when the
    /// caller is dropped. The thread stays occupied until the work has ended.
    ///
    /// # Errors
    /// See [`BlockingError`]. The work receives its deadline to check; a result after the deadline is discarded.
    pub async fn run<T, F>(&self, limit: Duration, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&Deadline) -> T + Send + 'static,
    {
        let deadline = Deadline::within(limit);
        let overran = BlockingError::Overran { limit };
        // Dropped with the caller, so that running work sees its deadline passed.
        let _given_up = deadline.clone().over_on_drop();
        let bounded = async {
            let thread = self.thread().await.ok_or(overran)?;
            let own = deadline.clone();
            let done = tokio::task::spawn_blocking(move || {
                let _thread = thread;
                work(&own)
            });
            done.await.map_err(|_| BlockingError::Panicked)
        };
        let result = tokio::time::timeout(limit, bounded).await.map_err(|_| overran)??;
        if deadline.is_over() { Err(overran) } else { Ok(result) }
    }

    /// Runs work that stops by itself at its deadline.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub async fn run_checked<T, F>(&self, limit: Duration, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce(&Deadline) -> Result<T, DeadlinePassed> + Send + 'static,
    {
        self.run(limit, work).await?.map_err(|DeadlinePassed| BlockingError::Overran { limit })
    }
}

/// Counts a queued job until dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn work_that_overruns_is_answered_and_sees_its_deadline() {
        let pool = BlockingPool::new(1);
        let (told, heard) = mpsc::channel();
        let limit = Duration::from_millis(20);
        let overran = pool
            .run(limit, move |deadline| {
                while !deadline.is_over() {
                    std::thread::yield_now();
                }
                told.send(()).unwrap();
            })
            .await;
        assert_eq!(overran, Err(BlockingError::Overran { limit }));
        heard.recv().unwrap();
        assert_eq!(pool.run(LONG, |_| 7).await, Ok(7), "its thread is free again");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends() {
        let pool = BlockingPool::new(1);
        let (told, heard) = mpsc::channel();
        let (begun, mut begins) = tokio::sync::oneshot::channel();
        let work = pool.run(LONG, move |deadline| {
            begun.send(()).unwrap();
            while !deadline.is_over() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
        });
        tokio::select! {
            _ = work => panic!("it ends only when nobody waits"),
            begun = &mut begins => begun.unwrap(),
        }
        heard.recv().unwrap();
    }

    #[tokio::test]
    async fn work_of_a_length_that_others_decide_leaves_a_thread() {
        let pool = BlockingPool::new(2);
        let (release, released) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let searches = pool.leaving_one();
        let long = searches.run(LONG, move |_| {
            begun.send(()).unwrap();
            released.recv().unwrap();
        });
        let meanwhile = async {
            begins.await.unwrap();
            let limit = Duration::from_millis(20);
            assert_eq!(searches.run(limit, |_| 7).await, Err(BlockingError::Overran { limit }));
            assert_eq!(pool.run(LONG, |_| 7).await, Ok(7));
            release.send(()).unwrap();
        };
        let (long, ()) = tokio::join!(long, meanwhile);
        long.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_takes_no_thread_away() {
        let pool = BlockingPool::new(1);
        let broken: Result<(), _> = pool.run(LONG, |_| panic!("for the test")).await;
        assert_eq!(broken, Err(BlockingError::Panicked));
        assert_eq!(pool.run(LONG, |_| 7).await, Ok(7));
    }
}
