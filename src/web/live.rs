//! `/live`: says that lists changed, so that pages read them anew. However many pages listen, nothing is looked for.

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

/// How long changes gather before a page is told.
const GATHER: Duration = Duration::from_millis(150);
/// How long a page is left in peace: it reads its list anew for each telling.
const REST: Duration = Duration::from_secs(1);

/// A page that listens.
struct Listener {
    lists: watch::Receiver<()>,
    stop: CancellationToken,
    /// When it was told last.
    told: Option<Instant>,
}

pub(super) async fn changes(State(app): State<Arc<App>>) -> Response {
    let (lists, stop) = (app.notifier.subscribe_lists(), app.shutdown.token().clone());
    let changes = futures::stream::unfold(Listener { lists, stop, told: None }, |mut page| async {
        // What happened while it was not listening is read at once.
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
