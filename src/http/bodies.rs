//! Bodies of requests: how slowly one may come, and how much all of them may hold in memory at the same time.

use super::problem::Problem;
use crate::config::Server;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use futures::StreamExt as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A body that gets this many bytes further may take a second longer.
const PACE: u32 = 64 * 1024;
/// Bodies up to this size are not counted: as many as there are connections fit.
const SMALL: usize = 64 * 1024;
/// What all others may hold together, in KiB.
const TOGETHER: usize = 512 * 1024;
/// Seconds after which a body that had no place may be sent again.
const AGAIN: u32 = 5;

/// What bodies may take.
#[derive(Clone)]
pub(super) struct Bodies {
    timeout: Duration,
    most: usize,
    /// KiB that are free.
    free: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new(server: &Server) -> Self {
        // The largest one has to fit.
        let together = TOGETHER.max(server.body_limit / 1024 + 1);
        let free = Arc::new(Semaphore::new(together));
        Self { timeout: server.body_timeout, most: server.body_limit, free }
    }

    /// KiB to be kept for a request; one that does not tell its size may be as large as any.
    fn needed(&self, headers: &HeaderMap) -> u32 {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let chunked = headers.contains_key(header::TRANSFER_ENCODING);
        let bytes: usize = told.unwrap_or(if chunked { self.most } else { 0 });
        // No more than that is read of a larger one, which is then refused.
        let bytes = bytes.min(self.most);
        if bytes <= SMALL { 0 } else { u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX) }
    }
}

/// Lets a request in when there is room for its body, and gives up on one that does not come.
pub(super) async fn bound(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    let needed = bodies.needed(request.headers());
    // Held until the request is answered: its body is part of what it works on.
    let Ok(_room) = bodies.free.try_acquire_many(needed) else {
        let detail = "too many large requests are being read at the moment; send it again";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(AGAIN).into_response();
    };
    let late = Arc::new(AtomicBool::new(false));
    let (parts, mut body) = request.into_parts();
    if !body.is_end_stream() {
        body = Body::from_stream(paced(body, bodies.timeout, Arc::clone(&late)));
    }
    let response = next.run(Request::from_parts(parts, body)).await;
    if late.load(Ordering::Relaxed) {
        let detail = "the body came too slowly; `server.body_timeout` says how long it may take";
        return Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response();
    }
    response
}

/// The body, or an error where it falls behind.
fn paced(body: Body, timeout: Duration, late: Arc<AtomicBool>) -> impl Stream<Item = io::Result<Bytes>> {
    let begun = Instant::now();
    futures::stream::unfold((body.into_data_stream(), 0_usize, false), move |(mut body, read, over)| {
        let late = Arc::clone(&late);
        async move {
            if over {
                return None;
            }
            let more = u32::try_from(read).unwrap_or(u32::MAX) / PACE;
            let until = begun + timeout + Duration::from_secs(more.into());
            match tokio::time::timeout_at(until, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => {
                    let read = read.saturating_add(bytes.len());
                    Some((Ok(bytes), (body, read, false)))
                }
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), (body, read, true))),
                Err(_) => {
                    late.store(true, Ordering::Relaxed);
                    Some((Err(io::ErrorKind::TimedOut.into()), (body, read, true)))
                }
            }
        }
    })
}
