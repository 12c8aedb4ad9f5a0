//! A single tool call: time-out, cancellation, and handling of a lost session.

use super::failure::Failure;
use super::listed::ListedTool;
use super::oversize::MAX_MESSAGE;
use super::recorded::RecordedCall;
use super::server::Server;
use crate::audit::Recorder;
use crate::domain::Access;
use crate::evidence::redact;
use crate::telemetry::trace;
use anstream::adapter::strip_str;
use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ResourceContents};
use rmcp::service::{Peer, ServiceError};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a call waits for a server that is reconnecting.
const RECONNECT: Duration = Duration::from_secs(3);
/// Maximum length of a result's text, in bytes.
const MAX_TEXT: usize = 32 << 20;

/// Maximum length of a tool's error message, in bytes.
const MAX_FAILURE: usize = 64 << 10;

/// Result of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// Text parts, joined. Parts that are not text are described in words.
    pub text: String,
    /// The tool reports that it failed.
    pub is_error: bool,
    /// Structured content, if the server sent any.
    pub structured: Option<Value>,
}

/// Reason why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no such tool.
    #[error("the MCP server `{server}` has no tool `{tool}`")]
    UnknownTool {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
    },
    /// The tool changed after the policy was evaluated.
    #[error("the tool `{tool}` of the MCP server `{server}` changed just now; it was not called")]
    Changed {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
    },
    /// The server takes callers' own tokens, and this caller has none.
    #[error(
        "the MCP server `{server}` is called with the own token of whoever asks, and there is none here: sign in with a token that it takes, and ask or decide yourself; the service's own rights are not lent"
    )]
    NoToken {
        /// Server.
        server: String,
    },
    /// The server is not connected.
    #[error("the MCP server `{server}` cannot be reached: {reason}")]
    NotConnected {
        /// Server.
        server: String,
        /// Last failure.
        reason: String,
    },
    /// No answer within the limit; the server was notified of the cancellation.
    #[error("`{tool}` of `{server}` did not answer within {limit}")]
    TimedOut {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
        /// The limit, formatted.
        limit: String,
    },
    /// The call was cancelled; the server was notified.
    #[error("the call was cancelled")]
    Cancelled,
    /// The session was lost during the call, which may have been carried out.
    #[error("the session with `{server}` was lost during `{tool}`; whether it was carried out is not known")]
    Lost {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
    },
    /// The call was carried out, but its result exceeds the limit. The session continues.
    #[error(
        "the result of `{tool}` of `{server}` is larger than {limit} MiB and was not taken; ask for less, for example with a smaller `tail`"
    )]
    TooLarge {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
        /// The limit, in MiB.
        limit: usize,
    },
    /// The server, or a proxy in front of it, refused the call.
    #[error("`{server}` refused `{tool}`: {message}")]
    Refused {
        /// Server.
        server: String,
        /// Tool.
        tool: String,
        /// Message of the refusal.
        message: String,
    },
}

enum Attempt {
    Done(CallResult),
    Failed(CallError),
    /// The request did not reach the server.
    NotSent(String),
}

/// Calls a tool and records the call for every caller.
pub(super) async fn call(
    server: &Arc<Server>,
    tool: &ListedTool,
    arguments: Value,
    recorder: &Recorder,
    cancel: &CancellationToken,
) -> Result<CallResult, CallError> {
    let called = RecordedCall::begin(recorder, &server.config.name, &tool.name, &arguments);
    let result = called.of(carry_out(server, tool, arguments, cancel)).await;
    match &result {
        Ok(result) if !result.is_error => called.returned(Ok(&result.text)),
        // The message of the tool is not recorded, since it may contain log lines.
        Ok(_) => called.returned(Err("the tool says that it failed")),
        Err(error) => called.returned(Err(&error.to_string())),
    }
    result
}

/// Retries once if the request did not reach the server, unless the tool changes something.
async fn carry_out(
    server: &Arc<Server>,
    tool: &ListedTool,
    arguments: Value,
    cancel: &CancellationToken,
) -> Result<CallResult, CallError> {
    let mut again = tool.access == Access::Read;
    loop {
        let peer = tokio::select! {
            peer = server.peer(RECONNECT) => peer,
            () = cancel.cancelled() => return Err(CallError::Cancelled),
        };
        let Some(peer) = peer else {
            return Err(not_connected(server));
        };
        match attempt(server, &peer, tool, arguments.clone(), cancel).await {
            Attempt::Done(result) => return Ok(result),
            Attempt::Failed(error) => return Err(error),
            Attempt::NotSent(reason) => {
                server.report_lost(&reason);
                if !again {
                    return Err(not_connected(server));
                }
                again = false;
            }
        }
    }
}

fn not_connected(server: &Server) -> CallError {
    let status = server.status();
    let reason = status.last_error.unwrap_or_else(|| "it has not answered yet".to_owned());
    CallError::NotConnected { server: status.name, reason }
}

async fn attempt(
    server: &Server,
    peer: &Peer<RoleClient>,
    tool: &ListedTool,
    arguments: Value,
    cancel: &CancellationToken,
) -> Attempt {
    let (server_name, tool_name) = (server.config.name.clone(), tool.name.clone());
    let mut params = CallToolRequestParams::new(tool.name.clone());
    params.arguments = match arguments {
        Value::Object(map) => Some(map),
        _ => None,
    };
    if let Some(traceparent) = trace::traceparent() {
        let meta = params.meta.get_or_insert_default();
        meta.insert(trace::TRACEPARENT.to_owned(), Value::String(traceparent));
    }
    let limit = server.config.call_timeout;
    // Dropping the future notifies the server (`notifications/cancelled`).
    let outcome = tokio::select! {
        outcome = peer.call_tool(params) => outcome,
        () = tokio::time::sleep(limit) => {
            let limit = humantime::format_duration(limit).to_string();
            return Attempt::Failed(CallError::TimedOut { server: server_name, tool: tool_name, limit });
        }
        () = cancel.cancelled() => return Attempt::Failed(CallError::Cancelled),
    };
    let error = match outcome {
        Ok(result) => match read(result) {
            Some(result) => return Attempt::Done(result),
            None => return Attempt::Failed(too_large(server, tool, MAX_TEXT)),
        },
        Err(error) => error,
    };
    // The session ended before this call was sent.
    if matches!(error, ServiceError::TransportClosed)
        && peer.is_transport_closed()
        && server.status().last_error.is_some()
    {
        return Attempt::NotSent("the session had ended".to_owned());
    }
    match Failure::of(&error) {
        Failure::NotReached(reason) => Attempt::NotSent(reason),
        Failure::Refused(message) | Failure::Protocol(message) => {
            Attempt::Failed(CallError::Refused { server: server_name, tool: tool_name, message })
        }
        Failure::TooLarge => Attempt::Failed(too_large(server, tool, MAX_MESSAGE)),
        Failure::Lost(reason) => {
            server.report_lost(&reason);
            Attempt::Failed(CallError::Lost { server: server_name, tool: tool_name })
        }
    }
}

fn too_large(server: &Server, tool: &ListedTool, limit: usize) -> CallError {
    CallError::TooLarge { server: server.config.name.clone(), tool: tool.name.clone(), limit: limit >> 20 }
}

/// Returns the result, or `None` if its text exceeds the limit: truncation would drop the end of a log, where the failure
/// is.
fn read(result: CallToolResult) -> Option<CallResult> {
    let parts: Vec<String> = result.content.iter().map(part).collect();
    let mut text = parts.join("\n");
    if text.is_empty()
        && let Some(structured) = &result.structured_content
    {
        text = structured.to_string();
    }
    if result.is_error.unwrap_or(false) {
        // A tool's error message goes into steps, evidence gaps and logs, and never needs to be long.
        let said = &text[..text.floor_char_boundary(MAX_FAILURE)];
        return Some(CallResult {
            text: redact::plain(&strip_str(said).to_string()),
            is_error: true,
            structured: None,
        });
    }
    let structured = result.structured_content;
    (text.len() <= MAX_TEXT).then_some(CallResult { text, is_error: false, structured })
}

/// Converts a content block to text; a block that is not text is described.
fn part(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => {
            format!("(an image, {}, {} bytes of base64)", image.mime_type, image.data.len())
        }
        ContentBlock::Audio(audio) => {
            format!("(audio, {}, {} bytes of base64)", audio.mime_type, audio.data.len())
        }
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            _ => "(a binary resource)".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("(a resource: {})", link.uri),
        _ => "(content of a kind this client does not know)".to_owned(),
    }
}
