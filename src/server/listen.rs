//! Accepts connections: maximum number, time limit for request headers, and graceful shutdown.

use super::progress::Progress;
use crate::config::Server;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use http_body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Pause after a failed `accept`, for example without free file descriptors.
const OUT_OF_FILES: Duration = Duration::from_millis(200);

/// How long a connection may take to complete a started request during shutdown.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Maximum time for which a peer may read nothing of what it is sent.
pub(super) const UNREAD: Duration = Duration::from_secs(30);

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    connections: usize,
    header: Duration,
}

impl Limits {
    /// Returns the configured limits, with at most half of the open files that the process may have as connections.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        let files =
            getrlimit(Resource::Nofile).current.map(|files| usize::try_from(files).unwrap_or(usize::MAX));
        let most = files.map_or(usize::MAX, |files| (files / 2).max(1));
        if most < server.max_connections {
            tracing::info!(
                most,
                "fewer connections than `server.max_connections`: they are half of the open files allowed"
            );
        }
        Self { connections: server.max_connections.min(most), header: server.header_timeout }
    }
}

/// Serves a listener until `stop` fires and all earlier requests are answered.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header);
    let connections = TaskTracker::new();
    // Built once: otherwise routes with missing state would be built for each connection.
    let router: Router = router.with_state(());
    loop {
        let accepted = async {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { std::future::pending().await };
            (accept(&listener).await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let answering = Arc::new(());
        let counted = Arc::downgrade(&answering);
        let router = router.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = tower::service_fn(move |request| {
            let (answer, held) = (router.clone().oneshot(request), Arc::clone(&answering));
            async move {
                answer.await.map(|response| response.map(|inner| Body::new(Answer { inner, _held: held })))
            }
        });
        let connection = builder
            .serve_connection_with_upgrades(
                TokioIo::new(Progress::new(stream, UNREAD)),
                TowerToHyperService::new(service),
            )
            .into_owned();
        let stop = stop.clone();
        connections.spawn(async move {
            let mut connection = Box::pin(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            // Graceful shutdown would wait for a connection with an incomplete header.
            let silent = async {
                loop {
                    tokio::time::sleep(LAST_WORDS).await;
                    // The service itself holds one reference.
                    if counted.strong_count() <= 1 {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = connection.as_mut() => {}
                () = silent => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Response body that counts as in progress until it is written.
struct Answer {
    inner: Body,
    _held: Arc<()>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Returns the next connection. Retries if the client has disconnected or no file descriptor is free.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without this, small responses wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(OUT_OF_FILES).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_gives_its_place_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        // More than the socket buffers hold.
        let router = Router::new().route("/large", get(|| async { vec![0_u8; 64 << 20] }));
        let limits = Limits { connections: 1, header: Duration::from_secs(75) };
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            (stream, String::from_utf8_lossy(&answer).into_owned())
        };
        let clients = async {
            let begun = Instant::now();
            let (_unread, answer) = ask("/large").await;
            assert_eq!(answer, "HTTP/1.1 200");
            assert_eq!(ask("/small").await.1, "HTTP/1.1 404", "it got the only place");
            assert!((UNREAD..UNREAD * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
            stop.cancel();
        };
        tokio::join!(serve(listener, router, limits, stop.clone()), clients);
    }
}
