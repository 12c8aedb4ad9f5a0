//! Checks what an analyst cites and names against the evidence. Nothing that is not there is filed as fact.

mod names;

use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Claim, Diagnosis};
use std::collections::BTreeSet;

/// Lines one claim may cite; more proves nothing.
const MAX_SPAN: u32 = 200;
/// Shortest quote that proves something, in characters.
const MIN_QUOTE: usize = 4;
/// Names that are told.
const MAX_NAMES: usize = 10;

/// What a diagnosis is checked against.
pub trait Sources {
    /// The text of a piece of evidence.
    fn text(&self, label: &str) -> Option<&str>;

    /// All texts, and whatever else the analyst was told, where names may come from. `None`: names are not checked.
    fn all(&self) -> Option<Vec<&str>>;
}

/// Marks each claim verified or not, and lists the names in title, cause and claims that nobody told the analyst. A quote that stands
/// elsewhere in the same evidence corrects the lines. Returns what is wrong, in words for the analyst; empty when all holds.
pub fn verify(diagnosis: &mut Diagnosis, sources: &impl Sources) -> Vec<String> {
    verify_within(diagnosis, sources, &Deadline::never()).unwrap_or_default()
}

/// The same; stops when the deadline is over.
///
/// # Errors
/// It is over.
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
        let invented = match &all {
            Some(all) => names::unknown(&claim.statement, all, deadline)?,
            None => BTreeSet::new(),
        };
        let problem = problem.or_else(|| {
            let names = listed(&invented)?;
            claim.verified = false;
            Some(format!("its statement names what the evidence does not have: {names}"))
        });
        problems.extend(problem.map(|problem| format!("claim {}: {problem}", index + 1)));
    }
    diagnosis.not_found.clear();
    if let Some(all) = &all {
        let told = format!("{}\n{}", diagnosis.title, diagnosis.cause);
        let unknown = names::unknown(&told, all, deadline)?;
        if let Some(names) = listed(&unknown) {
            problems.push(format!("title or cause name what the evidence does not have: {names}"));
        }
        diagnosis.not_found.extend(unknown.into_iter().take(MAX_NAMES));
    }
    Ok(problems)
}

/// The names in an answer that no source has.
///
/// # Errors
/// The deadline is over.
pub fn not_found(text: &str, sources: &[&str], deadline: &Deadline) -> Result<Vec<String>, DeadlinePassed> {
    Ok(names::unknown(text, sources, deadline)?.into_iter().take(MAX_NAMES).collect())
}

fn listed(names: &BTreeSet<String>) -> Option<String> {
    let quoted: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
    (!quoted.is_empty()).then(|| quoted.join(", "))
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
    if let Some(quote) = quote {
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
    let Some(cited) = cited else {
        return Ok(Err(if in_range {
            format!("it cites {} lines; name those that prove it", claim.last_line - claim.first_line + 1)
        } else {
            format!(
                "{} has {total} lines, so lines {} to {} do not exist",
                claim.evidence, claim.first_line, claim.last_line
            )
        }));
    };
    // Without a quote the lines have to speak of what is claimed.
    let words = significant(&cited.join(" "));
    if significant(&claim.statement).intersection(&words).next().is_none() {
        return Ok(Err(format!(
            "nothing in lines {} to {} of {} speaks of it; quote the words that do",
            claim.first_line, claim.last_line, claim.evidence
        )));
    }
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

/// One space for any white space; models re-wrap what they quote, and leave the ellipsis of a shortened line in.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('…').to_owned()
}

/// Words that mean something, in lower case.
fn significant(text: &str) -> BTreeSet<String> {
    const COMMON: [&str; 24] = [
        "this", "that", "with", "from", "have", "were", "line", "lines", "shows", "show", "which", "there",
        "their", "when", "then", "than", "because", "into", "been", "error", "failed", "fails", "failure",
        "build",
    ];
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.len() >= 4 || word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_digit()))
        .map(str::to_lowercase)
        .filter(|word| !COMMON.contains(&word.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Confidence, FailureClass};

    struct One(&'static str, bool);

    impl Sources for One {
        fn text(&self, label: &str) -> Option<&str> {
            (label == "E1").then_some(self.0)
        }

        fn all(&self) -> Option<Vec<&str>> {
            self.1.then(|| vec![self.0])
        }
    }

    const LOG: &str = "one\n\nerror:  disk full\nfour\n";

    fn diagnosis(cause: &str, statement: &str, span: (u32, u32), quote: Option<&str>) -> Diagnosis {
        let claim = Claim {
            statement: statement.into(),
            evidence: "E1".into(),
            first_line: span.0,
            last_line: span.1,
            quote: quote.map(Into::into),
            verified: true,
            paraphrased: false,
        };
        Diagnosis {
            title: "t".into(),
            cause: cause.into(),
            class: FailureClass::Code,
            confidence: Confidence::High,
            claims: vec![claim],
            next_steps: Vec::new(),
            analyst: "m".into(),
            note: None,
            not_found: Vec::new(),
            runbooks: Vec::new(),
        }
    }

    fn check(first: u32, last: u32, quote: Option<&str>) -> (bool, u32, u32) {
        let mut diagnosis = diagnosis("c", "the disk is full", (first, last), quote);
        let problems = verify(&mut diagnosis, &One(LOG, true));
        let claim = &diagnosis.claims[0];
        assert_eq!(claim.verified, problems.is_empty(), "{problems:?}");
        (claim.verified, claim.first_line, claim.last_line)
    }

    #[test]
    fn only_what_stands_there_is_verified() {
        assert_eq!(check(3, 3, Some("disk full")), (true, 3, 3));
        assert_eq!(check(1, 1, Some("error: disk full")), (true, 3, 3), "the lines are corrected");
        assert!(!check(3, 3, Some("disk empty")).0);
        assert!(!check(3, 9, None).0, "past the end");
        assert!(!check(0, 1, None).0);
        assert!(!check(2, 2, None).0, "blank");
        assert!(!check(1, 1, None).0, "speaks of something else");
        assert_eq!(check(4, 3, None), (true, 3, 4), "swapped ends");
    }

    #[test]
    fn a_claim_without_a_quote_is_a_paraphrase() {
        let mut told = diagnosis("c", "the disk is full", (3, 3), None);
        assert!(verify(&mut told, &One(LOG, true)).is_empty());
        assert!(told.claims[0].paraphrased);
    }

    #[test]
    fn invented_names_are_told() {
        let mut told =
            diagnosis("`db.rs` did it", "the disk of host.example.com is full", (3, 3), Some("disk full"));
        let problems = verify(&mut told, &One(LOG, true));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(!told.claims[0].verified);
        assert_eq!(told.not_found, ["db.rs"]);
        // The built-in analyst's words are the runbooks': people wrote them.
        assert!(verify(&mut told, &One(LOG, false)).is_empty());
    }
}
