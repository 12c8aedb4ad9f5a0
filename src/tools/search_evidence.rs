//! `search_evidence`: a regular expression over stored pieces, with context, grep style.

use super::{no_such_evidence, parse, spec};
use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::domain::{Evidence, ToolSpec};
use async_trait::async_trait;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Matches shown when the model does not say.
const DEFAULT_MATCHES: usize = 20;
/// Characters of one line that are shown.
const MAX_LINE: usize = 500;
/// Characters shown at once.
const MAX_CHARS: usize = 12_000;

/// Searches the workspace's evidence.
pub struct SearchEvidence {
    workspace: Arc<Workspace>,
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let description = "Finds lines by regular expression (case-insensitive) in one piece of evidence, or in all. Shows matches as \
                       `E1:42: text` and context as `E1-41- text`. When there are too many, the first and the last are shown.";
    let schema = json!({
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "description": "regular expression"},
            "evidence": {"type": "string", "description": "label, for example E1; all when left out"},
            "context": {"type": "integer", "minimum": 0, "maximum": 10, "description": "lines around each match"},
            "max_matches": {"type": "integer", "minimum": 1, "maximum": 100}
        },
        "required": ["pattern"]
    });
    spec("search_evidence", description, schema)
});

#[derive(Deserialize)]
struct Arguments {
    pattern: String,
    evidence: Option<String>,
    context: Option<usize>,
    max_matches: Option<usize>,
}

impl SearchEvidence {
    /// Over this workspace.
    #[must_use]
    pub fn new(workspace: Arc<Workspace>) -> Self {
        Self { workspace }
    }
}

#[async_trait]
impl Tool for SearchEvidence {
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
        let pattern =
            RegexBuilder::new(&arguments.pattern).case_insensitive(true).size_limit(4 << 20).build();
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(error) => {
                return ToolAnswer::Failed(format!(
                    "`pattern` is not a regular expression this tool understands: {error}"
                ));
            }
        };
        let pieces = match &arguments.evidence {
            None => self.workspace.pieces(),
            Some(label) => match self.workspace.get(label) {
                Some(piece) => vec![piece],
                None => return no_such_evidence(&self.workspace, label),
            },
        };
        let limit = arguments.max_matches.unwrap_or(DEFAULT_MATCHES).clamp(1, 100);
        let context = arguments.context.unwrap_or(0).min(10);
        let mut text = String::new();
        for piece in pieces {
            search(&mut text, &piece, &pattern, context, limit);
        }
        ToolAnswer::Ok(text)
    }
}

/// Appends a header and the matching lines of one piece.
fn search(text: &mut String, piece: &Evidence, pattern: &Regex, context: usize, limit: usize) {
    let lines: Vec<&str> = piece.text.lines().collect();
    let found: Vec<usize> = (0..lines.len()).filter(|&index| pattern.is_match(lines[index])).collect();
    let _ =
        writeln!(text, "[{}] {}: {} of {} lines match", piece.label, piece.title, found.len(), lines.len());
    // The first occurrences name the cause, the last ones what it ended in.
    let shown: Vec<usize> = if found.len() <= limit {
        found.clone()
    } else {
        let head = limit.div_ceil(2);
        found[..head].iter().chain(&found[found.len() - (limit - head)..]).copied().collect()
    };
    let mut next = 0;
    for &index in &shown {
        let from = index.saturating_sub(context).max(next);
        let to = (index + context + 1).min(lines.len());
        if from > next && next > 0 {
            text.push_str("--\n");
        }
        for (number, line) in lines.iter().enumerate().take(to).skip(from) {
            if text.len() > MAX_CHARS {
                text.push_str("… more lines match; narrow the pattern or name the evidence\n");
                return;
            }
            let mark = if found.binary_search(&number).is_ok() { ':' } else { '-' };
            let line: String = line.chars().take(MAX_LINE).collect();
            let space = if mark == ':' { ": " } else { "- " };
            let _ = writeln!(text, "{}{mark}{}{space}{line}", piece.label, number + 1);
        }
        next = next.max(to);
    }
    if shown.len() < found.len() {
        let _ = writeln!(
            text,
            "… {} matches between the first and the last ones left out",
            found.len() - shown.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EvidenceKind;
    use crate::evidence::redact::Redactor;

    async fn answer(arguments: Value) -> ToolAnswer {
        let text = (1..=30)
            .map(|n| if n % 10 == 0 { format!("error {n}\n") } else { format!("line {n}\n") })
            .collect();
        let piece = Evidence {
            id: uuid::Uuid::nil(),
            label: "E1".into(),
            kind: EvidenceKind::Log,
            title: "log of container build".into(),
            text,
            red: Vec::new(),
        };
        let workspace = Arc::new(Workspace::new(vec![piece], Redactor::new()));
        SearchEvidence::new(workspace).call(arguments, CancellationToken::new()).await
    }

    #[tokio::test]
    async fn matches_come_with_numbers_and_context() {
        let ToolAnswer::Ok(text) = answer(json!({"pattern": "ERROR 1", "context": 1})).await else {
            panic!()
        };
        insta::assert_snapshot!(text, @r"
        [E1] log of container build: 1 of 30 lines match
        E1-9- line 9
        E1:10: error 10
        E1-11- line 11
        ");
    }

    #[tokio::test]
    async fn too_many_matches_show_first_and_last() {
        let ToolAnswer::Ok(text) = answer(json!({"pattern": "error", "max_matches": 2})).await else {
            panic!()
        };
        insta::assert_snapshot!(text, @r"
        [E1] log of container build: 3 of 30 lines match
        E1:10: error 10
        --
        E1:30: error 30
        … 1 matches between the first and the last ones left out
        ");
    }

    #[tokio::test]
    async fn bad_patterns_and_labels_are_explained() {
        assert!(
            matches!(answer(json!({"pattern": "("})).await, ToolAnswer::Failed(text) if text.contains("regular expression"))
        );
        assert!(
            matches!(answer(json!({"pattern": "x", "evidence": "E9"})).await, ToolAnswer::Failed(text) if text.contains("there is E1"))
        );
    }
}
