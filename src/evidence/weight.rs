//! How much a single line looks like the reason of a failure. Words of failure in general, none of any project.

use regex::{Regex, RegexSet};
use std::sync::LazyLock;

/// From here on a line is worth showing by itself.
pub(super) const NOTABLE: i32 = 30;

static PATTERNS: LazyLock<(RegexSet, Vec<i32>)> = LazyLock::new(|| {
    let weighted: &[(&str, i32)] = &[
        // Diagnostics with a place: file, line, severity.
        (r"^\S+:\d+(?::\d+)?:\s*(?:fatal )?error\b", 70),
        (r"(?i)^\s*(?:\S+\s+){0,4}(?:fatal|panic|critical)\b", 55),
        (r"^(?:error|ERROR|Error)(?:\[[A-Z]*\d+\])?:", 65),
        (r"(?:^|\s|\[)(?:ERROR|FATAL|SEVERE)(?:\]|:|\s)", 45),
        (r"(?i)\berror\b", 32),
        (r"(?i)\b(?:\w+\.)*\w*(?:Error|Exception)\b:", 55),
        (r"^\s*(?:Caused by|panicked at|thread '.*' panicked)", 65),
        (r"^Traceback \(most recent call last\)", 60),
        (r"(?:^|\s)(?:--- FAIL|FAIL:|FAILED|FAILURE|✕|✗|not ok)\b?", 50),
        (r"(?i)\bfail(?:ed|ure|s)?\b", 30),
        (
            r"(?i)\b(?:cannot|could not|can't|unable to|not found|no such|does not exist|undefined|unresolved|missing)\b",
            34,
        ),
        (r"(?i)\b(?:denied|unauthori[sz]ed|forbidden|refused|rejected|invalid|expired)\b", 34),
        (
            r"(?i)\b(?:timed out|timeout|deadline exceeded|connection reset|no space left|out of memory|OOMKilled|killed)\b",
            40,
        ),
        (r"(?i)\bassert(?:ion)?\b.*\b(?:fail|expected|!=|==)", 50),
        (r"(?i)\bexpected\b.*\b(?:got|but|found|actual|received)\b", 45),
        (r"(?i)\b(?:exit(?:ed)?(?: with)?(?: code| status)?|returned)\s*:?\s*[1-9]\d*\b", 30),
        (r"(?i)\bsegmentation fault|core dumped|stack trace\b", 55),
        (r"^E\s{2,}", 50),
        (r"^>\s+\S.*\^|^\s*\^+~*\s*$|^\s*-->\s", 30),
    ];
    let set = RegexSet::new(weighted.iter().map(|(pattern, _)| pattern)).expect("fixed patterns");
    (set, weighted.iter().map(|(_, weight)| *weight).collect())
});

/// Lines that only look like failure: counts of nothing, names and flags, announcements.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b0 (?:errors?|fail(?:ed|ures?)?|warnings?)\b|(?:errors?|failures?|failed|fail)\s*[:=]\s*0\b|\bno (?:errors?|failures?)\b",
        r"|--\w*-?(?:fail|error)[\w-]*|\b(?:fail|error)[-_.](?:fast|prone|handler|chain|ex)\b|\b[\w-]+[-_/](?:errors?|exceptions?)(?:[-_/.@]\w+)+",
        r"|\b(?:download(?:ing|ed)?|compiling|installing|unpacking|fetching|copying|adding)\b.*(?:error|exception|fail)",
        r"|\bok\b.*\.\.\.|\.\.\. ok\b|\bPASS(?:ED)?\b|\bwarn(?:ing)?\b|\bdeprecat|\bretry(?:ing)?\b|\bif\b.*\bfail"
    ))
    .expect("a fixed pattern")
});

/// Weight from 0 (nothing) to about 100 (says what went wrong).
#[must_use]
pub fn severity(line: &str) -> i32 {
    if line.len() < 3 {
        return 0;
    }
    let (set, weights) = &*PATTERNS;
    let mut matched: Vec<i32> = set.matches(line).into_iter().map(|index| weights[index]).collect();
    if matched.is_empty() {
        return 0;
    }
    matched.sort_unstable_by(|a, b| b.cmp(a));
    let weight = matched[0] + matched.iter().skip(1).map(|weight| weight / 8).sum::<i32>();
    if HARMLESS.is_match(line) { weight / 4 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::severity;

    #[test]
    fn what_only_looks_like_failure_weighs_little() {
        for line in [
            "0 errors, 0 warnings",
            "cargo test --no-fail-fast",
            "Compiling error-chain v0.12",
            "Tests run: 4, Failures: 0, Errors: 0",
            "Downloading exception-utils-1.2.jar",
        ] {
            assert!(severity(line) < super::NOTABLE, "{line}: {}", severity(line));
        }
        for line in [
            "error[E0308]: mismatched types",
            "main.go:12:3: error: x",
            "java.lang.IllegalStateException: boom",
            "E   assert 1 == 2",
            "npm ERR! code ERESOLVE could not resolve",
        ] {
            assert!(severity(line) >= super::NOTABLE, "{line}: {}", severity(line));
        }
    }
}
