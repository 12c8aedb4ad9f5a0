//! Models: what any OpenAI-compatible endpoint completes; beside it the endpoint's embeddings.
//! Prompts are left to the use cases; retries and wire tolerance are dealt with here.

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

/// What a model is asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// History, oldest first; every tool call is answered before the next assistant message.
    pub messages: Vec<Message>,
    /// Tools it may call.
    pub tools: Arc<[ToolSpec]>,
    /// Which of them.
    pub choice: ToolChoice,
    /// What it is charged to, if anybody keeps account.
    pub account: Option<Arc<Account>>,
}

/// Which tools a model may call now. The list it is told stays the same: a provider keeps what it read of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any, or none: an answer in words ends the run.
    #[default]
    Any,
    /// Any; a call ends the run.
    Call,
    /// It has to call this one.
    Only(String),
    /// None: it has to answer.
    None,
}

impl ToolChoice {
    /// The name of the one tool that has to be called.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::Only(name) => Some(name),
            Self::Any | Self::Call | Self::None => None,
        }
    }

    /// Whether a call ends the run, and not an answer in words.
    #[must_use]
    pub fn ends_by_call(&self) -> bool {
        matches!(self, Self::Call | Self::Only(_))
    }
}

/// What a model answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// Free text, maybe empty.
    pub text: String,
    /// Calls it wants made, each with a non-empty id unique in this completion.
    pub tool_calls: Vec<ToolCall>,
    /// Tokens used; estimated when the provider says nothing.
    pub usage: Usage,
    /// Cut off by the output limit.
    pub truncated: bool,
}

/// Why a completion failed, in the arms a caller chooses by. Messages carry no secrets and no prompt text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Every retry was used up; another moment it may work.
    #[error("the model did not answer after {attempts} attempts: {message}")]
    Unavailable {
        /// Attempts made.
        attempts: u32,
        /// Last failure in words.
        message: String,
    },
    /// The request does not fit the model's context.
    #[error("the request is too long for the model: {message}")]
    ContextTooLong {
        /// What the provider said.
        message: String,
    },
    /// The request was not sent: a limit of what may be spent is reached.
    #[error("{message}")]
    OverBudget {
        /// Which one, in words for people.
        message: String,
    },
    /// Asking again will not help: bad key, unknown model, refused request.
    #[error("the model refused the request: {message}")]
    Refused {
        /// HTTP status, when there was one.
        status: Option<u16>,
        /// What the provider said.
        message: String,
    },
}

/// What is heard of an answer while it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionDelta<'a> {
    /// An attempt begins; what was heard of the attempt before does not count.
    Begun,
    /// The next piece of free text.
    Text(&'a str),
}

/// Who listens.
pub type Listener<'a> = dyn Fn(CompletionDelta<'_>) + Send + Sync + 'a;

/// Something that completes a conversation.
#[async_trait]
pub trait Model: Send + Sync {
    /// Name for records: the provider's model name.
    fn name(&self) -> &str;

    /// Completes the history. Retries by itself what is worth retrying.
    async fn complete(&self, request: &Request) -> Result<Completion, ModelError>;

    /// Completes the history and lets `listener` hear the text as it comes; whole at the end, where nothing is streamed.
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
