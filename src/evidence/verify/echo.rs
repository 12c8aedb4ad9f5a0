//! Detects instructions that the analyst returns as a finding.

use std::collections::HashSet;

/// Number of words per compared sequence.
const WORDS: usize = 4;

/// Whether at least half of the text is copied from the analyst's instructions: its prompt and its tool descriptions.
pub(super) fn is_echo(text: &str, told: &[&str]) -> bool {
    let words = plain(text);
    if words.is_empty() || told.is_empty() {
        return false;
    }
    let told: Vec<Vec<String>> = told.iter().map(|told| plain(told)).collect();
    if words.len() < WORDS {
        // A short text has to equal a complete instruction.
        return told.contains(&words);
    }
    let known: HashSet<&[String]> = told.iter().flat_map(|told| told.windows(WORDS)).collect();
    let copied = words.windows(WORDS).filter(|piece| known.contains(piece)).count();
    copied * 2 > words.len() - WORDS
}

fn plain(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_no_finding() {
        let told = [
            "Name the first cause, not its echoes: the line that says what went wrong.",
            "the cause in one to four sentences",
        ];
        assert!(is_echo("The cause in one to four sentences.", &told));
        assert!(is_echo("Name the first cause, not its echoes!", &told));
        assert!(is_echo("the first cause, not its echoes: the line that says so", &told));
        assert!(!is_echo(
            "The line that says what failed names /etc/relay.toml, which has an unknown setting.",
            &told
        ));
        assert!(!is_echo("", &told));
    }
}
