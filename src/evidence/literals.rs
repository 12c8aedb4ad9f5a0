//! Literals that every match of a regular expression contains. They allow running hundreds of expressions only where one of
//! their literals occurs. Based on Russ Cox, "Regular Expression Matching with a Trigram Index" (2012), with whole literals
//! instead of trigrams.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Minimum length in bytes; shorter literals occur too often.
const MIN: usize = 3;
/// Maximum number of alternatives; longer lists filter too little.
const MAX_ALTERNATIVES: usize = 64;

/// Returns lower-case literals of which every match contains at least one; `None` when there are none.
pub(super) fn required(hir: &Hir) -> Option<Vec<String>> {
    let found = of(hir)?;
    (shortest(&found) >= MIN && found.len() <= MAX_ALTERNATIVES).then_some(found)
}

fn shortest(literals: &[String]) -> usize {
    literals.iter().map(String::len).min().unwrap_or(0)
}

fn of(hir: &Hir) -> Option<Vec<String>> {
    if let Some(text) = exact(hir) {
        return (!text.is_empty()).then(|| vec![text]);
    }
    match hir.kind() {
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(of(branch)?);
            }
            all.sort();
            all.dedup();
            Some(all)
        }
        HirKind::Concat(parts) => best(parts),
        _ => None,
    }
}

/// Returns the most selective literals of a sequence: long ones, few alternatives.
fn best(parts: &[Hir]) -> Option<Vec<String>> {
    let mut candidates: Vec<Vec<String>> = Vec::new();
    let mut run = String::new();
    for part in parts {
        if let Some(text) = exact(part) {
            run.push_str(&text);
            continue;
        }
        // Assertions about surrounding text consume no characters.
        if matches!(part.kind(), HirKind::Look(_)) {
            continue;
        }
        candidates.extend((!run.is_empty()).then(|| vec![std::mem::take(&mut run)]));
        candidates.extend(of(part));
    }
    candidates.extend((!run.is_empty()).then(|| vec![run]));
    candidates
        .into_iter()
        .filter(|literals| literals.len() <= MAX_ALTERNATIVES)
        .max_by_key(|literals| (shortest(literals).min(12), std::cmp::Reverse(literals.len())))
}

/// Returns the only text that an expression matches, in lower case.
fn exact(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Empty => Some(String::new()),
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(str::to_ascii_lowercase),
        HirKind::Class(class) => letter(class).map(String::from),
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(exact).collect(),
        _ => None,
    }
}

/// Returns the letter of a class that contains one letter in both cases.
fn letter(class: &Class) -> Option<char> {
    let mut found = None;
    let mut add = |c: char| {
        let c = c.to_ascii_lowercase();
        // In Unicode mode, `(?i)` adds the long s and the Kelvin sign.
        let c = match c {
            'ſ' => 's',
            'K' => 'k',
            c => c,
        };
        let same = found.is_none_or(|known| known == c);
        found = Some(c);
        same
    };
    let one = match class {
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .all(|r| r.end() - r.start() == 0 && r.start().is_ascii() && add(char::from(r.start()))),
        Class::Unicode(class) => class.ranges().iter().all(|r| r.start() == r.end() && add(r.start())),
    };
    found.filter(|c| one && c.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(pattern: &str) -> Option<Vec<String>> {
        required(
            &regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).unwrap(),
        )
    }

    #[test]
    fn the_longest_part_is_taken() {
        let some = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(literals(r"error (NU\d+): Unable to find"), some(&[": unable to find"]));
        assert_eq!(literals(r"(?i)No Space\b left"), some(&["no space left"]));
        assert_eq!(literals(r"(?:TaskRun|PipelineRun) \S+"), some(&["pipelinerun", "taskrun"]));
        assert_eq!(literals(r"(?P<a>\d+)?(?:denied)+x?"), some(&["denied"]));
        assert_eq!(literals(r"\d+ (?:a|b)"), None);
        assert_eq!(literals(r"denied|\d+"), None);
    }
}
