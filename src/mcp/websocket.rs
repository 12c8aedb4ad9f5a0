//! MCP over WebSocket, as the SDKs implement it: subprotocol `mcp`, one JSON-RPC message per text frame. Not part of the
//! specification; some servers offer it.

use super::guard;
use super::oversize::{self, Incoming, MAX_MESSAGE};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use reqwest::header::HeaderMap;
use reqwest_websocket::{Error, Message, Upgrade as _};
use rmcp::RoleClient;
use rmcp::model::{ClientNotification, JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use std::collections::HashSet;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tungstenite::protocol::WebSocketConfig;

/// Maximum size of a frame. The WebSocket library buffers whole frames, so a larger frame ends the connection.
const MAX_FRAME: usize = 2 * MAX_MESSAGE;

/// Errors of a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The connection failed.
    #[error("{0}")]
    Socket(#[from] Error),
    /// The message cannot be serialized to JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Sink of messages to the server and stream of messages from it.
pub(super) type Ends = (
    Box<dyn Sink<TxJsonRpcMessage<RoleClient>, Error = SocketError> + Send + Unpin>,
    Box<dyn Stream<Item = RxJsonRpcMessage<RoleClient>> + Send + Unpin>,
);

/// Opens a connection.
///
/// # Errors
/// The server is unreachable or does not upgrade.
pub(super) async fn open(url: &str, headers: HeaderMap, guarded: bool) -> anyhow::Result<Ends> {
    // A separate client: only HTTP/1.1 can be upgraded, and the shared client negotiates HTTP/2.
    let builder = if guarded { guard::builder() } else { reqwest::Client::builder() };
    let http = builder
        .http1_only()
        .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
    let upgrade = http.get(url).headers(headers).upgrade().web_socket_config(limits).protocols(["mcp"]);
    let answer = upgrade.send().await?;
    let (write, read) = answer.into_websocket().await?.split();
    let asked = InFlightRequests::default();
    let awaited = asked.clone();
    let write = write.sink_map_err(SocketError::from).with(move |message: TxJsonRpcMessage<RoleClient>| {
        asked.sent(&message);
        ready(serde_json::to_string(&message).map(Message::Text).map_err(SocketError::from))
    });
    // Any end of the connection ends the session, which is then rebuilt.
    let messages = read.scan(false, move |is_over, frame| {
        ready(match frame {
            _ if *is_over => None,
            Ok(Message::Close { .. }) => None,
            Ok(frame) => {
                Some(read_frame(&frame).inspect(|message| awaited.came(message)).into_iter().collect())
            }
            Err(error) => {
                *is_over = true;
                let is_too_large = matches!(error, Error::Tungstenite(tungstenite::Error::Capacity(_)));
                Some(if is_too_large { awaited.too_large() } else { Vec::new() })
            }
        })
    });
    Ok((Box::new(write), Box::new(messages.flat_map(futures::stream::iter))))
}

/// Requests that wait for an answer.
#[derive(Clone, Default)]
struct InFlightRequests(Arc<Mutex<HashSet<RequestId>>>);

impl InFlightRequests {
    fn lock(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, message: &TxJsonRpcMessage<RoleClient>) {
        match message {
            JsonRpcMessage::Request(request) => drop(self.lock().insert(request.id.clone())),
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.lock().remove(id);
                }
            }
            _ => {}
        }
    }

    fn came(&self, message: &RxJsonRpcMessage<RoleClient>) {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        if let Some(id) = id {
            self.lock().remove(id);
        }
    }

    /// Fails all requests in flight: an oversized frame ends the connection, and which request it answers is unknown.
    fn too_large(&self) -> Vec<RxJsonRpcMessage<RoleClient>> {
        self.lock().drain().map(oversize::answer).collect()
    }
}

/// Parses the message of a frame; skips pings and invalid messages.
fn read_frame(frame: &Message) -> Option<RxJsonRpcMessage<RoleClient>> {
    let Message::Text(text) = frame else { return None };
    if text.len() > MAX_MESSAGE {
        let mut incoming = Incoming::new(MAX_MESSAGE);
        incoming.push(text.as_bytes());
        let oversize::Message::TooLarge(id) = incoming.take() else { return None };
        return id.map(oversize::answer);
    }
    let message = serde_json::from_str(text);
    if message.is_err() {
        tracing::debug!(bytes = text.len(), "an MCP server sent a frame that is no message");
    }
    message.ok()
}
