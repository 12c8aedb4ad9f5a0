//! Holds what an analyst concludes against the evidence. A claim has to quote a line and to say what the line says; title, cause and
//! next steps have to speak of the lines that claims were verified by. What does not hold is given back, and then left out.

mod echo;
mod grounds;
mod names;
mod steps;
mod words;

use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Claim, Confidence, Diagnosis, LineSpan};
use grounds::{AROUND, Grounds, SentenceCheck};

/// Lines one claim may cite; more proves nothing.
const MAX_SPAN: u32 = 200;
/// Lines a claim may cite that quotes none of them.
const MAX_UNQUOTED: u32 = 20;
/// Shortest quote that proves something, in characters.
const MIN_QUOTE: usize = 4;
/// Names that are told.
const MAX_NAMES: usize = 10;
/// Longest title, in characters.
const MAX_TITLE: usize = 120;

/// What a diagnosis is checked against.
pub trait Sources {
    /// The text of a piece of evidence.
    fn text(&self, label: &str) -> Option<&str>;

    /// All texts, and whatever else the analyst was told, where names may come from. `None`: the words are people's, and only the
    /// cited lines are checked.
    fn all(&self) -> Option<Vec<&str>>;

    /// Whether a piece tells of the failure itself: the log of a good run, a runbook or an earlier incident prove nothing of it.
    fn proves(&self, label: &str) -> bool {
        self.text(label).is_some()
    }

    /// Runbooks that the analyst was given: their steps and addresses may be told.
    fn guidance(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What runbooks say of lines that they recognise, from the first to the last: people wrote it, so it may be told of them.
    fn meaning(&self, _label: &str, _lines: LineSpan) -> String {
        String::new()
    }

    /// What the analyst was told to do, which is no finding.
    fn orders(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What does not hold, in words for the analyst; empty when all does.
    pub problems: Vec<String>,
    /// What may be told: the diagnosis without what does not hold. `None` when no claim holds, so that nothing of it may be.
    pub held: Option<Diagnosis>,
    /// How many of the claims hold.
    pub verified: usize,
}

/// Checks a diagnosis, see [`Checked`]. A quote that stands elsewhere in the same evidence corrects the lines.
///
/// # Errors
/// The deadline is over.
pub fn check_within(
    mut diagnosis: Diagnosis,
    sources: &impl Sources,
    deadline: &Deadline,
) -> Result<Checked, DeadlinePassed> {
    let mut problems = verify_within(&mut diagnosis, sources, deadline)?;
    let verified = diagnosis.claims.iter().filter(|claim| claim.verified).count();
    let Some(all) = sources.all() else {
        return Ok(Checked { problems, held: Some(diagnosis), verified });
    };
    let lines_of =
        |claims: &[Claim]| claims.iter().map(|claim| grounds(claim, sources)).collect::<Vec<_>>().join("\n");
    let against = |lines: String| Check { grounds: Grounds::new(lines, &all), orders: sources.orders() };
    if !diagnosis.claims.iter().any(|claim| claim.verified && sources.proves(&claim.evidence)) {
        if diagnosis.claims.is_empty() || verified > 0 {
            problems.push(
                "no claim quotes a line that tells of this failure; nothing is told without one".to_owned(),
            );
        }
        // What else does not hold is told at once.
        told(&diagnosis, &against(lines_of(&diagnosis.claims)), &mut problems, deadline)?;
        return Ok(Checked { problems, held: None, verified });
    }
    let claimed = diagnosis.claims.len();
    diagnosis.claims.retain(|claim| claim.verified);
    diagnosis.left_out = u32::try_from(claimed - verified).unwrap_or(u32::MAX);
    let lines = lines_of(&diagnosis.claims);
    let (title, cause) = told(&diagnosis, &against(lines.clone()), &mut problems, deadline)?;
    let whole = title.is_some() && cause.as_ref().is_some_and(|cause| *cause == diagnosis.cause);
    let stated =
        || diagnosis.claims.iter().map(|claim| ended(&claim.statement)).collect::<Vec<_>>().join(" ");
    let cause = cause.unwrap_or_else(stated);
    let title = title.unwrap_or_else(|| diagnosis.claims[0].statement.chars().take(MAX_TITLE).collect());
    let found = format!("{title}\n{cause}\n{lines}");
    // A step may name what a runbook names.
    let known: Vec<&str> = all.iter().copied().chain(sources.guidance()).collect();
    let (steps, wrong) = steps::checked(&diagnosis.next_steps, sources, &known, &found, deadline)?;
    // A step that is left out is not worth another turn, unless none is left.
    if steps.is_empty() || !problems.is_empty() {
        problems.extend(wrong);
    }
    (diagnosis.title, diagnosis.cause, diagnosis.next_steps) = (title, cause, steps);
    diagnosis.confidence = capped(&diagnosis, claimed, whole);
    Ok(Checked { problems, held: Some(diagnosis), verified })
}

struct Check<'a> {
    grounds: Grounds<'a>,
    orders: Vec<&'a str>,
}

impl Check<'_> {
    fn hold(&self, text: &str, deadline: &Deadline) -> Result<SentenceCheck, DeadlinePassed> {
        if echo::is_echo(text, &self.orders) {
            return Ok(SentenceCheck::Not(
                "it repeats what you were told to do, and says nothing of the failure".to_owned(),
            ));
        }
        self.grounds.hold(text, deadline)
    }
}

/// Title and cause as far as they hold.
fn told(
    diagnosis: &Diagnosis,
    check: &Check<'_>,
    problems: &mut Vec<String>,
    deadline: &Deadline,
) -> Result<(Option<String>, Option<String>), DeadlinePassed> {
    let title = match check.hold(&diagnosis.title, deadline)? {
        SentenceCheck::Whole => Some(diagnosis.title.clone()),
        SentenceCheck::Without(title) => {
            problems.push("a part of the title does not hold".to_owned());
            Some(title)
        }
        SentenceCheck::Not(problem) => {
            problems.push(format!("the title does not hold: {problem}"));
            None
        }
    };
    let mut cause = String::new();
    let mut said: Vec<String> = Vec::new();
    for sentence in grounds::sentences(&diagnosis.cause) {
        // A small model says the same until it is cut off.
        let words = sentence.trim().to_lowercase();
        if said.iter().any(|before| before.starts_with(&words)) {
            continue;
        }
        said.push(words);
        match check.hold(sentence, deadline)? {
            SentenceCheck::Whole => cause.push_str(sentence),
            SentenceCheck::Without(rest) => {
                problems.push(format!(
                    "of the cause, a part of \u{201c}{}\u{201d} does not hold",
                    sentence.trim()
                ));
                cause.push_str(&rest);
            }
            SentenceCheck::Not(problem) => {
                problems.push(format!(
                    "of the cause, \u{201c}{}\u{201d} does not hold: {problem}",
                    sentence.trim()
                ));
            }
        }
    }
    let cause = cause.trim_end();
    Ok((title, (!cause.is_empty()).then(|| cause.to_owned())))
}

/// The lines of a claim, with those around.
fn cited(claim: &Claim, sources: &impl Sources) -> String {
    let Some(text) = sources.text(&claim.evidence) else { return String::new() };
    let first = (claim.first_line as usize).saturating_sub(1 + AROUND);
    let count = (claim.last_line.saturating_sub(claim.first_line).min(MAX_SPAN)) as usize + 1 + 2 * AROUND;
    text.lines().skip(first).take(count).collect::<Vec<_>>().join("\n")
}

/// What the statement of a claim rests on: its lines, and what runbooks say of them.
fn grounds(claim: &Claim, sources: &impl Sources) -> String {
    let meaning = sources.meaning(&claim.evidence, claim.lines());
    format!("{}\n{meaning}", cited(claim, sources))
}

/// No surer than what was verified.
fn capped(diagnosis: &Diagnosis, claimed: usize, whole: bool) -> Confidence {
    let quoted = diagnosis.claims.iter().any(|claim| !claim.paraphrased);
    let cap = match diagnosis.claims.len() {
        verified if verified * 2 < claimed || !quoted => Confidence::Low,
        verified if verified < claimed || !whole => Confidence::Medium,
        _ => Confidence::High,
    };
    match (diagnosis.confidence, cap) {
        (Confidence::Low, _) | (_, Confidence::Low) => Confidence::Low,
        (Confidence::Medium, _) | (_, Confidence::Medium) => Confidence::Medium,
        _ => Confidence::High,
    }
}

/// A statement as a sentence.
fn ended(statement: &str) -> String {
    let statement = statement.trim();
    if statement.ends_with(['.', '!', '?']) { statement.to_owned() } else { format!("{statement}.") }
}

/// Marks each claim verified or not. A quote that stands elsewhere in the same evidence corrects the lines. Returns what is wrong,
/// in words for the analyst; empty when all holds.
///
/// # Errors
/// The deadline is over.
pub fn verify_within(
    diagnosis: &mut Diagnosis,
    sources: &impl Sources,
    deadline: &Deadline,
) -> Result<Vec<String>, DeadlinePassed> {
    let mut problems = Vec::new();
    let all = sources.all();
    for (index, claim) in diagnosis.claims.iter_mut().enumerate() {
        (claim.verified, claim.paraphrased) = (false, false);
        let problem = match sources.text(&claim.evidence) {
            None => Some(format!("there is no evidence `{}`", claim.evidence)),
            Some(text) => check(claim, text, deadline)?.err(),
        };
        let problem = match (&all, problem) {
            (Some(all), None) => stated(claim, sources, all, deadline)?,
            (_, problem) => problem,
        };
        claim.verified = problem.is_none();
        problems.extend(problem.map(|problem| format!("claim {}: {problem}", index + 1)));
    }
    Ok(problems)
}

/// What is wrong with a statement, next to its lines.
fn stated(
    claim: &mut Claim,
    sources: &impl Sources,
    all: &[&str],
    deadline: &Deadline,
) -> Result<Option<String>, DeadlinePassed> {
    let check =
        Check { grounds: Grounds::new(grounds(claim, sources), all).of_a_claim(), orders: sources.orders() };
    Ok(match check.hold(&claim.statement, deadline)? {
        SentenceCheck::Whole => None,
        SentenceCheck::Without(rest) => {
            claim.statement = rest;
            None
        }
        SentenceCheck::Not(problem) => Some(format!("its statement does not hold: {problem}")),
    })
}

/// The names in an answer that no source has.
///
/// # Errors
/// The deadline is over.
pub fn not_found(text: &str, sources: &[&str], deadline: &Deadline) -> Result<Vec<String>, DeadlinePassed> {
    Ok(names::unknown(text, sources, deadline)?.into_iter().take(MAX_NAMES).collect())
}

/// Checks one claim against its evidence; corrects its lines when its quote stands elsewhere.
fn check(claim: &mut Claim, text: &str, deadline: &Deadline) -> Result<Result<(), String>, DeadlinePassed> {
    deadline.check()?;
    let lines: Vec<&str> = text.lines().collect();
    let total = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    if claim.last_line < claim.first_line {
        std::mem::swap(&mut claim.first_line, &mut claim.last_line);
    }
    let in_range = claim.first_line >= 1 && claim.last_line <= total;
    let narrow = claim.last_line - claim.first_line < MAX_SPAN;
    let cited = (in_range && narrow).then(|| &lines[claim.first_line as usize - 1..claim.last_line as usize]);
    let quote = claim.quote.as_deref().map(squeeze).filter(|quote| quote.chars().count() >= MIN_QUOTE);
    if let Some(mut quote) = quote {
        let in_cited = |quote: &str| cited.is_some_and(|cited| squeeze(&cited.join("\n")).contains(quote));
        if !in_cited(&quote) && quoted(&lines, &quote, deadline)?.is_none() {
            let bare = squeeze(&unnumbered(claim.quote.as_deref().unwrap_or_default()));
            if bare.chars().count() >= MIN_QUOTE {
                quote = bare;
            }
        }
        if cited.is_some_and(|cited| squeeze(&cited.join("\n")).contains(&quote)) {
            claim.verified = true;
            return Ok(Ok(()));
        }
        let Some(found) = quoted(&lines, &quote, deadline)? else {
            return Ok(Err(format!("{} has no line with the quoted words", claim.evidence)));
        };
        let number = u32::try_from(found + 1).unwrap_or(u32::MAX);
        (claim.first_line, claim.last_line, claim.verified) = (number, number, true);
        return Ok(Ok(()));
    }
    if cited.is_none() || claim.last_line - claim.first_line >= MAX_UNQUOTED {
        return Ok(Err(if in_range {
            format!(
                "it cites {} lines; quote the words that prove it",
                claim.last_line - claim.first_line + 1
            )
        } else {
            format!(
                "{} has {total} lines, so lines {} to {} do not exist",
                claim.evidence, claim.first_line, claim.last_line
            )
        }));
    }
    // What the lines speak of is compared with the statement next.
    (claim.verified, claim.paraphrased) = (true, true);
    Ok(Ok(()))
}

/// The first line that has the quoted words, by index.
fn quoted(lines: &[&str], quote: &str, deadline: &Deadline) -> Result<Option<usize>, DeadlinePassed> {
    for (index, line) in lines.iter().enumerate() {
        deadline.check()?;
        if squeeze(line).contains(quote) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// A quote without the number that lines are shown with: `451: error`, `E1:451: error`.
fn unnumbered(quote: &str) -> String {
    let bare = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix(['E', 'e']).map_or(line, |rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([':', '-'])
        });
        let text = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let text = text
            .strip_prefix(": ")
            .or_else(|| text.strip_prefix("- "))
            .filter(|text| text.len() + 2 < rest.len());
        text.unwrap_or(line).to_owned()
    };
    quote.lines().map(bare).collect::<Vec<_>>().join("\n")
}

/// One space for any white space; models re-wrap what they quote, and leave the ellipsis of a shortened line in.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('…').to_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
