//! Clients for models: completions and embeddings of any OpenAI-compatible endpoint. Handles retries and differences
//! between servers; callers provide the prompts.

mod ask;
mod capabilities;
mod count;
mod embeddings;
mod failure;
mod meter;
mod openai;
mod property_order;
mod stream;
pub(crate) mod text_calls;
mod text_protocol;
mod wire;

pub use ask::{RecordedRequest, ask, request_hash};
pub use capabilities::{Capabilities, CapabilityCache};
pub(crate) use count::{message_tokens, tool_tokens};
pub use embeddings::EmbeddingClient;
pub use openai::{OpenAi, Probed};

use crate::budget::Account;
use crate::domain::{Message, ToolCall, ToolSpec, Usage};
use async_trait::async_trait;
use std::sync::Arc;

/// A request to a model.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Messages, oldest first; every tool call is answered before the next assistant message.
    pub messages: Vec<Message>,
    /// Available tools.
    pub tools: Arc<[ToolSpec]>,
    /// Which tools may be called.
    pub choice: ToolChoice,
    /// Account to charge, if any.
    pub account: Option<Arc<Account>>,
}

/// Which tools a model may call. The list of tools in the request stays the same, so that the provider's prompt cache stays
/// valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any tool or none; a text answer ends the run.
    #[default]
    Any,
    /// Any tool; only a call ends the run.
    Call,
    /// The model has to call this tool.
    Only(String),
    /// No tool; the model has to answer in text form.
    None,
}

impl ToolChoice {
    /// Returns the tool that has to be called, if any.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::Only(name) => Some(name),
            Self::Any | Self::Call | Self::None => None,
        }
    }

    /// Whether a tool call ends the run instead of a text answer.
    #[must_use]
    pub fn ends_by_call(&self) -> bool {
        matches!(self, Self::Call | Self::Only(_))
    }
}

/// Answer of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// Text of the answer; may be empty.
    pub text: String,
    /// Requested tool calls, each with a non-empty id unique within the completion.
    pub tool_calls: Vec<ToolCall>,
    /// Token usage; counted locally if the provider reports none.
    pub usage: Usage,
    /// Whether the output limit was reached.
    pub truncated: bool,
}

/// Why a completion failed, by required reaction of the caller. Messages contain no secrets and no prompt text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// All retries failed; a later request may succeed.
    #[error("the model did not answer after {attempts} attempts: {message}")]
    Unavailable {
        /// Number of attempts.
        attempts: u32,
        /// Message of the last failure.
        message: String,
    },
    /// The request does not fit the model's context.
    #[error("the request is too long for the model: {message}")]
    ContextTooLong {
        /// Message of the provider.
        message: String,
    },
    /// The request was not sent, because a budget is used up.
    #[error("{message}")]
    OverBudget {
        /// Which budget, as a message for people.
        message: String,
    },
    /// A retry will not succeed: invalid key, unknown model, or rejected request.
    #[error("the model refused the request: {message}")]
    Refused {
        /// HTTP status, if any.
        status: Option<u16>,
        /// Message of the provider.
        message: String,
    },
}

/// Part of an answer, as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionDelta<'a> {
    /// An attempt starts; discard the text of the previous attempt.
    Begun,
    /// Next piece of text.
    Text(&'a str),
}

/// Receives the parts of an answer.
pub type Listener<'a> = dyn Fn(CompletionDelta<'_>) + Send + Sync + 'a;

/// A model that completes conversations.
#[async_trait]
pub trait Model: Send + Sync {
    /// Model name of the provider, for records.
    fn name(&self) -> &str;

    /// Completes the history. Retries temporary failures.
    async fn complete(&self, request: &Request) -> Result<Completion, ModelError>;

    /// Completes the history and passes the text to `listener` as it arrives; all at once if the model does not stream.
    async fn complete_streaming(
        &self,
        request: &Request,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        listener(CompletionDelta::Begun);
        let completion = self.complete(request).await?;
        listener(CompletionDelta::Text(&completion.text));
        Ok(completion)
    }
}
