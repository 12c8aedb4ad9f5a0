//! `/live`: says that lists changed, so that pages read them anew.

use crate::app::App;
use crate::db::overview;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked; reports that end are heard of at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a stream of changes knows.
struct Watch {
    app: Arc<App>,
    ended: tokio::sync::broadcast::Receiver<uuid::Uuid>,
    stop: CancellationToken,
    seen: Option<String>,
}

pub(super) async fn changes(
    State(app): State<Arc<App>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (ended, stop) = (app.outcomes.subscribe(), app.shutdown.token().clone());
    let watch = Watch { app, ended, stop, seen: None };
    let changes = futures::stream::unfold(watch, |mut watch| async {
        loop {
            // A database that is away changes nothing that could be shown.
            if let Ok(pulse) = overview::pulse(&watch.app.pool).await
                && watch.seen.replace(pulse.clone()).is_none_or(|seen| seen != pulse)
            {
                return Some((Event::default().event("changed").data("now"), watch));
            }
            tokio::select! {
                _ = watch.ended.recv() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = watch.stop.cancelled() => return None,
            }
        }
    });
    Sse::new(changes.map(Ok)).keep_alive(KeepAlive::default())
}
