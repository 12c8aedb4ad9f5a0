//! Graceful shutdown: one cancellation token for all tasks and one tracker that waits for them.

use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shutdown state shared by all long-lived components; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    leaving: CancellationToken,
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Creates an unused token and tracker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when the process should stop.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Returns whether a shutdown is announced or in progress, so that new work should go elsewhere.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled() || self.token.is_cancelled()
    }

    /// Spawns a task that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Cancels the token on SIGINT, `delay` after SIGTERM, or on the second signal. The delay gives load balancers time
    /// to stop sending requests.
    pub fn on_signals(&self, delay: Duration) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let (token, leaving) = (self.token.clone(), self.leaving.clone());
        // Not tracked by `finish`, because it may never end.
        let watch = async move {
            tokio::select! {
                _ = term.recv() => {
                    tracing::info!("SIGTERM: stopping");
                    leaving.cancel();
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        _ = term.recv() => {}
                        _ = int.recv() => {}
                        () = token.cancelled() => {}
                    }
                }
                _ = int.recv() => tracing::info!("interrupt: stopping"),
                () = token.cancelled() => {}
            }
            token.cancel();
        };
        self.tracker.spawn(watch);
        Ok(())
    }

    /// Cancels the token and waits at most `limit` for the tracked tasks. Returns whether all ended in time.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
