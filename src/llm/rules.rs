//! The built-in analyst: needs no model, works through the same loop and tools, and says what it does not know.
//! A pure function of the history, so the same evidence gives the same diagnosis.

use super::seen::{Line, Seen};
use super::{Completion, Model, ModelError, Request};
use crate::blocking::BlockingPool;
use crate::domain::{FailureClass, ToolCall};
use crate::evidence::severity;
use crate::evidence::signature::{NAMES_CAUSE, SignatureHit, SignatureSet, Signatures};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// Words of failure in general, for what no signature knows.
const GENERIC: &str = r"\b(?:error|fatal|panic|exception|failed|failure|denied|refused|cannot|could not|unable to|no such|not found|killed|timed out)\b";
/// Longest piece of evidence in a title or statement.
const MAX_QUOTE: usize = 200;
/// How long one completion may take, with the wait for a thread.
const LIMIT: Duration = Duration::from_mins(1);

/// The analyst.
pub struct Rules {
    signatures: Arc<Signatures>,
    blocking: BlockingPool,
}

struct Candidate<'a> {
    line: &'a Line,
    hit: SignatureHit,
    priority: i32,
}

impl Rules {
    /// Works from these signatures, on the pool: their patterns are written by others.
    #[must_use]
    pub fn new(signatures: Arc<Signatures>, blocking: BlockingPool) -> Self {
        Self { signatures, blocking }
    }

    fn candidates<'a>(set: &SignatureSet, seen: &'a Seen) -> Vec<Candidate<'a>> {
        let all = set.signatures();
        let mut candidates: Vec<Candidate<'a>> = seen
            .lines
            .iter()
            .flat_map(|line| {
                set.matches(&line.text).into_iter().map(move |hit| Candidate {
                    line,
                    priority: all[hit.index].priority,
                    hit,
                })
            })
            .collect();
        // Nearest to the root first; then the log before what the cluster says of it; then the first of its kind.
        candidates.sort_by_key(|candidate| {
            (Reverse(candidate.priority), seen.rank(&candidate.line.evidence), candidate.line.number)
        });
        candidates
    }

    fn diagnose(set: &SignatureSet, seen: &Seen) -> Value {
        let candidates = Self::candidates(set, seen);
        let Some(best) = candidates.first() else {
            return unknown(seen);
        };
        let signature = &set.signatures()[best.hit.index];
        let mut claims = vec![claim(&best.hit.fill(&signature.title), best.line)];
        let mut told = vec![best.hit.index];
        for other in &candidates[1..] {
            // An echo, such as "build failed", adds nothing to a cause.
            let echo = signature.priority >= NAMES_CAUSE && other.priority < NAMES_CAUSE;
            if claims.len() == 3 || told.contains(&other.hit.index) || echo {
                continue;
            }
            told.push(other.hit.index);
            let title = &set.signatures()[other.hit.index].title;
            claims.push(claim(&format!("Also seen: {}", other.hit.fill(title)), other.line));
        }
        let steps: Vec<String> = signature.next_steps.iter().map(|step| best.hit.fill(step)).collect();
        let confidence = if signature.priority >= NAMES_CAUSE { "high" } else { "medium" };
        json!({
            "title": shorten(&best.hit.fill(&signature.title)),
            "cause": format!("{} (Recognised by the runbook {}.)", best.hit.fill(&signature.cause), signature.runbook),
            "class": signature.class.as_str(),
            "confidence": confidence,
            "claims": claims,
            "next_steps": steps,
        })
    }

    fn completion(set: &SignatureSet, request: &Request) -> Completion {
        let seen = Seen::of(&request.messages);
        let tool_calls = match Self::look(set, request, &seen) {
            Some(calls) => calls,
            None if request.tools.iter().any(|tool| tool.name == "submit_diagnosis") => {
                numbered("submit_diagnosis", std::iter::once(Self::diagnose(set, &seen)))
            }
            None => Vec::new(),
        };
        let text = if tool_calls.is_empty() { Self::diagnose(set, &seen).to_string() } else { String::new() };
        Completion { text, tool_calls, ..Completion::default() }
    }

    /// What to look at next; `None` when it is time to conclude.
    fn look(set: &SignatureSet, request: &Request, seen: &Seen) -> Option<Vec<ToolCall>> {
        let offers = |name: &str| request.tools.iter().any(|tool| tool.name == name);
        let candidates = Self::candidates(set, seen);
        // The brief shows every line that a signature recognises; what none does is looked for in words.
        let unknown = candidates.is_empty() && !seen.called("search_evidence");
        if offers("search_evidence") && unknown && !seen.announced.is_empty() {
            let calls = seen.announced.iter().map(
                |piece| json!({"pattern": GENERIC, "evidence": piece.label, "context": 0, "max_matches": 30}),
            );
            return Some(numbered("search_evidence", calls));
        }
        if offers("read_evidence") && !seen.called("read_evidence") {
            let best = candidates.first().map(|candidate| candidate.line).or_else(|| seen.worst())?;
            let (first, last) = (best.number.saturating_sub(5).max(1), best.number + 10);
            let call = json!({"evidence": best.evidence, "first_line": first, "last_line": last});
            return Some(numbered("read_evidence", std::iter::once(call)));
        }
        None
    }
}

#[async_trait]
impl Model for Rules {
    fn name(&self) -> &str {
        "rules"
    }

    async fn complete(&self, request: &Request) -> Result<Completion, ModelError> {
        let (set, request) = (self.signatures.current(), request.clone());
        let completion = self.blocking.run(LIMIT, move |_| Self::completion(&set, &request));
        completion.await.map_err(|error| ModelError::Unavailable { attempts: 1, message: error.to_string() })
    }
}

fn numbered(name: &str, arguments: impl Iterator<Item = Value>) -> Vec<ToolCall> {
    let call = |(index, arguments): (usize, Value)| ToolCall {
        id: format!("{name}-{index}"),
        name: name.to_owned(),
        arguments: arguments.to_string(),
    };
    arguments.enumerate().map(call).collect()
}

fn claim(statement: &str, line: &Line) -> Value {
    json!({
        "statement": shorten(statement),
        "evidence": line.evidence,
        "first_line": line.number,
        "last_line": line.number,
        "quote": line.text.trim().chars().take(MAX_QUOTE).collect::<String>(),
    })
}

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_QUOTE {
        line
    } else {
        format!("{}…", line.chars().take(MAX_QUOTE).collect::<String>())
    }
}

/// Nothing matched: the likeliest lines, and no claim to know.
fn unknown(seen: &Seen) -> Value {
    let mut likely: Vec<&Line> = seen.lines.iter().filter(|line| severity(&line.text) > 0).collect();
    likely.sort_by_key(|line| (Reverse(severity(&line.text)), seen.rank(&line.evidence), line.number));
    // A line may have been shown twice, once shortened.
    likely.dedup_by(|a, b| a.evidence == b.evidence && a.number == b.number);
    let mut claims: Vec<Value> =
        likely.iter().take(2).map(|line| claim("This line looks most like the reason", line)).collect();
    let last =
        seen.lines.iter().filter(|line| seen.rank(&line.evidence) == 0 && !line.text.trim().is_empty());
    if let Some(last) = last.max_by_key(|line| line.number) {
        claims.push(claim("The output ends here", last));
    }
    let title = match likely.first() {
        Some(line) => format!("Cause not recognised: {}", shorten(&line.text)),
        None => "Cause not recognised: the evidence shows no error".to_owned(),
    };
    json!({
        "title": shorten(&title),
        "cause": "No runbook describes this failure, and the built-in analyst does not guess. The cited lines look most like its reason.",
        "class": FailureClass::Unknown.as_str(),
        "confidence": "low",
        "claims": claims,
        "next_steps": [
            "Read the cited lines in their context.",
            "When the cause is found, add a signature for it to a runbook, so that it is recognised next time."
        ],
    })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
