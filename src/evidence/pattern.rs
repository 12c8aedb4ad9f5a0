//! Regular expressions from models, runbooks and policies, compiled within limits. The limits bound the time per line,
//! because even an engine without backtracking visits every state for every byte.

use regex_syntax::hir::{Hir, HirKind};

/// Maximum length of a pattern in bytes.
const MAX_LENGTH: usize = 4_000;
/// Maximum number of elements with counted repetitions expanded: `[a-z]{0,50}` has 50, `(?:ab{10}){3}` has 33.
const MAX_ELEMENTS: u64 = 2_000;
/// Maximum number of repetitions of one element by counts; nested counts multiply.
const MAX_REPEATS: u64 = 500;
/// Number of elements up to which the compiled size is not checked on load, because hundreds of patterns are loaded at
/// startup.
const SMALL: u64 = 40;
/// Maximum bytes of the compiled program, and of the cache of the lazy DFA.
pub const SIZE_LIMIT: usize = 1 << 20;

/// Why a pattern is rejected. The messages say how to rewrite it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Invalid or unsupported syntax.
    #[error("it is not a regular expression that is understood here: {0}")]
    Syntax(String),
    /// The pattern would be slow.
    #[error(
        "it is too large: {reason}; use `*` or `+` instead of a large count such as `{{0,1000}}`, and fewer alternatives"
    )]
    TooLarge {
        /// Which limit is exceeded.
        reason: String,
    },
}

impl From<regex::Error> for PatternError {
    fn from(error: regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(limit) => {
                Self::TooLarge { reason: format!("compiled, it takes more than {limit} bytes") }
            }
            other => Self::Syntax(other.to_string()),
        }
    }
}

/// Compiles a pattern for text, within the limits.
///
/// # Errors
/// See [`PatternError`].
pub fn text(pattern: &str, case_insensitive: Case) -> Result<regex::Regex, PatternError> {
    check(pattern, regex_syntax::ParserBuilder::new().build())?;
    let mut builder = regex::RegexBuilder::new(pattern);
    builder.case_insensitive(case_insensitive == Case::Ignored);
    Ok(builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build()?)
}

/// Case sensitivity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Case-sensitive.
    Heeded,
    /// Case-insensitive.
    Ignored,
}

/// Checks a pattern for bytes and returns its parsed form. Classes are ASCII unless the pattern contains `(?u)`.
///
/// # Errors
/// See [`PatternError`].
pub fn bytes(pattern: &str) -> Result<Hir, PatternError> {
    let parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
    let parsed = check(pattern, parser)?;
    // Most patterns are small and compiled on first use. Only these could exceed the size limit then.
    if pattern.contains("(?") && elements(&parsed) > SMALL {
        compiled_bytes(pattern)?;
    }
    Ok(parsed)
}

/// Compiles a pattern accepted by [`bytes`].
///
/// # Errors
/// See [`PatternError`].
pub fn compiled_bytes(pattern: &str) -> Result<regex::bytes::Regex, PatternError> {
    let mut builder = regex::bytes::RegexBuilder::new(pattern);
    Ok(builder.unicode(false).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build()?)
}

fn check(pattern: &str, mut parser: regex_syntax::Parser) -> Result<Hir, PatternError> {
    if pattern.len() > MAX_LENGTH {
        let reason = format!("{} bytes, and {MAX_LENGTH} is the most", pattern.len());
        return Err(PatternError::TooLarge { reason });
    }
    let parsed = parser.parse(pattern).map_err(|error| PatternError::Syntax(error.to_string()))?;
    let repeats = repeats(&parsed);
    if repeats > MAX_REPEATS {
        let reason = format!("its counts repeat an element {repeats} times, and {MAX_REPEATS} is the most");
        return Err(PatternError::TooLarge { reason });
    }
    let elements = elements(&parsed);
    if elements > MAX_ELEMENTS {
        let reason =
            format!("with its counts written out it has {elements} elements, and {MAX_ELEMENTS} is the most");
        return Err(PatternError::TooLarge { reason });
    }
    Ok(parsed)
}

/// Number of copies that a counted repetition expands to.
fn count(repetition: &regex_syntax::hir::Repetition) -> u64 {
    u64::from(repetition.max.unwrap_or(repetition.min).max(1))
}

/// Returns the largest product of nested counts. The parser limits the depth.
fn repeats(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Repetition(repetition) => count(repetition).saturating_mul(repeats(&repetition.sub)),
        HirKind::Capture(capture) => repeats(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(repeats).max().unwrap_or(1),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 1,
    }
}

/// Number of characters and classes with all counts expanded.
fn elements(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) | HirKind::Look(_) => 1,
        HirKind::Repetition(repetition) => count(repetition).saturating_mul(elements(&repetition.sub)),
        HirKind::Capture(capture) => elements(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(elements).fold(0, u64::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded_alone_nested_and_in_sum() {
        for pattern in [
            "[ -~]{0,3990}[^ -~]",
            "(?:a{0,30}){0,30}",
            "((((a{5}){5}){5}){5}){5}",
            "x{1000}",
            "x{501,}",
            &"(?:abcdefghij){0,100}".repeat(3),
            &"[ab]{400}".repeat(6),
            &"x".repeat(MAX_LENGTH + 1),
        ] {
            let error = text(pattern, Case::Ignored).unwrap_err();
            assert!(matches!(error, PatternError::TooLarge { .. }), "{pattern}: {error}");
            assert!(error.to_string().contains("instead of a large count"), "{error}");
            assert!(bytes(pattern).is_err(), "{pattern}");
        }
        // Few elements, but a large compiled program.
        let classes = r"\w{100}\p{L}{100}\w{100}\p{L}{100}";
        assert!(matches!(text(classes, Case::Ignored), Err(PatternError::TooLarge { .. })));
    }

    #[test]
    fn what_people_and_models_write_is_taken() {
        for pattern in [
            r"error\[E\d{4}\]: .{0,200}",
            r"(?i)\b(?:error|fatal|panic)\b.*",
            r"\b[0-9a-f]{40}\b",
            r"^\s{2,8}at .+\(.+:\d+\)$",
            r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}:\d{2,5}",
            r"Überlauf|größer",
        ] {
            text(pattern, Case::Ignored).unwrap();
            bytes(&format!("(?u:{pattern})")).unwrap();
        }
        assert!(matches!(text("(", Case::Heeded), Err(PatternError::Syntax(_))));
    }
}
