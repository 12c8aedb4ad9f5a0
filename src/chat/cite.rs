//! Citations in an answer: `[E2:14]`, `[E2:14-20]`, or several in one pair of brackets. Small models write `(E2:14)` and ``
//! `E2:14` ``.

use crate::domain::{Citation, Evidence};
use regex::Regex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

static GROUP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\[(?:[Ee]\d+:[^\[\]\n]{1,200})\]|\([Ee]\d+:\d[^()\n]{0,200}\)|`[Ee]\d+:\d[^`\n]{0,200}`")
        .expect("a fixed pattern")
});
static MARK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[Ee](\d+):(\d+)(?:\s*[-–]\s*(\d+))?").expect("a fixed pattern"));
/// Maximum number of citations in one answer.
const MAX: usize = 50;
/// Maximum number of lines per citation.
const MAX_SPAN: u32 = 200;
/// Maximum number of lines and characters of a quote.
const QUOTED_LINES: usize = 5;
const QUOTED_CHARS: usize = 400;

/// Returns the distinct citations of a text in order, verified. `url` returns the URL of a piece of evidence.
pub(super) fn citations(
    text: &str,
    pieces: &[Arc<Evidence>],
    url: &dyn Fn(&str) -> Option<String>,
) -> Vec<Citation> {
    let mut found: Vec<Citation> = Vec::new();
    // Splits each cited piece into lines only once.
    let mut lines_of: HashMap<&str, Vec<&str>> = HashMap::new();
    let marks = GROUP.find_iter(text).flat_map(|group| MARK.captures_iter(group.as_str()));
    for mark in marks.take(MAX) {
        let number = |group: usize| mark.get(group).and_then(|m| m.as_str().parse::<u32>().ok());
        let (Some(piece), Some(first)) = (number(1), number(2)) else { continue };
        let last = number(3).unwrap_or(first);
        let (first_line, last_line) = (first.min(last), first.max(last));
        let evidence = format!("E{piece}");
        if found.iter().any(|known| known.evidence == evidence && known.mark == mark[0]) {
            continue;
        }
        let known = pieces.iter().find(|piece| piece.label.eq_ignore_ascii_case(&evidence));
        let lines: &[&str] = match known {
            Some(piece) => lines_of.entry(&piece.label).or_insert_with(|| piece.text.lines().collect()),
            None => &[],
        };
        let total = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let in_range = first_line >= 1 && last_line <= total && last_line - first_line < MAX_SPAN;
        let cited = if in_range { &lines[first_line as usize - 1..last_line as usize] } else { &[] };
        let quote: Vec<&str> = cited.iter().take(QUOTED_LINES).copied().collect();
        found.push(Citation {
            mark: mark[0].to_owned(),
            title: known.map(|piece| piece.title.clone()).unwrap_or_default(),
            first_line,
            last_line,
            quote: quote.join("\n").chars().take(QUOTED_CHARS).collect(),
            verified: cited.iter().any(|line| !line.trim().is_empty()),
            url: known.and_then(|_| url(&evidence)),
            evidence,
        });
    }
    found
}

/// Describes the invalid citations of an answer for the model. Returns `None` when all are valid.
pub(super) fn problem(citations: &[Citation], pieces: &[Arc<Evidence>]) -> Option<String> {
    let wrong: Vec<&str> = citations
        .iter()
        .filter(|citation| !citation.verified)
        .map(|citation| citation.mark.as_str())
        .collect();
    if wrong.is_empty() {
        return None;
    }
    let known: Vec<String> = pieces
        .iter()
        .map(|piece| format!("{} ({} lines)", piece.label, piece.text.lines().count()))
        .collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Some(format!(
        "These citations lead nowhere: {}. The evidence there is: {known}. Answer once more, whole, and cite only lines that you were shown.",
        wrong.join(", ")
    ))
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::domain::EvidenceKind;
    use uuid::Uuid;

    #[test]
    fn citations_are_looked_up() {
        let piece = Evidence {
            id: Uuid::nil(),
            label: "E1".into(),
            kind: EvidenceKind::Log,
            title: "log".into(),
            text: "one\n\nthree\n".into(),
            red: Vec::new(),
        };
        let pieces = [Arc::new(piece)];
        let text = "It broke [E1:3], see [E1:1-3; e1:2] and [E7:1] or [E1:9], not E1:1 or [1].";
        let found = citations(text, &pieces, &|label| Some(format!("/{label}")));
        let short: Vec<(&str, &str, u32, u32, bool)> = found
            .iter()
            .map(|c| (c.mark.as_str(), c.evidence.as_str(), c.first_line, c.last_line, c.verified))
            .collect();
        assert_eq!(
            short,
            [
                ("E1:3", "E1", 3, 3, true),
                ("E1:1-3", "E1", 1, 3, true),
                ("e1:2", "E1", 2, 2, false),
                ("E7:1", "E7", 1, 1, false),
                ("E1:9", "E1", 9, 9, false),
            ]
        );
        assert_eq!((found[0].quote.as_str(), found[0].url.as_deref()), ("three", Some("/E1")));
        assert_eq!(found[3].url, None);
        let marks = |text: &str| -> Vec<String> {
            citations(text, &pieces, &|_| None).into_iter().map(|citation| citation.mark).collect()
        };
        assert_eq!(marks("It broke (E1:3): why, see `E1:1-3` and (E1: 3) or (E1)."), ["E1:3", "E1:1-3"]);
        assert!(problem(&found, &pieces).unwrap().contains("e1:2, E7:1, E1:9"));
        assert_eq!(problem(&found[..2], &pieces), None);
    }
}
