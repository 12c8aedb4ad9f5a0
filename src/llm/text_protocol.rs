//! Tool calls for models or servers without native support: the system prompt describes the tools, the answer contains a
//! call as a JSON object, and the next message contains the result. If the server supports it, a schema constrains the
//! answer to these calls.

use super::property_order::{asked, ordered};
use super::text_calls;
use super::{Completion, Request, ToolChoice};
use crate::domain::{Message, ToolCall, ToolCalls, ToolSpec};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Maximum characters of a text and items of a list in a constrained answer, if the tool's schema sets no limit.
const MAX_LENGTH: u32 = 400;
const MAX_ITEMS: u32 = 4;
/// Maximum depth of described schemas.
const MAX_DEPTH: usize = 5;
/// Name of the call for a text answer, if a schema constrains every answer.
const ANSWER: &str = "answer";

/// Converts the history to plain messages. Joins adjacent messages of one role, because many templates require alternating
/// roles.
pub(super) fn messages(request: &Request, way: ToolCalls) -> Vec<Value> {
    let mut told: Vec<(&str, String)> = Vec::new();
    if !request.tools.is_empty() {
        told.push(("system", manual(request, way)));
    }
    for message in &request.messages {
        let (role, text) = plain(message);
        match told.last_mut() {
            Some((last, before)) if *last == role && role == "system" => {
                *before = format!("{text}\n\n{before}")
            }
            Some((last, before)) if *last == role => {
                let _ = write!(before, "\n\n{text}");
            }
            _ => told.push((role, text)),
        }
    }
    if let (Some((_, last)), Some(name)) = (told.last_mut(), request.choice.only()) {
        let _ = write!(last, "\n\nCall `{name}` now; no other call can be made.");
    }
    told.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn plain(message: &Message) -> (&'static str, String) {
    match message {
        Message::System { text } => ("system", text.clone()),
        Message::User { text } => ("user", text.clone()),
        Message::Tool { name, text, .. } => ("user", format!("Result of `{name}`:\n{text}")),
        Message::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(|call| {
                let arguments = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
                let name = json!(call.name);
                format!("{{\"tool\": {name}, \"arguments\": {}}}", arguments.unwrap_or_else(|| json!({})))
            });
            let said = (!text.is_empty()).then(|| text.clone());
            ("assistant", said.into_iter().chain(calls).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Describes the tools for the system prompt. The text is the same in all turns, so that the server's prompt cache stays
/// valid.
fn manual(request: &Request, way: ToolCalls) -> String {
    let mut text = String::from(
        "You have tools. To call one, answer with one JSON object and nothing else:\n{\"tool\": NAME, \"arguments\": {…}}\n\
         Its result comes with the next message.",
    );
    match (request.choice.ends_by_call(), way) {
        (true, _) => {}
        (false, ToolCalls::Schema) => {
            let _ = write!(
                text,
                " To answer a person, call `{ANSWER}`: {{\"tool\": \"{ANSWER}\", \"arguments\": {{\"text\": …}}}}."
            );
        }
        (false, _) => {
            text.push_str(" To answer a person, write the answer in words, without such an object.")
        }
    }
    for tool in request.tools.iter() {
        let shape = shape(&tool.input_schema, 0);
        let _ = write!(text, "\n\n## {}\n{}\narguments: {shape}", tool.name, tool.description.trim());
    }
    text
}

/// Describes a schema in a short form: `{"lines": integer (from 1), "quote"?: string}`.
fn shape(schema: &Value, depth: usize) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    let inner = depth + 1;
    match schema["type"].as_str() {
        Some("object") => {
            let (Some(map), Some(properties)) = (schema.as_object(), schema["properties"].as_object()) else {
                return "{…}".to_owned();
            };
            if depth >= MAX_DEPTH {
                return "{…}".to_owned();
            }
            let required = asked(map);
            let told = ordered(map, properties).into_iter().map(|(name, property)| {
                let optional = if required.contains(&name.as_str()) { "" } else { "?" };
                let about =
                    property["description"].as_str().map_or(String::new(), |text| format!(" ({text})"));
                format!("{}{optional}: {}{about}", json!(name), shape(property, inner))
            });
            format!("{{{}}}", told.collect::<Vec<_>>().join(", "))
        }
        Some("array") if depth < MAX_DEPTH => format!("[{}, …]", shape(&schema["items"], inner)),
        Some(kind) => kind.to_owned(),
        None => "any value".to_owned(),
    }
}

/// Returns the schema of the answer: one call, or also a text answer if that ends the run. `None` if no tool may be called.
pub(super) fn response_format(request: &Request) -> Option<Value> {
    let tools: Vec<&ToolSpec> = match &request.choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Only(name) => request.tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Any | ToolChoice::Call => request.tools.iter().collect(),
    };
    if tools.is_empty() {
        return None;
    }
    let call = |name: &str, arguments: Value| {
        json!({"type": "object", "properties": {"tool": {"const": name}, "arguments": arguments},
               "required": ["tool", "arguments"], "additionalProperties": false})
    };
    let mut calls: Vec<Value> =
        tools.into_iter().map(|tool| call(&tool.name, arguments(&tool.input_schema))).collect();
    if request.choice == ToolChoice::Any {
        let text = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
                          "additionalProperties": false});
        calls.push(call(ANSWER, text));
    }
    let schema = if calls.len() == 1 { calls.remove(0) } else { json!({ "anyOf": calls }) };
    Some(json!({"type": "json_schema", "json_schema": {"name": "turn", "schema": schema}}))
}

/// Returns a tool's schema, or a general object schema if it contains references, which would be invalid within another
/// schema. Adds missing length limits, because with a grammar a small model may repeat itself until its output limit.
fn arguments(schema: &Value) -> Value {
    let mut points = false;
    crate::domain::each_text(schema, &mut |text| points |= text == "$ref");
    if points {
        return json!({"type": "object"});
    }
    let mut schema = schema.clone();
    bound(&mut schema);
    schema
}

fn bound(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            match map.get("type").and_then(Value::as_str) {
                Some("string") if !map.contains_key("enum") => {
                    map.entry("maxLength").or_insert(json!(MAX_LENGTH));
                }
                Some("array") => {
                    map.entry("maxItems").or_insert(json!(MAX_ITEMS));
                }
                _ => {}
            }
            map.values_mut().for_each(bound);
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

/// Parses calls or a text answer from a completion.
pub(super) fn read(completion: Completion, request: &Request) -> Completion {
    if request.tools.is_empty() {
        return completion;
    }
    if let Some(text) = answered(&completion.text) {
        return Completion { text, ..completion };
    }
    if request.choice == ToolChoice::None {
        return completion;
    }
    let number = request.messages.len();
    let found = text_calls::calls(&completion.text, &request.tools, None, number);
    // A text answer may show an object that looks like a call.
    if found.calls.is_empty() || !(request.choice.ends_by_call() || found.alone) {
        return completion;
    }
    let tool_calls: Vec<ToolCall> = completion.tool_calls.iter().cloned().chain(found.calls).collect();
    Completion { text: completion.text[..found.before].trim_end().to_owned(), tool_calls, ..completion }
}

/// Returns the text of an answer constrained by a schema.
fn answered(text: &str) -> Option<String> {
    let object: Value = serde_json::from_str(text.trim()).ok()?;
    let is_answer = object["tool"] == ANSWER;
    object["arguments"]["text"].as_str().filter(|_| is_answer).map(str::to_owned)
}

/// Returns how many bytes of a partial answer can be shown; text that may be a call is held back.
pub(super) fn open(text: &str) -> usize {
    let begins = [text.find('{'), text.find("```"), text.find("<tool")].into_iter().flatten().min();
    let ends = text.trim_end_matches(['`', '<']).len();
    begins.unwrap_or(ends)
}
