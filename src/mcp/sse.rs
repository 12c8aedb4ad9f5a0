//! The older HTTP+SSE transport (MCP 2024-11-05): one event stream down, one POST per message up.

use super::events::events;
use futures::StreamExt as _;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use rmcp::RoleClient;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::worker::{Worker, WorkerContext, WorkerQuitReason, WorkerSendRequest};
use tokio::task::JoinSet;

/// What can go wrong; texts carry no header and no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum SseError {
    /// The request failed on the way.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// The server said no.
    #[error("HTTP {0}")]
    Status(u16),
    /// The stream is not what the protocol says.
    #[error("{0}")]
    Protocol(&'static str),
    /// The transport is closed.
    #[error("the event stream is closed")]
    Closed,
    /// A task panicked.
    #[error("a transport task ended: {0}")]
    Join(tokio::task::JoinError),
}

/// A connection to be.
pub(super) struct SseWorker {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl SseWorker {
    /// Sends one message; the answer comes over the stream.
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
        // Whoever asked may be gone.
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

    async fn run(self, mut context: WorkerContext<Self>) -> Result<(), WorkerQuitReason<SseError>> {
        let open =
            self.http.get(self.url.clone()).headers(self.headers.clone()).header(ACCEPT, "text/event-stream");
        let connecting = |error| WorkerQuitReason::fatal(error, "opening the event stream");
        let response = open.send().await.map_err(|error| connecting(SseError::Http(error.without_url())))?;
        if !response.status().is_success() {
            return Err(connecting(SseError::Status(response.status().as_u16())));
        }
        let mut events = events(response.bytes_stream(), None);
        let mut endpoint = None;
        let mut posts = JoinSet::new();
        loop {
            // Messages wait in the channel until the server has said where they go.
            tokio::select! {
                () = context.cancellation_token.cancelled() => return Err(WorkerQuitReason::Cancelled),
                event = events.next() => {
                    let Some(Ok(event)) = event else { return Err(WorkerQuitReason::TransportClosed) };
                    let data = event.data.unwrap_or_default();
                    match event.event.as_deref() {
                        Some("endpoint") => endpoint = Some(resolve(&self.url, data.trim()).map_err(connecting)?),
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
                message = context.from_handler_rx.recv(), if endpoint.is_some() => {
                    let Some(message) = message else { return Err(WorkerQuitReason::HandlerTerminated) };
                    if let Some(endpoint) = endpoint.clone() {
                        posts.spawn(Self::post(self.http.clone(), endpoint, self.headers.clone(), message));
                    }
                }
                Some(_) = posts.join_next() => {}
            }
        }
    }
}

/// The endpoint against the stream's URL. Another origin would get our headers, so it is refused.
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
