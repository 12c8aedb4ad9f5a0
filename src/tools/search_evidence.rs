//! `search_evidence`: searches evidence with a regular expression and shows matches with context, like grep.
//!
//! The pattern comes from a model, which a log may influence. It is compiled within limits, and the search runs on the
//! blocking pool with a time limit, checked between lines and between parts of long lines. A search that exceeds the limit
//! returns an error message; after a few of them, further searches of the run are refused.

use super::{no_such_evidence, parse, spec};
use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Evidence, ToolSpec};
use crate::evidence::pattern::{self, Case};
use async_trait::async_trait;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Default number of matches shown.
const DEFAULT_MATCHES: usize = 20;
/// Maximum characters shown per line.
const MAX_LINE: usize = 500;
/// Approximate maximum length of an answer in bytes.
const MAX_CHARS: usize = 12_000;
/// Time limit of a search, and of its wait for a thread before.
const LIMIT: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_mins(1);
/// Number of searches per run that may exceed the limit; after that, searches are refused.
const MAX_OVERRUNS: u32 = 2;
/// Bytes of a long line searched at a time, and overlap of adjacent parts. A match across parts that is longer than the
/// overlap is missed.
const PART: usize = 8 << 10;
const OVERLAP: usize = 1 << 10;

/// Searches the workspace's evidence.
pub struct SearchEvidence {
    workspace: Arc<Workspace>,
    limit: Duration,
    /// Number of searches of this run that exceeded the limit. Locked during a search, so that a run uses at most one thread.
    overruns: Mutex<u32>,
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let description = "Finds lines by regular expression (case-insensitive), or else by the same characters, in one piece of evidence, or in all. Shows matches as \
                       `E1:42: text` and context as `E1-41- text`. When there are too many, the first and the last are shown. \
                       A pattern has no counts above 500, and a search may run for 3 s.";
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
    /// Creates the tool for a workspace.
    #[must_use]
    pub fn new(workspace: Arc<Workspace>) -> Self {
        Self { workspace, limit: LIMIT, overruns: Mutex::default() }
    }

    /// Runs the search on the pool. The limit starts with the search and excludes the wait for a thread.
    async fn search(&self, wanted: SearchArguments) -> ToolAnswer {
        let mut overruns = self.overruns.lock().await;
        if *overruns >= MAX_OVERRUNS {
            return ToolAnswer::Failed(format!(
                "{overruns} searches of this run took too long, so there are no others; read the evidence with read_evidence, or conclude \
                 from what was shown"
            ));
        }
        let limit = self.limit;
        let pool = self.workspace.blocking().leaving_one();
        let found = pool.run(WAIT, move |deadline| wanted.search(&deadline.at_most(limit))).await;
        match found {
            Ok(Ok(answer)) => answer,
            Ok(Err(DeadlinePassed)) => {
                *overruns += 1;
                let limit = humantime::format_duration(limit);
                tracing::warn!(overruns = *overruns, "a search of the model took longer than {limit}");
                ToolAnswer::Failed(format!(
                    "the search took longer than {limit} and was stopped; use a simpler pattern, or name one piece of evidence"
                ))
            }
            Err(error) => ToolAnswer::Failed(format!(
                "the search was not done: {error}; try it again, or read the evidence with read_evidence"
            )),
        }
    }
}

/// Parameters of a search.
struct SearchArguments {
    pattern: String,
    pieces: Vec<Arc<Evidence>>,
    context: usize,
    limit: usize,
}

impl SearchArguments {
    fn search(&self, deadline: &Deadline) -> Result<ToolAnswer, DeadlinePassed> {
        let (text, problem) = match pattern::text(&self.pattern, Case::Ignored) {
            Ok(pattern) => match self.found(&pattern, deadline)? {
                (text, true) => return Ok(ToolAnswer::Ok(text)),
                (text, false) => (text, None),
            },
            Err(error) => (String::new(), Some(error)),
        };
        // A copied line such as `error[E0308]: …` is meant literally.
        if let Ok(literal) = pattern::text(&regex::escape(&self.pattern), Case::Ignored)
            && let (found, true) = self.found(&literal, deadline)?
        {
            return Ok(ToolAnswer::Ok(format!(
                "As a regular expression it matches nothing; these lines have it as plain text:\n{found}"
            )));
        }
        Ok(match problem {
            Some(error) => ToolAnswer::Failed(format!("`pattern` is not taken: {error}")),
            None => ToolAnswer::Ok(text),
        })
    }

    /// Returns the matching lines as text, and whether there are any.
    fn found(&self, pattern: &Regex, deadline: &Deadline) -> Result<(String, bool), DeadlinePassed> {
        let (mut text, mut any) = (String::new(), false);
        for piece in &self.pieces {
            let found = matching(&piece.text, pattern, deadline)?;
            any |= !found.is_empty();
            show(&mut text, piece, &found, self.context, self.limit);
        }
        Ok((text, any))
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
        let Arguments { pattern, evidence, context, max_matches } = match parse(arguments) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        let pieces = match &evidence {
            None => self.workspace.pieces(),
            Some(label) => match self.workspace.get(label) {
                Some(piece) => vec![piece],
                None => return no_such_evidence(&self.workspace, label),
            },
        };
        let limit = max_matches.unwrap_or(DEFAULT_MATCHES).clamp(1, 100);
        self.search(SearchArguments { pattern, pieces, context: context.unwrap_or(0).min(10), limit }).await
    }
}

/// Returns the indices of matching lines.
fn matching(text: &str, pattern: &Regex, deadline: &Deadline) -> Result<Vec<usize>, DeadlinePassed> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if matches(line, pattern, deadline)? {
            found.push(index);
        }
    }
    Ok(found)
}

/// Whether a line matches; a long line is searched in parts.
fn matches(line: &str, pattern: &Regex, deadline: &Deadline) -> Result<bool, DeadlinePassed> {
    let mut from = 0;
    loop {
        deadline.check()?;
        let end = line.ceil_char_boundary((from + PART).min(line.len()));
        // The text before a part is visible to `^` and `\b`. A match at the end of a part may depend on the text after it, and
        // is found in the next part.
        let hit = pattern.shortest_match_at(&line[..end], from);
        if hit.is_some_and(|hit| end == line.len() || hit < end) {
            return Ok(true);
        }
        if end == line.len() {
            return Ok(false);
        }
        from = line.floor_char_boundary(end - OVERLAP);
    }
}

/// Appends a header and the matching lines of one piece.
fn show(text: &mut String, piece: &Evidence, found: &[usize], context: usize, limit: usize) {
    let lines: Vec<&str> = piece.text.lines().collect();
    let _ =
        writeln!(text, "[{}] {}: {} of {} lines match", piece.label, piece.title, found.len(), lines.len());
    // The first matches often show the cause, and the last ones the result.
    let shown: Vec<usize> = if found.len() <= limit {
        found.to_vec()
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
    use crate::blocking::BlockingPool;
    use crate::domain::EvidenceKind;
    use crate::evidence::redact::Redactor;

    fn over(text: String) -> SearchEvidence {
        let piece = Evidence {
            id: uuid::Uuid::nil(),
            label: "E1".into(),
            kind: EvidenceKind::Log,
            title: "log of container build".into(),
            text,
            red: Vec::new(),
        };
        SearchEvidence::new(Arc::new(Workspace::new(vec![piece], Redactor::new(), BlockingPool::new(2))))
    }

    async fn ask(tool: &SearchEvidence, arguments: Value) -> ToolAnswer {
        tool.call(arguments, CancellationToken::new()).await
    }

    async fn answer(arguments: Value) -> ToolAnswer {
        let line = |n| if n % 10 == 0 { format!("error {n}\n") } else { format!("line {n}\n") };
        ask(&over((1..=30).map(line).collect()), arguments).await
    }

    #[tokio::test]
    async fn patterns_with_large_counts_are_refused_with_a_way_to_write_them() {
        for pattern in ["[ -~]{0,3990}[^ -~]", "(?:x{0,90}){0,90}y", r"\w{400}\p{L}{400}"] {
            let ToolAnswer::Failed(text) = answer(json!({"pattern": pattern})).await else {
                panic!("{pattern}")
            };
            assert!(text.contains("too large") && text.contains("use `*` or `+`"), "{text}");
        }
    }

    #[tokio::test]
    async fn searches_that_overrun_are_answered_in_words_and_then_refused() {
        let mut tool = over("x".repeat(3_000) + "\n");
        tool.limit = Duration::ZERO;
        for _ in 0..MAX_OVERRUNS {
            let ToolAnswer::Failed(text) = ask(&tool, json!({"pattern": "y"})).await else { panic!() };
            assert!(
                text.contains("the search took longer than 0s") && text.contains("simpler pattern"),
                "{text}"
            );
        }
        tool.limit = Duration::from_secs(600);
        let ToolAnswer::Failed(text) = ask(&tool, json!({"pattern": "x"})).await else { panic!() };
        assert!(text.contains("2 searches of this run took too long"), "{text}");
    }

    #[test]
    fn a_long_line_is_searched_in_parts_as_if_it_were_one() {
        let never = Deadline::never();
        let hit = |pattern: &str, line: &str| {
            matches(line, &pattern::text(pattern, Case::Ignored).unwrap(), &never).unwrap()
        };
        for at in [0, PART - 3, PART, PART + 7, 3 * PART - OVERLAP, 40_000] {
            let line = format!("{} fehler: größer {}", "ü".repeat(at / 2), "z".repeat(20_000));
            assert!(hit("fehler: größer", &line) && hit(r"\bfehler\b.*", &line) && hit("z$", &line), "{at}");
            assert!(!hit("^fehler", &line));
            assert!(!hit("größer $", &line) && !hit("fehler: x", &line));
        }
        assert!(hit("^$", "") && !hit("^fehler", &format!(" {}fehler", "x".repeat(PART - 1))));
        let over = Deadline::within(Duration::ZERO);
        assert_eq!(matches("x", &pattern::text("x", Case::Heeded).unwrap(), &over), Err(DeadlinePassed));
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
