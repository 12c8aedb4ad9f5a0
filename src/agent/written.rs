//! Calls that a model writes into its answer in place of making them: as a block of JSON, or between marks such as `<tool_call>`.
//! Models whose server has no template for tools do so.

use crate::domain::{ToolCall, ToolSpec};
use serde_json::Value;

/// Longest answer that is read for calls, in bytes.
const MAX_TEXT: usize = 256 << 10;
/// Calls of one answer.
const MAX_CALLS: usize = 8;
/// Places at which an object may begin.
const MAX_STARTS: usize = 64;

/// The calls in a text, in order. An object with `name` and `arguments` calls that tool; one that has what the finishing tool needs, and
/// names none, is its arguments.
pub(super) fn calls(text: &str, tools: &[ToolSpec], finishing: Option<&str>, turn: u32) -> Vec<ToolCall> {
    // An answer of a chat may well show such a block; only who has to conclude by a call is read so.
    let Some(finishing) = finishing.filter(|_| text.len() <= MAX_TEXT && text.contains('{')) else {
        return Vec::new();
    };
    let found = objects(text).into_iter().flat_map(listed);
    let read = found.filter_map(|object| call(&object, tools, finishing)).take(MAX_CALLS);
    let numbered =
        |(index, (name, arguments))| ToolCall { id: format!("written-{turn}-{index}"), name, arguments };
    read.enumerate().map(numbered).collect()
}

/// The objects and lists of JSON in a text, the outermost ones.
fn objects(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let (mut from, mut starts) = (0, 0);
    while let Some(at) = text[from..].find(['{', '[']).map(|at| from + at) {
        starts += 1;
        if starts > MAX_STARTS {
            break;
        }
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        from = match stream.next() {
            Some(Ok(value)) => {
                found.push(value);
                at + stream.byte_offset()
            }
            _ => at + 1,
        };
    }
    found
}

/// A list of calls, or a single one; OpenAI's own form has them in `tool_calls`.
fn listed(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove("tool_calls") {
            Some(Value::Array(list)) => list,
            _ => vec![Value::Object(map)],
        },
        _ => Vec::new(),
    }
}

fn call(object: &Value, tools: &[ToolSpec], finishing: &str) -> Option<(String, String)> {
    let map = object.get("function").filter(|inner| inner.is_object()).unwrap_or(object).as_object()?;
    let name = ["name", "tool", "tool_name", "function"].iter().find_map(|key| map.get(*key)?.as_str());
    let arguments = ["arguments", "parameters", "args", "input"].iter().find_map(|key| map.get(*key));
    if let (Some(name), Some(arguments)) = (name, arguments) {
        let known = tools.iter().any(|tool| tool.name == name);
        let arguments = match arguments {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        return known.then(|| (name.to_owned(), arguments));
    }
    let tool = tools.iter().find(|tool| tool.name == finishing)?;
    let needed = tool.input_schema["required"].as_array()?;
    let fits = needed.iter().filter_map(Value::as_str).all(|name| map.contains_key(name));
    fits.then(|| (finishing.to_owned(), object.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Access;
    use serde_json::json;
    use std::sync::Arc;

    fn read(text: &str) -> Vec<(String, String)> {
        let tool = |name: &str, required: Value| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            input_schema: Arc::new(json!({"type": "object", "required": required})),
            access: Access::Read,
        };
        let tools = [tool("search", json!(["q"])), tool("submit", json!(["title", "cause"]))];
        calls(text, &tools, Some("submit"), 1).into_iter().map(|call| (call.name, call.arguments)).collect()
    }

    #[test]
    fn calls_are_read_however_they_are_written() {
        let search = vec![("search".to_owned(), r#"{"q":"x"}"#.to_owned())];
        for text in [
            r#"{"name": "search", "arguments": {"q": "x"}}"#,
            "I look.\n```json\n{\"name\": \"search\", \"arguments\": {\"q\": \"x\"}}\n```\nThen more.",
            r#"<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>"#,
            r#"[TOOL_CALLS] [{"name": "search", "arguments": {"q": "x"}}]"#,
            r#"{"tool_calls": [{"type": "function", "function": {"name": "search", "arguments": "{\"q\":\"x\"}"}}]}"#,
            r#"{"function": "search", "parameters": {"q": "x"}}"#,
        ] {
            assert_eq!(read(text), search, "{text}");
        }
        let submitted =
            read("Here it is:\n```json\n{\"title\": \"t\", \"cause\": \"c\", \"claims\": []}\n```");
        assert_eq!(submitted[0].0, "submit");
    }

    #[test]
    fn what_is_no_call_is_text() {
        for text in [
            "",
            "{",
            "no call {at all} [1]",
            r#"{"title": "t"}"#,
            r#"{"name": "rm", "arguments": {}}"#,
            "[{]}",
        ] {
            assert!(read(text).is_empty(), "{text}");
        }
        assert!(read(&"{".repeat(100_000)).is_empty());
        assert!(read(&"[".repeat(100_000)).is_empty());
    }
}
