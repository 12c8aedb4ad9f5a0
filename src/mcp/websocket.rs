//! MCP over WebSocket, as the SDKs speak it: the subprotocol `mcp`, one JSON-RPC message a text frame. It is not in the
//! specification; some servers have it.

use super::guard;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use reqwest::header::HeaderMap;
use reqwest_websocket::{Error, Message, Upgrade as _};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use std::time::Duration;

/// What can go wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The connection.
    #[error("{0}")]
    Socket(#[from] Error),
    /// The message cannot be written as JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Messages to and from the server.
pub(super) type Ends = (
    Box<dyn Sink<TxJsonRpcMessage<RoleClient>, Error = SocketError> + Send + Unpin>,
    Box<dyn Stream<Item = RxJsonRpcMessage<RoleClient>> + Send + Unpin>,
);

/// Opens a connection.
///
/// # Errors
/// The server is away, or does not upgrade.
pub(super) async fn open(url: &str, headers: HeaderMap, guarded: bool) -> anyhow::Result<Ends> {
    // A client of its own: only HTTP/1.1 can be upgraded, and the shared one agrees on HTTP/2 where a server offers it.
    let builder = if guarded { guard::builder() } else { reqwest::Client::builder() };
    let http = builder
        .http1_only()
        .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let answer = http.get(url).headers(headers).upgrade().protocols(["mcp"]).send().await?;
    let (write, read) = answer.into_websocket().await?.split();
    let write = write.sink_map_err(SocketError::from).with(|message: TxJsonRpcMessage<RoleClient>| {
        std::future::ready(serde_json::to_string(&message).map(Message::Text).map_err(SocketError::from))
    });
    // The end of the connection, however it comes, ends the session, which is then built anew.
    let messages = read
        .take_while(|frame| {
            std::future::ready(matches!(frame, Ok(frame) if !matches!(frame, Message::Close { .. })))
        })
        .filter_map(|frame| std::future::ready(frame.ok().and_then(|frame| read_frame(&frame))));
    Ok((Box::new(write), Box::new(messages)))
}

/// The message of a frame; pings and what is no message are passed over.
fn read_frame(frame: &Message) -> Option<RxJsonRpcMessage<RoleClient>> {
    let Message::Text(text) = frame else { return None };
    let message = serde_json::from_str(text);
    if message.is_err() {
        tracing::debug!(bytes = text.len(), "an MCP server sent a frame that is no message");
    }
    message.ok()
}
