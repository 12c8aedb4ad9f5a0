//! Token counts of requests, computed without the provider.

use super::Request;
use crate::domain::{Message, ToolSpec};
use crate::evidence::tokens;

/// Additional tokens per message or tool.
pub(crate) const OVERHEAD: usize = 8;

/// Number of tokens of a message.
pub(crate) fn message_tokens(message: &Message) -> usize {
    let calls: usize = match message {
        Message::Assistant { tool_calls, .. } => {
            tool_calls.iter().map(|call| tokens::count(&call.name) + tokens::count(&call.arguments)).sum()
        }
        _ => 0,
    };
    OVERHEAD + tokens::count(message.text()) + calls
}

/// Number of tokens of a tool's description.
pub(crate) fn tool_tokens(tool: &ToolSpec) -> usize {
    OVERHEAD + tokens::count(&tool.description) + tokens::count(&tool.input_schema.to_string())
}

/// Number of tokens of a request.
pub(super) fn request_tokens(request: &Request) -> u64 {
    let messages: usize = request.messages.iter().map(message_tokens).sum();
    let tools: usize = request.tools.iter().map(tool_tokens).sum();
    u64::try_from(messages + tools).unwrap_or(u64::MAX)
}
