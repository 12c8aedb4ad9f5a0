//! The older HTTP+SSE transport (MCP 2024-11-05): `GET /sse` opens a stream that announces the session's URL; messages
//! are sent with `POST` to that URL, and responses arrive on the stream.

use super::{Shared, protocol};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// Maximum number of queued responses for a slow reader, after which its messages are blocked.
const BUFFER: usize = 64;

/// Open event streams by session.
pub(super) type Streams = Arc<Mutex<HashMap<Uuid, mpsc::Sender<String>>>>;

/// Removes the session when its stream ends.
struct Opened {
    session: Uuid,
    streams: Streams,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

pub(super) async fn open_stream(
    State(shared): State<Arc<Shared>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let opened = Opened { session: Uuid::new_v4(), streams: Arc::clone(&shared.streams) };
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session={}", opened.session));
    opened.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(opened.session, sender);
    let messages = ReceiverStream::new(receiver).map(move |text| {
        // Moved into the closure to live as long as the stream.
        let _lives = &opened;
        Event::default().event("message").data(text)
    });
    let events = futures::stream::once(async { endpoint }).chain(messages).map(Ok);
    let stop = shared.stop.clone();
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
pub(super) struct Session {
    session: Uuid,
}

pub(super) async fn take_message(
    State(shared): State<Arc<Shared>>,
    Query(Session { session }): Query<Session>,
    body: Bytes,
) -> Response {
    let stream = shared.streams.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned();
    let Some(stream) = stream else {
        return (StatusCode::NOT_FOUND, "no such session").into_response();
    };
    if let Some(answer) = protocol::answer(&shared.offer, &body)
        && stream.send(answer.to_string()).await.is_err()
    {
        return (StatusCode::NOT_FOUND, "the session's stream is closed").into_response();
    }
    (StatusCode::ACCEPTED, "Accepted").into_response()
}
