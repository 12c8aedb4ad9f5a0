//! Titles of conversations.

/// Maximum length of a title in characters.
const MAX_TITLE: usize = 80;
/// Minimum number of words for a title made from the question alone.
const MIN_WORDS: usize = 3;

/// Returns a title from the first line of the question, truncated at a word.
pub(super) fn title(question: &str) -> String {
    shortened(question.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("Conversation"))
}

/// Returns a title extended with the first line of the answer, if the question is too short (`hello`, `help!`).
pub(super) fn title_with_answer(title: &str, answer: &str) -> Option<String> {
    let plain = |line: &str| {
        let line: String = line.chars().filter(|c| !matches!(c, '*' | '`' | '#' | '>' | '_')).collect();
        line.trim().to_owned()
    };
    let line = answer.lines().map(plain).find(|line| line.chars().any(char::is_alphabetic))?;
    (title.split_whitespace().count() < MIN_WORDS).then(|| shortened(&format!("{title}: {line}")))
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= MAX_TITLE {
        return line.to_owned();
    }
    let cut: String = line.chars().take(MAX_TITLE).collect();
    let end = cut.rfind(char::is_whitespace).filter(|end| *end > MAX_TITLE / 2).unwrap_or(cut.len());
    format!("{}…", cut[..end].trim_end())
}

#[cfg(test)]
mod unit {
    use super::{title, title_with_answer};

    #[test]
    fn a_title_is_the_first_line_cut_at_a_word() {
        assert_eq!(title("\n  Why does it fail?\nMore"), "Why does it fail?");
        let long = title(&"somewhat longish words ".repeat(9));
        assert!(long.ends_with('…') && long.chars().count() <= 81 && !long.contains(" …"), "{long}");
        assert_eq!(title(&"ä".repeat(200)).chars().count(), 81);
        assert_eq!(title_with_answer("Why does it fail?", "Because."), None);
        assert_eq!(
            title_with_answer("hello", "---\n# **Hi**, ask me about `failures`.\nMore.").as_deref(),
            Some("hello: Hi, ask me about failures.")
        );
    }
}
