//! Fits the history into the context: shortens old tool results first, and never the brief.

use super::tool::Tool;
use crate::domain::{Message, ToolSpec};
use crate::evidence::tokens;
use crate::evidence::untrusted::fence;
use crate::llm::{message_tokens as count, tool_tokens as count_tool};
use std::sync::Arc;

/// Number of bytes kept of a shortened tool result.
const STUB_BYTES: usize = 240;
/// Additional tokens per message.
const MESSAGE_OVERHEAD: usize = 8;

/// The history does not fit and cannot be shortened further.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// Number of remaining tokens.
    pub(super) tokens: usize,
}

/// Shortens `messages` in place until messages and tools fit into `limit` tokens.
pub(super) fn fit(messages: &mut [Message], tools: &[ToolSpec], limit: usize) -> Result<(), TooLong> {
    // The estimate is high, so a history within the limit needs no exact count.
    let rough = messages.iter().map(estimate).sum::<usize>() + tools.iter().map(estimate_tool).sum::<usize>();
    if rough <= limit {
        return Ok(());
    }
    let mut total = messages.iter().map(count).sum::<usize>() + tools.iter().map(count_tool).sum::<usize>();
    let last_answers = messages.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    // Oldest first; results of the latest turn only if nothing else is left.
    let older = 0..last_answers.unwrap_or(0);
    let newer = last_answers.unwrap_or(0)..messages.len();
    for index in older.chain(newer) {
        if total <= limit {
            return Ok(());
        }
        let before = count(&messages[index]);
        if shorten(&mut messages[index]) {
            total = total - before + count(&messages[index]);
        }
    }
    if total <= limit { Ok(()) } else { Err(TooLong { tokens: total }) }
}

/// Returns the tools that fit into `room` tokens, and their tokens. Drops tools from the end of the list.
#[must_use]
pub fn tools_that_fit(mut tools: Vec<Arc<dyn Tool>>, room: usize) -> (Vec<Arc<dyn Tool>>, usize) {
    let rough = tools.iter().map(|tool| estimate_tool(tool.spec())).sum::<usize>();
    if rough <= room {
        return (tools, rough);
    }
    let mut total = tools.iter().map(|tool| count_tool(tool.spec())).sum::<usize>();
    while total > room
        && let Some(tool) = tools.pop()
    {
        total -= count_tool(tool.spec());
    }
    (tools, total)
}

/// Returns the tools that fit beside the messages. Tools take at most half of the context, and a quarter of the context
/// stays free for results. Can take long if the estimate is not sufficient.
#[must_use]
pub fn tools_beside(messages: &[Message], tools: Vec<Arc<dyn Tool>>, context: usize) -> Vec<Arc<dyn Tool>> {
    let room = context / 4 * 3;
    let (rough, most) = (messages.iter().map(estimate).sum::<usize>(), context / 2);
    let fits = |taken: usize| room.saturating_sub(taken).min(most);
    if tools.iter().map(|tool| estimate_tool(tool.spec())).sum::<usize>() <= fits(rough) {
        return tools;
    }
    tools_that_fit(tools, fits(messages.iter().map(count).sum())).0
}

fn shorten(message: &mut Message) -> bool {
    let Message::Tool { text, .. } = message else {
        return false;
    };
    if text.len() <= STUB_BYTES * 2 {
        return false;
    }
    let end = text.floor_char_boundary(STUB_BYTES);
    let closing = fence::closing(text, end);
    text.truncate(end);
    text.push_str(&closing);
    text.push_str(
        "\n… shortened to save room; the whole is kept: read_evidence and search_evidence show it again.",
    );
    true
}

fn parts(message: &Message) -> (&str, &[crate::domain::ToolCall]) {
    match message {
        Message::System { text } | Message::User { text } | Message::Tool { text, .. } => (text, &[]),
        Message::Assistant { text, tool_calls } => (text, tool_calls),
    }
}

fn estimate(message: &Message) -> usize {
    let (text, calls) = parts(message);
    let calls = calls.iter().map(|call| tokens::estimate(&call.name) + tokens::estimate(&call.arguments));
    MESSAGE_OVERHEAD + tokens::estimate(text) + calls.sum::<usize>()
}

/// Estimates the tokens of a tool's description; the estimate is high.
#[must_use]
pub fn estimate_tool(tool: &ToolSpec) -> usize {
    MESSAGE_OVERHEAD + tokens::estimate(&tool.description) + tokens::estimate(&tool.input_schema.to_string())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn tool(text: &str) -> Message {
        Message::Tool { call_id: "c".into(), name: "t".into(), text: text.into() }
    }

    fn assistant() -> Message {
        Message::Assistant { text: String::new(), tool_calls: Vec::new() }
    }

    #[test]
    fn the_oldest_result_goes_first_and_the_brief_never() {
        let long = "error in step seven\n".repeat(400);
        let mut messages =
            vec![Message::User { text: long.clone() }, assistant(), tool(&long), assistant(), tool(&long)];
        let all = messages.iter().map(count).sum::<usize>();
        fit(&mut messages, &[], all - 100).unwrap();
        assert_eq!(messages[0], Message::User { text: long.clone() });
        assert!(matches!(&messages[2], Message::Tool { text, .. } if text.contains("shortened")));
        assert_eq!(messages[4], tool(&long));
    }

    #[test]
    fn a_result_that_is_shortened_stays_in_its_fence() {
        let long = format!("[E1] result:\n<<data abc123\n{}\ndata abc123>>", "line of a log\n".repeat(300));
        let mut messages = vec![assistant(), tool(&long)];
        fit(&mut messages, &[], 200).unwrap();
        let Message::Tool { text, .. } = &messages[1] else { panic!() };
        let (fenced, said) = text.split_once("\ndata abc123>>\n").unwrap();
        assert!(fenced.contains("<<data abc123\n") && said.starts_with("… shortened"), "{text}");
    }

    #[test]
    fn a_brief_that_does_not_fit_is_said_so() {
        let mut messages = vec![Message::User { text: "word ".repeat(5_000) }];
        assert!(fit(&mut messages, &[], 1_000).is_err());
    }
}
