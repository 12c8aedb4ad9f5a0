//! Tool calls within the text of an answer: a block of JSON, or between marks such as `<tool_call>`. Models are instructed
//! to write them if they do not support tool calls, and also write them if their server has no template for tools.

use crate::domain::{ToolCall, ToolSpec};
use serde_json::Value;

/// Maximum length in bytes of an answer to search for calls.
const MAX_TEXT: usize = 256 << 10;
/// Maximum number of calls in one answer.
const MAX_CALLS: usize = 8;
/// Maximum number of positions to try as the start of an object.
const MAX_STARTS: usize = 64;

/// Marks around calls, which are not part of the text.
const MARKS: [&str; 7] =
    ["```json", "```", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|tool_call|>", "<|python_tag|>"];

/// The calls found in a text.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Calls in order.
    pub(crate) calls: Vec<ToolCall>,
    /// Length in bytes of the text before the calls.
    pub(crate) before: usize,
    /// Whether the text contains nothing else.
    pub(crate) alone: bool,
}

/// Finds calls in a text. An object with `tool` or `name`, and `arguments`, is a call of that tool. An object without a
/// name that has the required properties of the finishing tool is a call of that tool. `number` makes the ids unique within
/// a history.
pub(crate) fn calls(text: &str, tools: &[ToolSpec], finishing: Option<&str>, number: usize) -> Found {
    if text.len() > MAX_TEXT || !text.contains('{') {
        return Found::default();
    }
    let mut found = Found::default();
    let (mut first, mut rest) = (None, String::new());
    let mut end = 0;
    for (from, to, value) in objects(text) {
        let read: Vec<_> = listed(value).iter().filter_map(|object| call(object, tools, finishing)).collect();
        if read.is_empty() {
            continue;
        }
        first = first.or(Some(from));
        rest.push_str(&text[end..from]);
        end = to;
        for (name, arguments) in read.into_iter().take(MAX_CALLS - found.calls.len()) {
            let id = format!("written-{number}-{}", found.calls.len());
            found.calls.push(ToolCall { id, name, arguments });
        }
    }
    rest.push_str(&text[end..]);
    let mut before = text[..first.unwrap_or(0)].trim_end();
    while let Some(shorter) = MARKS.iter().find_map(|mark| before.strip_suffix(mark)) {
        before = shorter.trim_end();
    }
    found.before = before.len();
    let words = MARKS.iter().fold(rest, |rest, mark| rest.replace(mark, ""));
    found.alone = words.chars().all(|c| c.is_whitespace() || "[],;".contains(c));
    found
}

/// Returns the outermost JSON objects and lists in a text, with their start and end in bytes.
fn objects(text: &str) -> Vec<(usize, usize, Value)> {
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
                let end = at + stream.byte_offset();
                found.push((at, end, value));
                end
            }
            _ => at + 1,
        };
    }
    found
}

/// Returns the calls of a list, of a single object, or of `tool_calls` in the format of OpenAI.
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

fn call(object: &Value, tools: &[ToolSpec], finishing: Option<&str>) -> Option<(String, String)> {
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
    let tool = tools.iter().find(|tool| Some(tool.name.as_str()) == finishing)?;
    let needed = tool.input_schema["required"].as_array()?;
    let fits = needed.iter().filter_map(Value::as_str).all(|name| map.contains_key(name));
    fits.then(|| (tool.name.clone(), object.to_string()))
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
        let found = calls(text, &tools, Some("submit"), 1);
        found.calls.into_iter().map(|call| (call.name, call.arguments)).collect()
    }

    #[test]
    fn what_stands_around_a_call_is_kept_apart() {
        let tools = [ToolSpec {
            name: "search".to_owned(),
            description: String::new(),
            input_schema: Arc::default(),
            access: Access::Read,
        }];
        let around = |text: &str| {
            let found = calls(text, &tools, None, 1);
            (text[..found.before].to_owned(), found.alone, found.calls.len())
        };
        let call = r#"{"tool": "search", "arguments": {"q": "x"}}"#;
        assert_eq!(around(&format!("I look.\n```json\n{call}\n```")), ("I look.".to_owned(), false, 1));
        assert_eq!(around(&format!("<tool_call>\n{call}\n</tool_call>")), (String::new(), true, 1));
        assert_eq!(around(&format!("[{call}, {call}]")), (String::new(), true, 2));
        assert_eq!(around(&format!("{call}\n{call}")), (String::new(), true, 2));
        assert_eq!(around(&format!("The line is {call}.")), ("The line is".to_owned(), false, 1));
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
