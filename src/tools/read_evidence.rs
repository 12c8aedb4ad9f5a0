//! `read_evidence`: shows a range of lines of a piece of evidence.

use super::{no_such_evidence, parse, spec};
use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::domain::{Evidence, ToolSpec};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Maximum number of lines per answer.
const MAX_LINES: u32 = 200;
/// Approximate maximum length of an answer in bytes.
const MAX_CHARS: usize = 12_000;

/// Reads lines of the workspace's evidence.
pub struct ReadEvidence {
    workspace: Arc<Workspace>,
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let description = "Shows lines of a piece of evidence as `number: text`. At most 200 lines at once. Every log, event \
                       list and long tool result is kept whole as evidence E1, E2, …";
    let schema = json!({
        "type": "object",
        "properties": {
            "evidence": {"type": "string", "description": "label, for example E1"},
            "first_line": {"type": "integer", "minimum": 1},
            "last_line": {"type": "integer", "minimum": 1}
        },
        "required": ["evidence", "first_line", "last_line"]
    });
    spec("read_evidence", description, schema)
});

#[derive(Deserialize)]
struct Arguments {
    evidence: String,
    first_line: u32,
    last_line: u32,
}

impl ReadEvidence {
    /// Creates the tool for a workspace.
    #[must_use]
    pub fn new(workspace: Arc<Workspace>) -> Self {
        Self { workspace }
    }
}

#[async_trait]
impl Tool for ReadEvidence {
    fn spec(&self) -> &ToolSpec {
        &SPEC
    }

    fn reads_evidence(&self) -> bool {
        true
    }

    async fn call(&self, arguments: Value, _cancel: CancellationToken) -> ToolAnswer {
        let arguments: Arguments = match parse(arguments) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        let Some(piece) = self.workspace.get(&arguments.evidence) else {
            return no_such_evidence(&self.workspace, &arguments.evidence);
        };
        let (first, last) = (arguments.first_line, arguments.last_line);
        let read = self.workspace.work(move |_| Ok(lines(&piece, first, last)));
        read.await.unwrap_or_else(|error| {
            ToolAnswer::Failed(format!("the evidence could not be read: {error}; try it again"))
        })
    }
}

/// Returns the requested lines of a piece, within the limits.
fn lines(piece: &Evidence, first: u32, last: u32) -> ToolAnswer {
    let total = u32::try_from(piece.text.lines().count()).unwrap_or(u32::MAX);
    let first = first.max(1);
    if first > total {
        return ToolAnswer::Failed(format!(
            "{} has {total} lines; line {first} is past its end",
            piece.label
        ));
    }
    let last = last.max(first).min(total).min(first.saturating_add(MAX_LINES - 1));
    let mut text = format!("[{}] {}, lines {first} to {last} of {total}\n", piece.label, piece.title);
    for (number, line) in (1..=last).zip(piece.text.lines()).skip(first as usize - 1) {
        if text.len() + line.len() > MAX_CHARS && number > first {
            let _ = writeln!(text, "… stopped before line {number}: too long; ask for fewer lines");
            break;
        }
        let shown: String = line.chars().take(MAX_CHARS).collect();
        let _ = writeln!(text, "{number}: {shown}");
    }
    ToolAnswer::Ok(text)
}
