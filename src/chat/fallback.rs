//! The answer without a model: stored data about the incident, and matching knowledge.

use super::brief::{AnswerContext, KnownIncident};
use crate::domain::Evidence;
use crate::knowledge::Passage;
use std::fmt::Write as _;
use std::sync::Arc;

/// Maximum number of lines per piece, and of characters per line.
const SHOWN: (usize, usize) = (20, 300);
/// Maximum number of tool results shown.
const MAX_FETCHED: usize = 5;

/// Returns a citation and the first lines of a piece, as a code block in a list.
pub(super) fn beginning(piece: &Evidence) -> (String, String) {
    let lines: Vec<&str> = piece.text.lines().take(SHOWN.0).collect();
    let mut text = String::new();
    for line in &lines {
        let line: String = line.chars().take(SHOWN.1).collect();
        let _ = write!(text, "\n      {line}");
    }
    (format!("[{}:1-{}]", piece.label, lines.len().max(1)), text)
}

/// Returns the answer as Markdown. `why` explains why no model answered. `fetched` are the results a model fetched before it
/// failed.
pub(super) fn fallback_answer(
    known: &AnswerContext,
    fetched: &[Arc<Evidence>],
    runbooks: &[Passage],
    past: &[Passage],
    why: &str,
) -> String {
    let mut text = format!("{why} These are the matching records:\n");
    let results: Vec<&Arc<Evidence>> = fetched.iter().filter(|piece| !piece.text.trim().is_empty()).collect();
    if !results.is_empty() {
        text.push_str("\n## What was looked up\n");
    }
    for piece in results.iter().rev().take(MAX_FETCHED).rev() {
        let (cited, lines) = beginning(piece);
        let _ = writeln!(text, "\n- {}; it begins with {cited}\n{lines}", piece.title);
    }
    if let Some(KnownIncident { incident, .. }) = &known.incident {
        let _ = write!(text, "\n## {}\n", incident.title);
        if let Some(diagnosis) = &incident.diagnosis {
            let _ = write!(
                text,
                "\n{}\n\nFound by {} with {} confidence.\n",
                diagnosis.cause,
                diagnosis.analyst,
                diagnosis.confidence.as_str()
            );
            for claim in diagnosis.claims.iter().filter(|claim| claim.verified) {
                let lines = if claim.first_line == claim.last_line {
                    claim.first_line.to_string()
                } else {
                    format!("{}-{}", claim.first_line, claim.last_line)
                };
                let _ = write!(text, "\n- {} [{}:{lines}]", claim.statement, claim.evidence);
            }
            for (number, step) in (1..).zip(&diagnosis.next_steps) {
                let _ = write!(text, "\n{number}. {step}");
            }
            text.push('\n');
        }
        for resolution in &known.resolutions {
            let _ = write!(text, "\n> {}\n", crate::knowledge::resolution_line(resolution));
        }
    }
    for (heading, passages) in [("Runbooks", runbooks), ("Failures like it", past)] {
        if passages.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {heading}\n");
        for passage in passages {
            let _ = write!(text, "\n### {}\n\n{}\n", passage.title, passage.text.trim());
        }
    }
    if known.incident.is_none() && results.is_empty() && runbooks.is_empty() && past.is_empty() {
        text.push_str("\nNo runbook and no past incident fits the question.\n");
    }
    text
}
