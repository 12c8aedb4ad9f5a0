//! Masks parts of lines that change from run to run, so that lines of the same template compare equal.

use regex::Regex;
use std::sync::LazyLock;

static MASKS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let mask = |pattern: &str, by| (Regex::new(pattern).expect("a fixed pattern"), by);
    vec![
        mask(r"\[redacted:[a-z-]+:\d+\]", "<secret>"),
        mask(r"\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
        mask(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        mask(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
        mask(r"(?i)\bsha256:[0-9a-f]{12,64}\b", "<hash>"),
        mask(r"\b0x[0-9a-fA-F]+\b", "<hex>"),
        mask(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<address>"),
        // Pod name of a deployment or task run: name, hash, five random characters.
        mask(r"-[bcdfghjklmnpqrstvwxz2456789]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-<pod>"),
        mask(r"-[bcdfghjklmnpqrstvwxz2456789]{5}(?:-pod)?\b", "-<pod>"),
        mask(r"/(?:tmp|var/tmp)/[^\s:'\x22]+", "<tmp>"),
        mask(r"\b\d+(?:\.\d+)?(?:ms|s|m|h|[KMGT]i?B?|%)?\b", "<n>"),
    ]
});

static HASH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{7,64}\b").expect("a fixed pattern"));

/// Replaces the variable parts of a line with placeholders.
#[must_use]
pub fn mask(line: &str) -> String {
    let mut masked = line.trim().to_owned();
    for (index, (pattern, by)) in MASKS.iter().enumerate() {
        if index == MASKS.len() - 1 {
            // Hexadecimal words are hashes only if they contain a digit; `feedback` and `decade` are words.
            masked = HASH
                .replace_all(&masked, |found: &regex::Captures<'_>| {
                    let word = &found[0];
                    if word.bytes().any(|b| b.is_ascii_digit()) {
                        "<hash>".to_owned()
                    } else {
                        word.to_owned()
                    }
                })
                .into_owned();
        }
        if let std::borrow::Cow::Owned(next) = pattern.replace_all(&masked, *by) {
            masked = next;
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_step_look_the_same() {
        let one =
            mask("2026-11-21T10:00:00Z build-7f9c6d5b4-x2kqz failed after 12s at 4f2a91c (10.0.0.7:443)");
        let two = mask(
            "2026-11-22T11:30:09.123Z build-5c8d7b6f9-zz9vx failed after 340ms at 99e0d1f (10.1.2.3:443)",
        );
        assert_eq!(one, two);
        assert_ne!(mask("error[E0308]: mismatched types"), mask("error[E0425]: cannot find value"));
        assert_eq!(mask("feedback decade"), "feedback decade");
    }
}
