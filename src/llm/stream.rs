//! Assembles a completion from its chunks, independent of how a server splits them.

use super::Completion;
use super::failure::{Attempt, api_error};
use crate::domain::{ToolCall, Usage};
use serde_json::Value;

#[derive(Debug, Default)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// The part of an answer received so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    calls: Vec<Partial>,
    usage: Option<Usage>,
    finish: Option<String>,
}

impl Assembly {
    /// Text received so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing was received.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty() && self.usage.is_none()
    }

    /// Usage reported by the provider.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Returns everything the model wrote: text, and names and arguments of calls.
    pub(super) fn written(&self) -> String {
        let calls = self.calls.iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]);
        std::iter::once(self.text.as_str()).chain(calls).collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    /// Processes a chunk, or a complete answer of a server that does not stream.
    pub(super) fn take(&mut self, chunk: &Value) -> Result<(), Attempt> {
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Err(api_error(None, chunk));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            let number = |name: &str| usage[name].as_u64().unwrap_or(0);
            let usage = Usage {
                input_tokens: number("prompt_tokens"),
                output_tokens: number("completion_tokens"),
                cached_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
            };
            if usage.total() > 0 {
                self.usage = Some(usage);
            }
        }
        let choice = &chunk["choices"][0];
        for part in [&choice["delta"], &choice["message"]] {
            if let Some(text) = part["content"].as_str() {
                self.text.push_str(text);
            }
            for call in part["tool_calls"].as_array().into_iter().flatten() {
                self.take_call(call);
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
            self.finish = Some(reason.to_owned());
        }
        Ok(())
    }

    fn take_call(&mut self, call: &Value) {
        let index = call["index"].as_u64();
        let id = call["id"].as_str().unwrap_or_default();
        let name = call["function"]["name"].as_str().unwrap_or_default();
        let arguments = match &call["function"]["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            object => object.to_string(),
        };
        // A fragment belongs to the call with its index; without an index, to the last call, unless it has its own name.
        let known = match index {
            Some(_) => {
                let same = self.calls.iter_mut().rev().find(|known| known.index == index);
                // Some servers set the index of every call to 0; a different id and name indicate another call.
                same.filter(|known| {
                    name.is_empty()
                        || known.name.is_empty()
                        || id.is_empty()
                        || known.id == id
                        || known.id.is_empty()
                })
                .filter(|known| {
                    !(name == known.name
                        && !name.is_empty()
                        && is_whole(&known.arguments)
                        && is_whole(&arguments))
                })
            }
            None if name.is_empty()
                || (!id.is_empty() && self.calls.last().is_some_and(|last| last.id == id)) =>
            {
                self.calls.last_mut()
            }
            None => None,
        };
        let known = match known {
            Some(known) => known,
            None => {
                self.calls.push(Partial { index, ..Partial::default() });
                let last = self.calls.len() - 1;
                &mut self.calls[last]
            }
        };
        if known.id.is_empty() {
            id.clone_into(&mut known.id);
        }
        // Names arrive complete or in pieces; a repeated complete name is not a piece.
        if known.name != name {
            known.name.push_str(name);
        }
        known.arguments.push_str(&arguments);
    }

    /// Returns the completion at the end of the stream.
    pub(super) fn finish(self, usage: Usage) -> Result<Completion, Attempt> {
        if self.finish.is_none() {
            return Err(Attempt::retry("the answer broke off in the middle"));
        }
        let mut tool_calls: Vec<ToolCall> = Vec::new();
        for (position, call) in self.calls.into_iter().filter(|call| !call.name.is_empty()).enumerate() {
            let taken = tool_calls.iter().any(|known| known.id == call.id);
            let id = if call.id.is_empty() || taken {
                format!("call_{}_{position}", fastrand::u32(..))
            } else {
                call.id
            };
            tool_calls.push(ToolCall { id, name: call.name, arguments: call.arguments });
        }
        let truncated = self.finish.as_deref() == Some("length");
        Ok(Completion { text: self.text, tool_calls, usage, truncated })
    }
}

fn is_whole(arguments: &str) -> bool {
    serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assemble(deltas: &[Value]) -> Vec<(String, String)> {
        let mut assembly = Assembly::default();
        for delta in deltas {
            assembly.take(&json!({"choices": [{"delta": {"tool_calls": [delta]}}]})).unwrap();
        }
        assembly.take(&json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})).unwrap();
        let calls = assembly.finish(Usage::default()).unwrap().tool_calls;
        assert!(!calls.is_empty() && calls.iter().all(|call| !call.id.is_empty()));
        let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| &call.id).collect();
        assert_eq!(ids.len(), calls.len(), "ids are unique");
        calls.into_iter().map(|call| (call.name, call.arguments)).collect()
    }

    fn wanted() -> Vec<(String, String)> {
        vec![("a".into(), r#"{"x":1}"#.into()), ("b".into(), r#"{"y":2}"#.into())]
    }

    #[test]
    fn pieces_with_an_index() {
        let deltas = [
            json!({"index": 0, "id": "c1", "function": {"name": "a", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": "{\"x\""}}),
            json!({"index": 1, "id": "c2", "function": {"name": "b", "arguments": "{\"y\":2}"}}),
            json!({"index": 0, "function": {"arguments": ":1}"}}),
        ];
        assert_eq!(assemble(&deltas), wanted());
    }

    #[test]
    fn pieces_without_an_index() {
        let deltas = [
            json!({"id": "c1", "function": {"name": "a", "arguments": "{\"x\""}}),
            json!({"function": {"arguments": ":1}"}}),
            json!({"id": "c2", "function": {"name": "b", "arguments": "{\"y\":2}"}}),
        ];
        assert_eq!(assemble(&deltas), wanted());
    }

    #[test]
    fn whole_calls_with_empty_ids_and_the_same_index() {
        let deltas = [
            json!({"index": 0, "id": "", "function": {"name": "a", "arguments": "{\"x\":1}"}}),
            json!({"index": 0, "id": "", "function": {"name": "a", "arguments": "{\"x\":2}"}}),
        ];
        let calls = assemble(&deltas);
        assert_eq!(calls.len(), 2, "{calls:?}");
    }

    #[test]
    fn arguments_as_an_object() {
        let deltas = [json!({"index": 0, "id": "c", "function": {"name": "a", "arguments": {"x": 1}}})];
        assert_eq!(assemble(&deltas), [wanted()[0].clone()]);
    }

    #[test]
    fn a_stream_without_a_finish_reason_is_broken() {
        let mut assembly = Assembly::default();
        assembly.take(&json!({"choices": [{"delta": {"content": "hal"}}]})).unwrap();
        assert!(matches!(assembly.finish(Usage::default()), Err(Attempt::Retry { .. })));
    }
}
