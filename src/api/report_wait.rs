//! Waits for the end of a report while a connection or call is open.

use crate::app::App;
use crate::events::Subscription;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Polling interval in case a notification is lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A wait for one report, up to the server's wait limit.
pub(super) struct ReportWait {
    deadline: Instant,
    subscription: Subscription,
    stop: CancellationToken,
}

impl ReportWait {
    /// Starts the wait. Subscribes before the first read, so that the end cannot be missed.
    pub(super) fn begin(app: &App, report: Uuid) -> Self {
        Self {
            deadline: Instant::now() + app.config.server.wait,
            subscription: app.notifier.subscribe(report),
            stop: app.shutdown.token().clone(),
        }
    }

    /// Waits until the report may have changed. Returns `false` after the time limit or when the server stops.
    pub(super) async fn next(&mut self) -> bool {
        let look = Instant::now() + LOOK_AGAIN;
        tokio::select! {
            () = self.subscription.wait() => {}
            () = sleep_until(look.min(self.deadline)) => {}
            () = self.stop.cancelled() => return false,
        }
        Instant::now() < self.deadline
    }
}
