//! The older HTTP+SSE transport (MCP 2024-11-05): an event stream from the server and one POST per message to it.

use super::events::events;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use rmcp::RoleClient;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::streamable_http_client::SseError as EventError;
use rmcp::transport::worker::{Worker, WorkerContext, WorkerQuitReason, WorkerSendRequest};
use sse_stream::Sse;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Errors of the transport. Messages contain no headers and no bodies.
#[derive(Debug, thiserror::Error)]
pub(super) enum SseError {
    /// The request could not be completed.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// The server answered with an error status.
    #[error("HTTP {0}")]
    Status(u16),
    /// The URL offers no event stream of this transport.
    #[error("{0}")]
    NoStream(&'static str),
    /// The stream violates the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// The transport is closed.
    #[error("the event stream is closed")]
    Closed,
    /// A task panicked.
    #[error("a transport task ended: {0}")]
    Join(tokio::task::JoinError),
}

/// A connection whose event stream is open.
pub(super) struct SseWorker {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    events: BoxStream<'static, Result<Sse, EventError>>,
    /// URL to which messages are posted.
    endpoint: Url,
}

impl SseWorker {
    /// Opens the event stream and waits until the server names the endpoint, within `limit` if set.
    pub(super) async fn open(
        http: reqwest::Client,
        url: Url,
        headers: HeaderMap,
        limit: Option<Duration>,
    ) -> Result<Self, SseError> {
        let opening = Self::begin(&http, &url, &headers);
        let (events, endpoint) = match limit {
            None => opening.await?,
            Some(limit) => timeout(limit, opening)
                .await
                .unwrap_or(Err(SseError::NoStream("it opened no event stream that names an endpoint")))?,
        };
        Ok(Self { http, url, headers, events, endpoint })
    }

    async fn begin(
        http: &reqwest::Client,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<(BoxStream<'static, Result<Sse, EventError>>, Url), SseError> {
        let open = http.get(url.clone()).headers(headers.clone()).header(ACCEPT, "text/event-stream");
        let response = open.send().await.map_err(|error| SseError::Http(error.without_url()))?;
        if !response.status().is_success() {
            return Err(SseError::Status(response.status().as_u16()));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(SseError::NoStream("its answer is no event stream"));
        }
        let mut events = events(response.bytes_stream(), None);
        loop {
            match events.next().await {
                Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => {
                    let endpoint = resolve(url, event.data.unwrap_or_default().trim())?;
                    return Ok((events, endpoint));
                }
                // No request was sent yet, so any message before the endpoint is ignored.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    return Err(SseError::NoStream("its event stream ended before it named an endpoint"));
                }
            }
        }
    }

    /// Sends one message; the answer arrives on the event stream.
    async fn post(http: reqwest::Client, endpoint: Url, headers: HeaderMap, send: WorkerSendRequest<Self>) {
        let WorkerSendRequest { message, responder, .. } = send;
        let sent = http
            .post(endpoint)
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .json(&message)
            .send();
        let outcome = match sent.await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(SseError::Status(response.status().as_u16())),
            Err(error) => Err(SseError::Http(error.without_url())),
        };
        // The receiver may have been dropped.
        let _ = responder.send(outcome);
    }
}

impl Worker for SseWorker {
    type Error = SseError;
    type Role = RoleClient;

    fn err_closed() -> Self::Error {
        SseError::Closed
    }

    fn err_join(error: tokio::task::JoinError) -> Self::Error {
        SseError::Join(error)
    }

    async fn run(mut self, mut context: WorkerContext<Self>) -> Result<(), WorkerQuitReason<SseError>> {
        let connecting = |error| WorkerQuitReason::fatal(error, "reading the event stream");
        let mut posts = JoinSet::new();
        loop {
            tokio::select! {
                () = context.cancellation_token.cancelled() => return Err(WorkerQuitReason::Cancelled),
                event = self.events.next() => {
                    let Some(Ok(event)) = event else { return Err(WorkerQuitReason::TransportClosed) };
                    let data = event.data.unwrap_or_default();
                    match event.event.as_deref() {
                        Some("endpoint") => self.endpoint = resolve(&self.url, data.trim()).map_err(connecting)?,
                        None | Some("message" | "") => {
                            match serde_json::from_str::<ServerJsonRpcMessage>(&data) {
                                Ok(message) => context.send_to_handler(message).await?,
                                Err(error) if !data.trim().is_empty() => {
                                    tracing::debug!(%error, "an event of an MCP server is not JSON-RPC and is left out");
                                }
                                Err(_) => {}
                            }
                        }
                        Some(_) => {}
                    }
                }
                message = context.from_handler_rx.recv() => {
                    let Some(message) = message else { return Err(WorkerQuitReason::HandlerTerminated) };
                    let (http, endpoint, headers) = (self.http.clone(), self.endpoint.clone(), self.headers.clone());
                    posts.spawn(Self::post(http, endpoint, headers, message));
                }
                Some(_) = posts.join_next() => {}
            }
        }
    }
}

/// Resolves the endpoint against the URL of the stream. Refuses another origin, which would receive the configured headers.
fn resolve(stream: &Url, endpoint: &str) -> Result<Url, SseError> {
    let endpoint = stream
        .join(endpoint)
        .map_err(|_| SseError::Protocol("the server named an endpoint that is no URL"))?;
    if endpoint.origin() == stream.origin() {
        Ok(endpoint)
    } else {
        Err(SseError::Protocol("the server named an endpoint on another origin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_stay_on_their_origin() {
        let stream = Url::parse("http://mcp:8080/a/sse").unwrap();
        assert_eq!(resolve(&stream, "/messages?s=1").unwrap().as_str(), "http://mcp:8080/messages?s=1");
        assert_eq!(resolve(&stream, "message").unwrap().as_str(), "http://mcp:8080/a/message");
        assert!(resolve(&stream, "http://evil/messages").is_err());
    }
}
