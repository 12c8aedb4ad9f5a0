//! The rules analyst: concludes what the signatures of the runbooks recognise, else cites the lines that look most like the reason.
//! A pure function of evidence and signatures, so the same evidence gives the same conclusion, whatever a prompt shows a model.

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

/// What it is called in records.
pub const NAME: &str = "rules";
/// Words of failure in general, for what no signature recognises; capitals make no difference.
pub const GENERIC: &str = r"\b(?:error|fatal|panic|exception|failed|failure|denied|refused|cannot|could not|unable to|no such|not found|killed|timed out)\b";
/// Lines with such words that are looked at in a piece: the first and the last ones.
pub const MAX_FOUND: usize = 30;

/// Longest piece of evidence in a title or statement.
const MAX_QUOTE: usize = 200;
/// Most claims about what signatures recognise.
const MAX_CLAIMS: usize = 3;
/// Lines before and after the decisive one that are read.
const AROUND: (u32, u32) = (5, 10);
/// Tokens of the likeliest lines that are looked at where nothing is recognised: of a log, and of another piece.
const LIKELY_TOKENS: (usize, usize) = (3_600, 900);

static WORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("(?i){GENERIC}")).expect("a fixed pattern"));

/// A conclusion, and what was looked at for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// Labels of the pieces that were searched for [`GENERIC`] words; none when a signature recognised a line.
    pub searched: Vec<String>,
    /// The decisive line with those around it; none when no line speaks of a failure.
    pub read: Option<Passage>,
    /// The conclusion; its claims are not verified yet.
    pub diagnosis: Diagnosis,
}

/// Lines of a piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Label of the piece.
    pub evidence: String,
    /// First line, counted from 1.
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
    /// The line with those around it.
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

/// A line that a signature recognises.
struct Candidate<'a> {
    line: Line<'a>,
    hit: SignatureHit,
    signature: &'a Signature,
}

/// Concludes from the evidence. The log of the last good run only says what is usual, and results of tools are those of another
/// analyst: neither is cited.
///
/// # Errors
/// The deadline is over.
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

/// The first line of each piece that a signature recognises. Nearest to the root first; then the log before what the cluster says
/// of it; then the first of its kind.
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

/// What the runbook of the best candidate says; the others as further claims.
fn recognised(best: &Candidate<'_>, others: &[Candidate<'_>]) -> Diagnosis {
    let Candidate { line, hit, signature } = best;
    let names_cause = signature.priority >= NAMES_CAUSE;
    let title = hit.fill(&signature.title);
    let mut claims = vec![line.claim(&title)];
    let mut told = vec![hit.index];
    for other in others {
        // An echo, such as "build failed", adds nothing to a cause.
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

/// The lines that speak of a failure, the worst first, among the likeliest ones, those with words of failure and those around the
/// worst.
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

/// A line that speaks of a failure, with how much it does.
fn weighed<'a>(piece: &'a Evidence, lines: &[&'a str], number: u32) -> Option<(u8, Line<'a>)> {
    let text = *lines.get(number as usize - 1)?;
    let severity = severity(text);
    (severity > 0).then_some((severity, Line { piece, number, text }))
}

fn sort(found: &mut [(u8, Line<'_>)]) {
    found.sort_by_key(|(severity, line)| (Reverse(*severity), rank(line.piece.kind), line.number));
}

/// Numbers of the lines with [`GENERIC`] words, the first and the last ones.
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

/// Where the output ends: the last line of the log with text.
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

/// Nothing matched: the likeliest lines, and no claim to know.
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

/// A conclusion that says so much, and claims nothing yet.
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

/// 0 for the log, more for what others say about it.
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
