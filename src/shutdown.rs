//! Stopping: one token that everybody watches and one tracker that everybody is spawned on.

use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by all long-lived parts; cloning shares.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    leaving: CancellationToken,
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A token and a tracker that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when the process should stop.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether a stop is announced or under way: nothing new should be sent here.
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

    /// Fires the token on SIGINT, and so long after SIGTERM, or at the second signal: whoever sends requests here learns of the
    /// stop some time after us.
    pub fn on_signals(&self, delay: Duration) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let (token, leaving) = (self.token.clone(), self.leaving.clone());
        // Not awaited by `finish`: it may never end.
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

    /// Fires the token and waits for the tracked tasks, at most `limit`. Returns whether all ended in time.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
