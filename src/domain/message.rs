//! Messages exchanged with a model, independent of any provider's wire format.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One message of the history sent to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Instructions of the product; never shortened.
    System {
        /// The text.
        text: String,
    },
    /// Message of a person, or the triage brief.
    User {
        /// The text.
        text: String,
    },
    /// Answer of the model, with the tool calls it requested.
    Assistant {
        /// Free text; may be empty when there are tool calls.
        text: String,
        /// Tool calls in the order of the model.
        tool_calls: Vec<ToolCall>,
    },
    /// Result of exactly one tool call of the preceding assistant message.
    Tool {
        /// Id of the tool call.
        call_id: String,
        /// Name of the tool.
        name: String,
        /// Text shown to the model.
        text: String,
    },
}

impl Message {
    /// Text of the message, without tool calls.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::System { text }
            | Self::User { text }
            | Self::Assistant { text, .. }
            | Self::Tool { text, .. } => text,
        }
    }
}

/// A tool call requested by the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique within its assistant message; generated when the provider sends none.
    pub id: String,
    /// Tool name as offered to the model.
    pub name: String,
    /// Raw JSON text as the model wrote it; may be malformed.
    pub arguments: String,
}

/// Tokens a completion used, as the provider counted them or as estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens the model wrote.
    pub output_tokens: u64,
    /// Of the prompt's tokens, those the provider had in its cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the attribute wants it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// Sum of input and output tokens.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input_tokens + self.output_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
    }
}
