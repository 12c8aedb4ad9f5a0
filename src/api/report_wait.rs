//! Waits for a report's end, for whoever holds a connection or a call open.

use crate::app::App;
use crate::events::Subscription;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a waiter looks by itself, should an announcement be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A wait for one report, for as long as the server lets its clients wait.
pub(super) struct ReportWait {
    deadline: Instant,
    subscription: Subscription,
    stop: CancellationToken,
}

impl ReportWait {
    /// From before the first look on: the report's end cannot be missed.
    pub(super) fn begin(app: &App, report: Uuid) -> Self {
        Self {
            deadline: Instant::now() + app.config.server.wait,
            subscription: app.notifier.subscribe(report),
            stop: app.shutdown.token().clone(),
        }
    }

    /// Waits until something may have happened to the report: true then, false when it takes too long or the server stops.
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
