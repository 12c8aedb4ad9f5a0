//! `/live`: notifies pages that lists changed, so that they reload them. Needs no polling, whatever the number of open
//! pages.

use crate::api::chat::unbuffered;
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt as _;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long changes are collected before a page is notified.
const GATHER: Duration = Duration::from_millis(150);
/// Minimum interval between two notifications of a page, which reloads its list each time.
const REST: Duration = Duration::from_secs(1);

/// A page that listens for changes.
struct Listener {
    lists: watch::Receiver<()>,
    stop: CancellationToken,
    /// Time of the last notification.
    told: Option<Instant>,
}

pub(super) async fn changes(State(app): State<Arc<App>>) -> Response {
    let (lists, stop) = (app.notifier.subscribe_lists(), app.shutdown.token().clone());
    let changes = futures::stream::unfold(Listener { lists, stop, told: None }, |mut page| async {
        // The first notification is immediate, for changes while the page was not listening.
        if let Some(told) = page.told {
            let changed = async {
                page.lists.changed().await.ok()?;
                sleep_until((Instant::now() + GATHER).max(told + REST)).await;
                page.lists.mark_unchanged();
                Some(())
            };
            tokio::select! {
                changed = changed => changed?,
                () = page.stop.cancelled() => return None,
            }
        }
        page.told = Some(Instant::now());
        Some((Event::default().event("changed").data("now"), page))
    });
    unbuffered(Sse::new(changes.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()))
}
