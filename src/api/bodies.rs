//! Request bodies: minimum transfer rate, maximum size per route, and buffering within the memory for bodies after the
//! caller is authorized.

use super::body_memory::{Memory, Room, Senders};
use super::client::Key;
use super::problem::Problem;
use super::route_terms::RouteTerms;
use crate::config::Server;
use crate::shutdown::Shutdown;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Number of bytes for which a body gets another second.
const PACE: u32 = 64 * 1024;
/// How long an unread body is drained.
const LINGER: Duration = Duration::from_secs(10);
/// Maximum number of bytes drained, in multiples of the largest body.
const MOST_UNWANTED: usize = 16;
/// Seconds after which a body that found no memory may be sent again.
const AGAIN: u32 = 5;
/// Initial buffer for a body, in bytes.
const FIRST: usize = 8 * 1024;

/// Limits on request bodies.
#[derive(Clone)]
pub(crate) struct Bodies {
    timeout: Duration,
    most: usize,
    memory: Memory,
    shutdown: Shutdown,
}

impl Bodies {
    pub(crate) fn new(server: &Server, shutdown: &Shutdown) -> Self {
        let memory = Memory::new(server.body_limit);
        Self { timeout: server.body_timeout, most: server.body_limit, memory, shutdown: shutdown.clone() }
    }

    /// Drains an unread body for a limited time: otherwise a client that is still sending would see a closed connection
    /// instead of the response.
    fn drain(&self, mut unwanted: Paced) {
        let (most, stop) = (self.most.saturating_mul(MOST_UNWANTED), self.shutdown.token().clone());
        let rest = async move { while unwanted.read <= most && unwanted.next().await.is_some() {} };
        self.shutdown.spawn(async move {
            // A slower client has had enough time to read the response.
            let _ = tokio::time::timeout(LINGER, stop.run_until_cancelled_owned(rest)).await;
        });
    }
}

/// Guard of the memory that a request body holds, for handlers that continue without it.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemoryGuard(Arc<std::sync::Mutex<Option<Room>>>);

impl BodyMemoryGuard {
    fn new(room: Room) -> Self {
        Self(Arc::new(std::sync::Mutex::new(Some(room))))
    }

    /// Releases the memory; nothing of the body may be held any more.
    pub(super) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Aborts bodies that arrive too slowly, and drains unread ones.
pub(crate) async fn bound(State(bodies): State<Bodies>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(bodies.clone());
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

/// Reads the body of an authorized request. The memory is reserved until the response is ready.
pub(crate) async fn read(terms: RouteTerms, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(bodies) = parts.extensions.get::<Bodies>().cloned() else {
        let detail = "nobody said what bodies may take";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response();
    };
    let told = length(&parts.headers);
    let most = terms.body.bytes(bodies.most);
    if told.is_some_and(|told| told > most) {
        return terms.body.refusal(bodies.most).into_response();
    }
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let senders = if terms.role.is_some() { Senders::Guarded } else { Senders::Open };
    let address = parts.extensions.get::<Key>().cloned();
    let address = address.unwrap_or(Key::Address(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let mut room = bodies.memory.room(senders, address);
    let whole = whole(body.into_data_stream(), told, most, &mut room).await;
    let refused = match whole {
        Ok(whole) => {
            // Parsed values usually live as long as the request.
            let held = BodyMemoryGuard::new(room);
            parts.extensions.insert(held.clone());
            let response = next.run(Request::from_parts(parts, Body::from(whole))).await;
            held.release();
            return response;
        }
        Err(refused) => refused,
    };
    let problem = match refused {
        BodyError::TooLarge => terms.body.refusal(bodies.most),
        BodyError::NoRoom => {
            let detail = "too many large requests are being read at the moment; send it again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(AGAIN)
        }
        BodyError::Broken => Problem::new(StatusCode::BAD_REQUEST, "the body could not be read"),
    };
    problem.into_response()
}

/// Returns the `Content-Length` of a request.
fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Reason why a body was not read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyError {
    TooLarge,
    NoRoom,
    Broken,
}

/// Reads the whole body. Reserves memory for received bytes, not for the announced length; at most twice as much.
async fn whole(
    mut pieces: BodyDataStream,
    told: Option<usize>,
    most: usize,
    room: &mut Room,
) -> Result<Bytes, BodyError> {
    let (mut whole, end) = (Vec::new(), told.unwrap_or(most));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        let needed = whole.len() + piece.len();
        if needed > most {
            return Err(BodyError::TooLarge);
        }
        if needed > whole.capacity() {
            let capacity = (whole.capacity() * 2).clamp(FIRST, end.max(FIRST)).max(needed);
            if !room.grow_to(capacity) {
                return Err(BodyError::NoRoom);
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Bytes::from(whole))
}

/// A body with a minimum transfer rate.
struct Paced {
    body: BodyDataStream,
    begun: Instant,
    timeout: Duration,
    /// Bytes read so far.
    read: usize,
    /// The body has ended.
    over: bool,
    /// The body was too slow.
    late: bool,
}

impl Paced {
    fn new(body: Body, timeout: Duration) -> Self {
        let body = body.into_data_stream();
        Self { body, begun: Instant::now(), timeout, read: 0, over: false, late: false }
    }

    /// Returns the next chunk, or an error if the body breaks off or is too slow.
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
