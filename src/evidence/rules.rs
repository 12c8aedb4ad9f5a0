//! The rules analyst: derives a diagnosis from runbook signatures, or else cites the most probable lines. A pure function
//! of evidence and signatures, so that equal evidence yields equal diagnoses, independent of prompts.

use super::excerpt::{Log, excerpt_within};
use super::lines::Templates;
use super::severity;
use super::signature::{NAMES_CAUSE, Signature, SignatureHit, SignatureSet};
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Claim, Confidence, Diagnosis, Evidence, EvidenceKind, FailureClass};
use regex::Regex;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Name of the analyst in records.
pub const NAME: &str = "rules";
/// General words of failure, for evidence that no signature matches; matched case-insensitively.
pub const GENERIC: &str = r"\b(?:error|fatal|panic|exception|failed|failure|denied|refused|cannot|could not|unable to|no such|not found|killed|timed out)\b";
/// Maximum number of lines with such words per piece, from the beginning and the end.
pub const MAX_FOUND: usize = 30;

/// Maximum number of characters of evidence in a title or statement.
const MAX_QUOTE: usize = 200;
/// Maximum number of claims based on signatures.
const MAX_CLAIMS: usize = 3;
/// Number of lines read before and after the decisive line.
const AROUND: (u32, u32) = (5, 10);
/// Token budget for probable lines if no signature matches: for a log, and for another piece.
const LIKELY_TOKENS: (usize, usize) = (3_600, 900);

static WORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("(?i){GENERIC}")).expect("a fixed pattern"));

/// A diagnosis and the evidence examined for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// Labels of the pieces searched for [`GENERIC`] words; empty when a signature matched.
    pub searched: Vec<String>,
    /// The decisive line and its surroundings; `None` when no line indicates a failure.
    pub read: Option<Passage>,
    /// The diagnosis; its claims are not verified yet.
    pub diagnosis: Diagnosis,
}

/// A range of lines in a piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Label of the piece.
    pub evidence: String,
    /// First line, from 1.
    pub first_line: u32,
    /// Last line, inclusive.
    pub last_line: u32,
}

/// A line of evidence.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    piece: &'a Evidence,
    number: u32,
    text: &'a str,
}

impl Line<'_> {
    /// Returns the line with its surroundings.
    fn passage(&self) -> Passage {
        let (before, after) = AROUND;
        Passage {
            evidence: self.piece.label.clone(),
            first_line: self.number.saturating_sub(before).max(1),
            last_line: self.number.saturating_add(after),
        }
    }

    fn claim(&self, statement: &str) -> Claim {
        Claim {
            statement: shorten(statement),
            evidence: self.piece.label.clone(),
            first_line: self.number,
            last_line: self.number,
            quote: Some(self.text.trim().chars().take(MAX_QUOTE).collect()),
            verified: false,
            paraphrased: false,
        }
    }
}

/// A line matched by a signature.
struct Candidate<'a> {
    line: Line<'a>,
    hit: SignatureHit,
    signature: &'a Signature,
}

/// Derives a diagnosis from the evidence. Never cites the log of the last successful run, which only shows normal output,
/// or tool results, which belong to another analyst.
///
/// # Errors
/// The deadline has passed.
pub fn analyze(
    pieces: &[&Evidence],
    signatures: &SignatureSet,
    deadline: &Deadline,
) -> Result<Analysis, DeadlinePassed> {
    let is_cited =
        |piece: &&Evidence| !matches!(piece.kind, EvidenceKind::GoodLog | EvidenceKind::ToolResult);
    let cited: Vec<&Evidence> = pieces.iter().copied().filter(is_cited).collect();
    let candidates = candidates(&cited, signatures, deadline)?;
    if let Some(best) = candidates.first() {
        let diagnosis = recognised(best, &candidates[1..]);
        return Ok(Analysis { searched: Vec::new(), read: Some(best.line.passage()), diagnosis });
    }
    let good = pieces.iter().find(|piece| piece.kind == EvidenceKind::GoodLog);
    let good = good.map(|piece| Templates::within(&piece.text, deadline)).transpose()?;
    let likely = likely(&cited, good.as_ref(), deadline)?;
    Ok(Analysis {
        searched: cited.iter().map(|piece| piece.label.clone()).collect(),
        read: likely.first().map(Line::passage),
        diagnosis: unknown(&likely, last_line(&cited)),
    })
}

/// Returns the first matching line per signature and piece. Sorted by signature priority, then log before cluster data,
/// then line number.
fn candidates<'a>(
    pieces: &[&'a Evidence],
    set: &'a SignatureSet,
    deadline: &Deadline,
) -> Result<Vec<Candidate<'a>>, DeadlinePassed> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    for piece in pieces {
        let mut known = BTreeSet::new();
        for (number, text) in (1..).zip(piece.text.lines()) {
            deadline.check()?;
            let line = Line { piece, number, text };
            let first = set.matches(text).into_iter().filter(|hit| known.insert(hit.index));
            candidates.extend(first.map(|hit| {
                let signature = &set.signatures()[hit.index];
                Candidate { line, hit, signature }
            }));
        }
    }
    candidates.sort_by_key(|candidate| {
        let Line { piece, number, .. } = candidate.line;
        (Reverse(candidate.signature.priority), rank(piece.kind), number)
    });
    Ok(candidates)
}

/// Builds the diagnosis from the best candidate's signature; other candidates become additional claims.
fn recognised(best: &Candidate<'_>, others: &[Candidate<'_>]) -> Diagnosis {
    let Candidate { line, hit, signature } = best;
    let names_cause = signature.priority >= NAMES_CAUSE;
    let title = hit.fill(&signature.title);
    let mut claims = vec![line.claim(&title)];
    let mut told = vec![hit.index];
    for other in others {
        // A consequence such as "build failed" adds nothing to a cause.
        let echo = names_cause && other.signature.priority < NAMES_CAUSE;
        if claims.len() == MAX_CLAIMS || told.contains(&other.hit.index) || echo {
            continue;
        }
        told.push(other.hit.index);
        let title = other.hit.fill(&other.signature.title);
        claims.push(other.line.claim(&format!("Also seen: {title}")));
    }
    let cause = hit.fill(&signature.cause);
    Diagnosis {
        class: signature.class,
        confidence: if names_cause { Confidence::High } else { Confidence::Medium },
        claims,
        next_steps: signature.next_steps.iter().map(|step| hit.fill(step)).collect(),
        ..concluded(&title, format!("{cause} (Recognised by the runbook {}.)", signature.runbook))
    }
}

/// Returns lines that indicate a failure, most severe first: the most probable lines, lines with words of failure, and the
/// lines around the most severe one.
fn likely<'a>(
    pieces: &[&'a Evidence],
    good: Option<&Templates>,
    deadline: &Deadline,
) -> Result<Vec<Line<'a>>, DeadlinePassed> {
    let mut found = Vec::new();
    for piece in pieces {
        let lines: Vec<&str> = piece.text.lines().collect();
        let (good, tokens) = match piece.kind.is_log() {
            true => (good, LIKELY_TOKENS.0),
            false => (None, LIKELY_TOKENS.1),
        };
        let log = Log { text: &piece.text, red: &piece.red, good };
        let mut numbers: BTreeSet<u32> =
            excerpt_within(&log, tokens, deadline)?.lines.into_iter().map(|(number, _)| number).collect();
        numbers.extend(with_words(&lines, deadline)?);
        for number in numbers {
            deadline.check()?;
            found.extend(weighed(piece, &lines, number));
        }
    }
    sort(&mut found);
    if let Some(&(_, worst)) = found.first() {
        let Passage { first_line, last_line, .. } = worst.passage();
        let lines: Vec<&str> = worst.piece.text.lines().take(last_line as usize).collect();
        found.extend((first_line..=last_line).filter_map(|number| weighed(worst.piece, &lines, number)));
        sort(&mut found);
        found.dedup_by_key(|(_, line)| (line.piece.label.as_str(), line.number));
    }
    Ok(found.into_iter().map(|(_, line)| line).collect())
}

/// Returns a line with its severity if it indicates a failure.
fn weighed<'a>(piece: &'a Evidence, lines: &[&'a str], number: u32) -> Option<(u8, Line<'a>)> {
    let text = *lines.get(number as usize - 1)?;
    let severity = severity(text);
    (severity > 0).then_some((severity, Line { piece, number, text }))
}

fn sort(found: &mut [(u8, Line<'_>)]) {
    found.sort_by_key(|(severity, line)| (Reverse(*severity), rank(line.piece.kind), line.number));
}

/// Returns the numbers of lines with [`GENERIC`] words, limited to the first and last ones.
fn with_words(lines: &[&str], deadline: &Deadline) -> Result<Vec<u32>, DeadlinePassed> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(lines) {
        deadline.check()?;
        if WORDS.is_match(line) {
            found.push(number);
        }
    }
    if found.len() > MAX_FOUND {
        let head = MAX_FOUND.div_ceil(2);
        found.drain(head..found.len() - (MAX_FOUND - head));
    }
    Ok(found)
}

/// Returns the last non-blank line of the log.
fn last_line<'a>(pieces: &[&'a Evidence]) -> Option<Line<'a>> {
    let logs = pieces.iter().filter(|piece| rank(piece.kind) == 0);
    let last = logs.filter_map(|piece| {
        let lines = (1..).zip(piece.text.lines());
        lines.filter(|(_, text)| !text.trim().is_empty()).last().map(|(number, text)| Line {
            piece,
            number,
            text,
        })
    });
    last.max_by_key(|line| line.number)
}

/// Builds a diagnosis without a known cause that cites the most probable lines.
fn unknown(likely: &[Line<'_>], last: Option<Line<'_>>) -> Diagnosis {
    let mut claims: Vec<Claim> =
        likely.iter().take(2).map(|line| line.claim("This line looks most like the reason")).collect();
    claims.extend(last.map(|line| line.claim("The output ends here")));
    let title = match likely.first() {
        Some(line) => format!("Cause not recognised: {}", shorten(line.text)),
        None => "Cause not recognised: the evidence shows no error".to_owned(),
    };
    let cause = "No runbook describes this failure, and the built-in analyst does not guess. The cited lines look most like its reason.";
    let steps = [
        "Read the cited lines in their context.",
        "When the cause is found, add a signature for it to a runbook, so that it is recognised next time.",
    ];
    Diagnosis { claims, next_steps: steps.map(str::to_owned).into(), ..concluded(&title, cause.to_owned()) }
}

/// Builds a diagnosis with title and cause, without claims.
fn concluded(title: &str, cause: String) -> Diagnosis {
    Diagnosis {
        title: shorten(title),
        cause,
        class: FailureClass::Unknown,
        confidence: Confidence::Low,
        claims: Vec::new(),
        next_steps: Vec::new(),
        analyst: NAME.to_owned(),
        note: None,
        not_found: Vec::new(),
        left_out: 0,
        runbooks: Vec::new(),
    }
}

/// Sort order of evidence kinds: 0 for the log, higher for other sources.
fn rank(kind: EvidenceKind) -> u8 {
    match kind {
        EvidenceKind::Log | EvidenceKind::Attached => 0,
        EvidenceKind::PreviousLog => 1,
        EvidenceKind::Events => 2,
        EvidenceKind::Pod | EvidenceKind::Alert | EvidenceKind::GoodLog | EvidenceKind::ToolResult => 3,
    }
}

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_QUOTE {
        line
    } else {
        format!("{}…", line.chars().take(MAX_QUOTE).collect::<String>())
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
