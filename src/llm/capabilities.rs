//! Detected capabilities of an endpoint, cached for the lifetime of the process.

use super::{Completion, Request, ToolChoice};
use crate::budget::Account;
use crate::domain::{Access, Message, ToolCalls, ToolSpec};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Tool and argument of the request that tests whether a model can call tools.
const TOOL: &str = "report_ready";
const WORD: &str = "green";

/// Detected capabilities of a model at an endpoint.
#[derive(Debug, Default)]
pub struct Capabilities {
    /// Optional parameters that the endpoint rejects: bits of [`super::wire::Optional`].
    refused: AtomicU8,
    /// Index in [`ToolCalls::ALL`] plus 1; 0 if unknown.
    calls: AtomicU8,
    /// Locked during detection.
    pub(super) finding: tokio::sync::Mutex<()>,
}

impl Capabilities {
    pub(super) fn refused(&self) -> u8 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Stores that a parameter is rejected. Returns `true` if this was not known.
    pub(super) fn refuses(&self, bit: u8) -> bool {
        self.refused.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub(super) fn calls(&self) -> Option<ToolCalls> {
        let place = usize::from(self.calls.load(Ordering::Relaxed)).checked_sub(1)?;
        ToolCalls::ALL.get(place).copied()
    }

    pub(super) fn calls_by(&self, way: ToolCalls) {
        let place = ToolCalls::ALL.iter().position(|known| *known == way).unwrap_or_default();
        self.calls.store(u8::try_from(place + 1).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Capabilities of the models of one endpoint, by model name.
#[derive(Debug, Default)]
pub struct CapabilityCache(Mutex<HashMap<String, Arc<Capabilities>>>);

impl CapabilityCache {
    /// Maximum number of cached models, because agents may specify any name.
    const MAX: usize = 1_000;

    /// Returns the capabilities of a model.
    #[must_use]
    pub fn of(&self, model: &str) -> Arc<Capabilities> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MAX && !known.contains_key(model) {
            return Arc::default();
        }
        Arc::clone(known.entry(model.to_owned()).or_default())
    }
}

/// Creates a request that tests whether tool calls work.
pub(super) fn question(account: Option<Arc<Account>>) -> Request {
    let word = json!({"type": "string", "description": "the word you were given"});
    let schema = json!({"type": "object", "properties": {"word": word}, "required": ["word"]});
    let tool = ToolSpec {
        name: TOOL.to_owned(),
        description: "Says that you are ready.".to_owned(),
        input_schema: Arc::new(schema),
        access: Access::Read,
    };
    let text = format!("This is a test of the connection. Call the tool {TOOL} with the word {WORD}.");
    Request {
        messages: vec![Message::User { text }],
        tools: [tool].into(),
        choice: ToolChoice::Call,
        account,
    }
}

/// Whether the model called the tool with valid arguments; `None` if it did not call it.
pub(super) fn shows(completion: &Completion) -> Option<bool> {
    let call = completion.tool_calls.iter().find(|call| call.name == TOOL)?;
    Some(serde_json::from_str::<Value>(&call.arguments).is_ok_and(|arguments| arguments["word"].is_string()))
}

/// Whether a message says that the model or server does not support tools. Covers Ollama, vLLM, llama.cpp, LiteLLM,
/// OpenRouter and OpenAI.
pub(super) fn refuses_tools(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "does not support tools",
        "does not support function calling",
        "does not support tool",
        "doesn't support tool",
        "tool use is not supported",
        "tools are not supported",
        "tools is not supported",
        "support tool use",
        "enable-auto-tool-choice",
        "tools param requires",
        "supplied: tools",
        "parameter: 'tools'",
        "parameters: ['tools'",
    ]
    .iter()
    .any(|words| message.contains(words))
}
