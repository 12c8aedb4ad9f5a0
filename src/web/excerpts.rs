//! Excerpts of the lines that claims cite, with context.

use super::logs::{LIMIT, Logs, RankedEvidence};
use crate::api::position;
use crate::app::App;
use crate::clock::{Deadline, DeadlinePassed};
use crate::db::evidence::{self, Owner, Text};
use crate::domain::{Claim, Diagnosis, Principal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;

/// Number of context lines before and after the cited lines.
const AROUND: usize = 2;
/// Maximum number of cited lines shown per claim.
const MOST: usize = 20;
/// Maximum number of characters shown of a line; a longer line is cut around the quote.
const LONGEST: usize = 4_000;
/// Number of characters shown before the quote in such a line.
const BEFORE: usize = 400;
/// Maximum number of characters shown of a context line.
const AROUND_LONGEST: usize = 300;
/// Maximum number of claims with excerpts.
const CLAIMS: usize = 50;

/// Excerpt of a claim.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Excerpt {
    lines: Vec<Line>,
    /// Number of cited lines that are not shown.
    more: usize,
    /// Cited lines as text, for copying.
    cited: String,
}

/// A line, split at the quoted part.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Line {
    number: usize,
    before: String,
    quoted: String,
    after: String,
    cited: bool,
}

/// Text of a piece of evidence: cached, or read from the database.
enum Source {
    Held(Arc<RankedEvidence>),
    Fetched(String),
}

/// Returns the excerpt of each claim, in order; `None` if the lines are no longer stored. Failures are not errors: the page
/// works without excerpts.
pub(super) async fn of(
    app: &App,
    logs: &Logs,
    report: Option<Uuid>,
    diagnosis: Option<&Diagnosis>,
) -> Vec<Option<Excerpt>> {
    let (Some(report), Some(diagnosis)) = (report, diagnosis) else { return Vec::new() };
    let claims: Vec<Claim> = diagnosis.claims.iter().take(CLAIMS).cloned().collect();
    let mut sources = BTreeMap::new();
    for claim in &claims {
        if !sources.contains_key(&claim.evidence)
            && let Some(source) = source(app, logs, report, &claim.evidence).await
        {
            sources.insert(claim.evidence.clone(), source);
        }
    }
    let cut = app.blocking.run_checked(LIMIT, move |deadline| {
        claims.iter().map(|claim| excerpt(&sources, claim, deadline)).collect()
    });
    cut.await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the lines of claims could not be shown");
        Vec::new()
    })
}

async fn source(app: &App, logs: &Logs, report: Uuid, label: &str) -> Option<Source> {
    let (owner, position, reader) = (Owner::Report(report), position(label).ok()?, Principal::nobody());
    let id = evidence::id(&app.pool, owner, position, &reader).await.ok()??;
    if let Some(shown) = logs.get(id) {
        return Some(Source::Held(shown));
    }
    match evidence::text(&app.pool, owner, position, &reader).await.ok()?? {
        Text::Kept(text) => Some(Source::Fetched(text)),
        Text::Pruned(_) | Text::Withheld(_) => None,
    }
}

fn excerpt(
    sources: &BTreeMap<String, Source>,
    claim: &Claim,
    deadline: &Deadline,
) -> Result<Option<Excerpt>, DeadlinePassed> {
    deadline.check()?;
    let text = match sources.get(&claim.evidence) {
        Some(Source::Held(shown)) => &shown.piece.text,
        Some(Source::Fetched(text)) => text,
        None => return Ok(None),
    };
    Ok(cut(text, claim))
}

/// Returns the cited lines of a text with context; `None` if the text does not contain them.
fn cut(text: &str, claim: &Claim) -> Option<Excerpt> {
    let (first, last) = (claim.first_line as usize, claim.last_line as usize);
    let shown_last = last.min(first + MOST - 1);
    if first == 0 || last < first {
        return None;
    }
    let from = first.saturating_sub(AROUND).max(1);
    // Truncated cited lines are not followed by context.
    let to = if shown_last < last { shown_last } else { last + AROUND };
    let quotes: Vec<&str> = claim
        .quote
        .as_deref()
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|line| line.len() > 2)
        .collect();
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()).skip(from - 1).take(to + 1 - from) {
        let cited = (first..=last).contains(&number);
        // A quote of the whole line is not marked.
        let mut within = quotes.iter().filter(|quote| cited && **quote != line.trim());
        let quoted = within.find_map(|quote| {
            let at = line.find(quote)?;
            Some(at..at + quote.len())
        });
        lines.push(split(number, line, quoted, cited));
    }
    let whole = |line: &Line| format!("{}{}{}", line.before, line.quoted, line.after);
    let cited: Vec<String> = lines.iter().filter(|line| line.cited).map(whole).collect();
    (!cited.is_empty()).then(|| Excerpt { lines, more: last - shown_last, cited: cited.join("\n") })
}

/// Splits a line at the quote; cuts a very long line around it.
fn split(number: usize, line: &str, quoted: Option<Range<usize>>, cited: bool) -> Line {
    if !cited {
        let [quoted, after] = [String::new(), String::new()];
        return Line { number, before: beginning(line), quoted, after, cited };
    }
    let quoted = quoted.unwrap_or(0..0);
    let (before, marked, after) = (&line[..quoted.start], &line[quoted.clone()], &line[quoted.end..]);
    if line.len() <= LONGEST {
        let [before, quoted, after] = [before, marked, after].map(str::to_owned);
        return Line { number, before, quoted, after, cited };
    }
    let end = |text: &str, characters: usize| match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let begin = match before.char_indices().rev().nth(BEFORE) {
        Some((start, _)) => format!("…{}", &before[start..]),
        None => before.to_owned(),
    };
    Line { number, before: begin, quoted: end(marked, LONGEST), after: end(after, LONGEST - BEFORE), cited }
}

/// Returns the beginning of a long line, cut at the end of a word.
fn beginning(line: &str) -> String {
    let Some((end, _)) = line.char_indices().nth(AROUND_LONGEST) else { return line.to_owned() };
    let word = line[..end].rfind(char::is_whitespace).filter(|at| *at > end / 2).unwrap_or(end);
    let left = line[word..].chars().count();
    format!("{} … ({left} characters more)", line[..word].trim_end())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn claim(first_line: u32, last_line: u32, quote: Option<&str>) -> Claim {
        Claim {
            statement: String::new(),
            evidence: "E1".to_owned(),
            first_line,
            last_line,
            quote: quote.map(str::to_owned),
            verified: true,
            paraphrased: false,
        }
    }

    fn shown(excerpt: &Excerpt) -> String {
        let line = |line: &Line| {
            let sign = if line.cited { ">" } else { " " };
            format!("{sign}{} {}[{}]{}", line.number, line.before, line.quoted, line.after)
        };
        excerpt.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn two_lines_are_around_the_cited_ones_as_far_as_there_are_any() {
        let text = "one\ntwo\nthe error: no space left\nfour\nfive\nsix\n";
        let of = |claim| shown(&cut(text, &claim).unwrap());
        assert_eq!(
            of(claim(3, 3, Some(" error: no "))),
            " 1 one[]\n 2 two[]\n>3 the [error: no] space left\n 4 four[]\n 5 five[]"
        );
        assert_eq!(of(claim(1, 1, None)), ">1 []one\n 2 two[]\n 3 the error: no space left[]");
        assert_eq!(of(claim(6, 9, None)), " 4 four[]\n 5 five[]\n>6 []six");
        assert_eq!(cut(text, &claim(3, 3, None)).unwrap().cited, "the error: no space left");
        for (first, last) in [(0, 1), (7, 7), (3, 2)] {
            assert_eq!(cut(text, &claim(first, last, None)), None, "{first}-{last}");
        }
    }

    #[test]
    fn a_long_line_beside_the_cited_one_ends_with_a_word() {
        let text = format!("{}\nerror\n{}", "word ".repeat(100), "x".repeat(400));
        let excerpt = cut(&text, &claim(2, 2, None)).unwrap();
        let shown: Vec<&str> = excerpt.lines.iter().map(|line| line.before.as_str()).collect();
        assert!(shown[0].ends_with("word word … (201 characters more)"), "{}", shown[0]);
        assert_eq!(excerpt.cited, "error");
        assert!(shown[2].ends_with("xxx … (100 characters more)"), "{}", shown[2]);
    }

    #[test]
    fn many_lines_and_long_ones_are_bounded_around_what_is_quoted() {
        let many = (1..=100).map(|number| format!("line {number}\n")).collect::<String>();
        let excerpt = cut(&many, &claim(10, 59, None)).unwrap();
        assert_eq!((excerpt.lines.len(), excerpt.more), (2 + MOST, 50 - MOST));
        let long = format!("{}failed here{}", "ä".repeat(9_000), "ü".repeat(9_000));
        let excerpt = cut(&long, &claim(1, 1, Some("failed here"))).unwrap();
        let Line { before, quoted, after, .. } = &excerpt.lines[0];
        assert_eq!((before.chars().count(), quoted.as_str()), (BEFORE + 2, "failed here"));
        assert_eq!(after.chars().count(), LONGEST - BEFORE + 1);
    }
}
