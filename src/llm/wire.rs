//! Request bodies in the format of the chat completions API.

use super::{Request, ToolChoice, text_protocol};
use crate::config::ModelEndpoint;
use crate::domain::{Message, ToolCalls};
use serde_json::{Value, json};

/// Parameters that some endpoints reject; omitted after a rejection.
pub(super) struct Optional;

impl Optional {
    const STREAM_OPTIONS: u8 = 1;
    const PARALLEL: u8 = 2;
    const TOOL_CHOICE: u8 = 4;
    const TEMPERATURE: u8 = 8;
    const MAX_TOKENS: u8 = 16;
    pub(super) const RESPONSE_FORMAT: u8 = 32;

    /// Returns the parameter that an error message names.
    pub(super) fn complained_about(message: &str) -> Option<u8> {
        let names = [
            ("stream_options", Self::STREAM_OPTIONS),
            ("parallel_tool_calls", Self::PARALLEL),
            ("tool_choice", Self::TOOL_CHOICE),
            ("temperature", Self::TEMPERATURE),
            ("max_tokens", Self::MAX_TOKENS),
            ("response_format", Self::RESPONSE_FORMAT),
            ("json_schema", Self::RESPONSE_FORMAT),
        ];
        names.iter().find(|(name, _)| message.contains(name)).map(|(_, bit)| *bit)
    }
}

/// Creates the body of a streaming request without the parameters in `refused`; `way` determines the format of tools.
pub(super) fn body(settings: &ModelEndpoint, request: &Request, way: ToolCalls, refused: u8) -> Value {
    let takes = |bit: u8| refused & bit == 0;
    let plain = matches!(way, ToolCalls::Schema | ToolCalls::Text);
    let messages = if plain {
        text_protocol::messages(request, way)
    } else {
        request.messages.iter().map(message).collect()
    };
    let mut body = json!({"model": settings.name, "stream": true, "messages": messages});
    if takes(Optional::STREAM_OPTIONS) {
        body["stream_options"] = json!({"include_usage": true});
    }
    if let Some(temperature) = settings.temperature.filter(|_| takes(Optional::TEMPERATURE)) {
        body["temperature"] = json!(temperature);
    }
    if let Some(limit) = settings.max_output_tokens {
        // Newer models of OpenAI accept only the new name, most others only the old one.
        let name = if takes(Optional::MAX_TOKENS) { "max_tokens" } else { "max_completion_tokens" };
        body[name] = json!(limit);
    }
    if plain {
        let asks = way == ToolCalls::Schema && takes(Optional::RESPONSE_FORMAT);
        if let Some(format) = asks.then(|| text_protocol::response_format(request)).flatten() {
            body["response_format"] = format;
        }
        return body;
    }
    if request.tools.is_empty() {
        return body;
    }
    let tools = request.tools.iter().map(|tool| {
        json!({"type": "function", "function": {
            "name": tool.name, "description": tool.description, "parameters": tool.input_schema}})
    });
    body["tools"] = tools.collect();
    if takes(Optional::PARALLEL) {
        body["parallel_tool_calls"] = json!(true);
    }
    let choice = match &request.choice {
        ToolChoice::Any | ToolChoice::Call => None,
        ToolChoice::Only(name) => Some(json!({"type": "function", "function": {"name": name}})),
        ToolChoice::None => Some(json!("none")),
    };
    if let Some(choice) = choice.filter(|_| takes(Optional::TOOL_CHOICE)) {
        body["tool_choice"] = choice;
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": text}),
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Tool { call_id, text, .. } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": text})
        }
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(|call| {
                // Some servers parse the arguments of earlier calls and reject invalid ones.
                let valid = serde_json::from_str::<Value>(&call.arguments).is_ok_and(|value| value.is_object());
                let arguments = if valid { call.arguments.as_str() } else { "{}" };
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
            });
            let content = if text.is_empty() { Value::Null } else { json!(text) };
            json!({"role": "assistant", "content": content, "tool_calls": calls.collect::<Value>()})
        }
    }
}
