//! Verifies a diagnosis against the evidence. A claim has to quote a line and to agree with it; title, cause and next steps
//! have to agree with the lines of verified claims. Unsupported parts are first reported to the analyst, and then removed.

mod echo;
mod grounds;
mod names;
mod steps;
mod words;

use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Claim, Confidence, Diagnosis, LineSpan};
use grounds::{AROUND, Grounds, SentenceCheck};

/// Maximum number of lines cited by a claim.
const MAX_SPAN: u32 = 200;
/// Maximum number of lines cited by a claim without a quotation.
const MAX_UNQUOTED: u32 = 20;
/// Minimum length of a quotation in characters.
const MIN_QUOTE: usize = 4;
/// Maximum number of names in a message.
const MAX_NAMES: usize = 10;
/// Maximum length of a title in characters.
const MAX_TITLE: usize = 120;

/// The sources that a diagnosis is checked against.
pub trait Sources {
    /// Text of a piece of evidence.
    fn text(&self, label: &str) -> Option<&str>;

    /// All texts that names may come from, including everything else the analyst received. `None` for text written by people,
    /// of which only the cited lines are checked.
    fn all(&self) -> Option<Vec<&str>>;

    /// Whether a piece describes the failure itself. The log of a good run, a runbook or an earlier incident proves nothing
    /// about it.
    fn proves(&self, label: &str) -> bool {
        self.text(label).is_some()
    }

    /// Runbooks given to the analyst; next steps may use their steps and addresses.
    fn guidance(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Text of the runbooks whose signatures match the given lines; statements about these lines may use it.
    fn meaning(&self, _label: &str, _lines: LineSpan) -> String {
        String::new()
    }

    /// Instructions of the analyst, which are not findings.
    fn orders(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Unsupported parts, as messages for the analyst; empty when everything is supported.
    pub problems: Vec<String>,
    /// The diagnosis without unsupported parts. `None` when no claim about the failure is verified.
    pub held: Option<Diagnosis>,
    /// Number of verified claims.
    pub verified: usize,
}

/// Checks a diagnosis; see [`Checked`]. If a quotation occurs elsewhere in the same evidence, corrects the line numbers.
///
/// # Errors
/// The deadline has passed.
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
        // Report all other problems in the same response.
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
    // Steps may use names from runbooks.
    let known: Vec<&str> = all.iter().copied().chain(sources.guidance()).collect();
    let (steps, wrong) = steps::checked(&diagnosis.next_steps, sources, &known, &found, deadline)?;
    // A removed step is not worth another turn, unless no step is left.
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

/// Returns the supported parts of title and cause.
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
        // Skip repetitions, which small models produce until their output limit.
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

/// Returns the lines of a claim with their surroundings.
fn cited(claim: &Claim, sources: &impl Sources) -> String {
    let Some(text) = sources.text(&claim.evidence) else { return String::new() };
    let first = (claim.first_line as usize).saturating_sub(1 + AROUND);
    let count = (claim.last_line.saturating_sub(claim.first_line).min(MAX_SPAN)) as usize + 1 + 2 * AROUND;
    text.lines().skip(first).take(count).collect::<Vec<_>>().join("\n")
}

/// Returns the basis of a claim: its lines, and the text of runbooks about them.
fn grounds(claim: &Claim, sources: &impl Sources) -> String {
    let meaning = sources.meaning(&claim.evidence, claim.lines());
    format!("{}\n{meaning}", cited(claim, sources))
}

/// Limits the confidence according to the verified claims.
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

/// Ends a statement with punctuation.
fn ended(statement: &str) -> String {
    let statement = statement.trim();
    if statement.ends_with(['.', '!', '?']) { statement.to_owned() } else { format!("{statement}.") }
}

/// Sets `verified` of each claim. If a quotation occurs elsewhere in the same evidence, corrects the line numbers. Returns
/// the problems as messages for the analyst; empty when all claims are verified.
///
/// # Errors
/// The deadline has passed.
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

/// Checks the statement of a claim against its lines. Returns the problem, if any.
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

/// Returns the names in an answer that do not occur in any source.
///
/// # Errors
/// The deadline has passed.
pub fn not_found(text: &str, sources: &[&str], deadline: &Deadline) -> Result<Vec<String>, DeadlinePassed> {
    Ok(names::unknown(text, sources, deadline)?.into_iter().take(MAX_NAMES).collect())
}

/// Checks one claim against its evidence. Corrects its lines if the quotation occurs elsewhere.
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
    // The statement is compared with the lines afterwards.
    (claim.verified, claim.paraphrased) = (true, true);
    Ok(Ok(()))
}

/// Returns the index of the first line that contains the quotation.
fn quoted(lines: &[&str], quote: &str, deadline: &Deadline) -> Result<Option<usize>, DeadlinePassed> {
    for (index, line) in lines.iter().enumerate() {
        deadline.check()?;
        if squeeze(line).contains(quote) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Removes displayed line numbers from a quotation: `451: error`, `E1:451: error`.
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

/// Collapses white space, because models re-wrap quotations, and removes the ellipsis of a shortened line.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('…').to_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
