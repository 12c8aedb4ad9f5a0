//! Bodies of requests: how slowly one may come, and how much all of them may hold in memory at the same time.

use super::problem::Problem;
use crate::config::Server;
use crate::shutdown::Shutdown;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// A body that gets this many bytes further may take a second longer.
const PACE: u32 = 64 * 1024;
/// Bodies up to this size are not counted: as many as there are connections fit.
const SMALL: usize = 64 * 1024;
/// What all others may hold together, in KiB.
const TOGETHER: usize = 512 * 1024;
/// How long the rest of a body is read that nobody wants.
const LINGER: Duration = Duration::from_secs(10);
/// Seconds after which a body that had no place may be sent again.
const AGAIN: u32 = 5;

/// What bodies may take.
#[derive(Clone)]
pub(super) struct Bodies {
    timeout: Duration,
    most: usize,
    /// KiB that are free.
    free: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Bodies {
    pub(super) fn new(server: &Server, shutdown: &Shutdown) -> Self {
        // The largest one has to fit.
        let together = TOGETHER.max(server.body_limit / 1024 + 1);
        let free = Arc::new(Semaphore::new(together));
        Self { timeout: server.body_timeout, most: server.body_limit, free, shutdown: shutdown.clone() }
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

    /// Reads what nobody wants, for a while: a client that is still sending would find its connection closed instead of the
    /// answer.
    fn drain(&self, mut unwanted: Paced) {
        let (most, stop) = (self.most.saturating_mul(2), self.shutdown.token().clone());
        let rest = async move { while unwanted.read <= most && unwanted.next().await.is_some() {} };
        self.shutdown.spawn(async move {
            // Whoever takes longer has had the time to read the answer.
            let _ = tokio::time::timeout(LINGER, stop.run_until_cancelled_owned(rest)).await;
        });
    }
}

/// Lets a request in when there is room for its body, and gives up on one that does not come.
pub(super) async fn bound(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    let needed = bodies.needed(request.headers());
    // Held until the request is answered: its body is part of what it works on.
    let Ok(_room) = bodies.free.try_acquire_many(needed) else {
        let unwanted = Paced::new(request.into_body(), bodies.timeout);
        bodies.drain(unwanted);
        let detail = "too many large requests are being read at the moment; send it again";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(AGAIN).into_response();
    };
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let paced = Arc::new(Mutex::new(Paced::new(body, bodies.timeout)));
    let stream = futures::stream::unfold(Arc::clone(&paced), async |paced| {
        let piece = paced.lock().await.next().await?;
        Some((piece, paced))
    });
    let response = next.run(Request::from_parts(parts, Body::from_stream(stream))).await;
    let Some(paced) = Arc::into_inner(paced).map(Mutex::into_inner) else { return response };
    if paced.late {
        let detail = "the body came too slowly; `server.body_timeout` says how long it may take";
        return Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response();
    }
    if !paced.over {
        bodies.drain(paced);
    }
    response
}

/// A body that has to keep its pace.
struct Paced {
    body: BodyDataStream,
    begun: Instant,
    timeout: Duration,
    /// Bytes so far.
    read: usize,
    /// Nothing more comes.
    over: bool,
    /// It fell behind.
    late: bool,
}

impl Paced {
    fn new(body: Body, timeout: Duration) -> Self {
        let body = body.into_data_stream();
        Self { body, begun: Instant::now(), timeout, read: 0, over: false, late: false }
    }

    /// The next piece, or an error where the body breaks off or falls behind.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        let more = u32::try_from(self.read).unwrap_or(u32::MAX) / PACE;
        let until = self.begun + self.timeout + Duration::from_secs(more.into());
        let piece = match tokio::time::timeout_at(until, self.body.next()).await {
            Ok(piece) => piece.map(|piece| piece.map_err(io::Error::other)),
            Err(_) => {
                self.late = true;
                Some(Err(io::ErrorKind::TimedOut.into()))
            }
        };
        match &piece {
            Some(Ok(bytes)) => self.read = self.read.saturating_add(bytes.len()),
            Some(Err(_)) | None => self.over = true,
        }
        piece
    }
}
