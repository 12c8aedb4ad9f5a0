//! `/live`: says that lists changed, so that pages read them anew. However many pages listen, the database is looked at once.

use crate::api::chat::ungathered;
use crate::app::App;
use crate::db::overview;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt as _;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a page asks; reports that end are heard of at once.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How old an answer may be that a page gets when nothing was heard of.
const FRESH: Duration = Duration::from_millis(700);

/// What was seen last, and when it was looked at.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<(Instant, Arc<str>)>>);

impl Pulse {
    /// What the lists depend on, looked at no earlier than then. Who comes meanwhile waits for the same look.
    async fn since(&self, app: &App, then: Instant) -> sqlx::Result<Arc<str>> {
        let mut last = self.0.lock().await;
        if let Some((_, seen)) = last.as_ref().filter(|(at, _)| *at >= then) {
            return Ok(Arc::clone(seen));
        }
        let at = Instant::now();
        let seen: Arc<str> = overview::pulse(&app.pool).await?.into();
        *last = Some((at, Arc::clone(&seen)));
        Ok(seen)
    }
}

/// What a stream of changes knows.
struct Watch {
    app: Arc<App>,
    pulse: Arc<Pulse>,
    ended: tokio::sync::broadcast::Receiver<uuid::Uuid>,
    stop: CancellationToken,
    /// What it wants to know is at least as new.
    then: Instant,
    seen: Option<Arc<str>>,
}

pub(super) async fn changes(
    State(app): State<Arc<App>>,
    Extension(pulse): Extension<Arc<Pulse>>,
) -> Response {
    let (ended, stop) = (app.outcomes.subscribe(), app.shutdown.token().clone());
    let watch = Watch { app, pulse, ended, stop, then: Instant::now(), seen: None };
    let changes = futures::stream::unfold(watch, |mut watch| async {
        loop {
            // A database that is away changes nothing that could be shown.
            if let Ok(pulse) = watch.pulse.since(&watch.app, watch.then).await
                && watch.seen.replace(Arc::clone(&pulse)).is_none_or(|seen| seen != pulse)
            {
                return Some((Event::default().event("changed").data("now"), watch));
            }
            watch.then = tokio::select! {
                _ = watch.ended.recv() => Instant::now(),
                () = tokio::time::sleep(ASK_EVERY) => Instant::now() - FRESH,
                () = watch.stop.cancelled() => return None,
            };
        }
    });
    ungathered(Sse::new(changes.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()))
}
