//! Takes control sequences out of a log. Line N of the result is line N of the log as received.

use std::fmt::Write as _;

/// Longest line that is kept, in bytes.
const MAX_LINE: usize = 4_000;

/// The cleaned text.
#[must_use]
pub fn clean(raw: &str) -> String {
    let mut cleaned = String::with_capacity(raw.len());
    for line in raw.split_inclusive('\n') {
        let end = line.ends_with('\n');
        let line = line.strip_suffix('\n').unwrap_or(line);
        push_line(&mut cleaned, line.strip_suffix('\r').unwrap_or(line));
        if end {
            cleaned.push('\n');
        }
    }
    cleaned
}

fn push_line(cleaned: &mut String, line: &str) {
    if !line.bytes().any(|byte| byte < 0x20 || byte == 0x7f) && line.len() <= MAX_LINE {
        cleaned.push_str(line);
        return;
    }
    let stripped = anstream::adapter::strip_str(line).to_string();
    // A progress bar overwrites itself: what stands at the end is what a person saw.
    let shown = stripped.rsplit('\r').find(|state| !state.trim().is_empty()).unwrap_or("");
    let mut end = shown.len().min(MAX_LINE);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    cleaned.extend(shown[..end].chars().filter(|c| *c == '\t' || !c.is_control()));
    if end < shown.len() {
        let _ = write!(cleaned, " … ({} bytes left out)", shown.len() - end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_and_progress_bars_go_the_numbers_stay() {
        assert_eq!(
            clean("\u{1b}[31merror\u{1b}[0m: x\r\n 10%\r 50%\r100% done\nlast"),
            "error: x\n100% done\nlast"
        );
    }

    #[test]
    fn overlong_lines_say_what_is_missing() {
        let cleaned = clean(&"x".repeat(MAX_LINE + 10));
        assert!(cleaned.ends_with("… (10 bytes left out)"), "{}", &cleaned[MAX_LINE..]);
    }

    proptest! {
        #[test]
        fn the_number_of_lines_never_changes(text in "[a\\n\\r\u{1b}\\[31m\\x00é]{0,200}") {
            prop_assert_eq!(clean(&text).split('\n').count(), text.split('\n').count());
        }
    }
}
