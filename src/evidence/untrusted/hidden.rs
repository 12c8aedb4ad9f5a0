//! Invisible characters: tags, direction marks, zero-width characters, fillers, variation selectors. People do not see
//! them, but models read them, so they can contain hidden instructions.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Maximum number of code points named in a note.
const NAMED: usize = 3;

/// Whether a character is invisible: default-ignorable in Unicode 16, or a direction control.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character is a control character other than line feed and tab.
fn is_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

/// Removes invisible and control characters. Keeps selectors and joiners that are part of an emoji or of a script that
/// requires them.
#[must_use]
pub fn removed(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    Remover::default().push(text, &mut kept);
    Cow::Owned(kept)
}

/// Removes invisible characters from a line and appends a note about them, because they may be the cause of a failure.
#[must_use]
pub fn noted(line: &str) -> Cow<'_, str> {
    if line.is_ascii() || !line.chars().any(is_hidden) {
        return Cow::Borrowed(line);
    }
    let mut kept = String::with_capacity(line.len());
    let left_out = Remover::default().push(line, &mut kept);
    if let Some(first) = left_out.first() {
        let mut named = vec![*first];
        named.extend(left_out.iter().copied());
        named.dedup();
        let plural = if left_out.len() == 1 { "" } else { "s" };
        let _ = write!(kept, " [{} hidden character{plural} left out:", left_out.len());
        for character in named.iter().take(NAMED) {
            let _ = write!(kept, " U+{:04X}", u32::from(*character));
        }
        kept.push_str(if named.len() > NAMED { " …]" } else { "]" });
    }
    Cow::Owned(kept)
}

/// Shows invisible characters as escapes, for people who review what is sent.
#[must_use]
pub fn spelled_out(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let unseen = is_hidden(character) || is_control(character);
        if unseen { shown.extend(character.escape_unicode()) } else { shown.push(character) }
    }
    shown
}

/// Removes invisible characters from a stream of text.
#[derive(Debug, Default)]
pub struct Remover {
    before: Option<char>,
    /// A joiner that waits for the next character.
    joiner: Option<char>,
}

impl Remover {
    /// Appends the visible part of a piece and returns the removed characters. A joiner at the end of a piece is held back.
    pub fn push(&mut self, piece: &str, kept: &mut String) -> Vec<char> {
        let mut left_out = Vec::new();
        for character in piece.chars() {
            if let Some(joiner) = self.joiner.take() {
                if self.before.is_some_and(|before| joins(before, joiner, character)) {
                    kept.push(joiner);
                } else {
                    left_out.push(joiner);
                }
            }
            match character {
                '\u{200c}' | '\u{200d}' => self.joiner = Some(character),
                '\u{fe0e}' | '\u{fe0f}' if self.before.is_some_and(selects) => self.keep(character, kept),
                // Some programs interpret these characters as line breaks.
                '\u{2028}' | '\u{2029}' => self.keep(' ', kept),
                _ if is_hidden(character) => left_out.push(character),
                _ if is_control(character) => {}
                _ => self.keep(character, kept),
            }
        }
        left_out
    }

    fn keep(&mut self, character: char, kept: &mut String) {
        kept.push(character);
        self.before = Some(character);
    }
}

/// Whether a variation selector after this character chooses between text and emoji style.
fn selects(before: char) -> bool {
    pictograph(before) || matches!(before, '0'..='9' | '#' | '*')
}

/// Whether a joiner between these characters is legitimate: between emojis, or between letters of a script that uses
/// joiners.
fn joins(before: char, joiner: char, after: char) -> bool {
    let picture = pictograph(before) || before == '\u{fe0f}';
    joiner == '\u{200d}' && picture && pictograph(after) || joining_script(before) && joining_script(after)
}

fn pictograph(character: char) -> bool {
    matches!(character, '\u{1f000}'..='\u{1faff}' | '\u{2190}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}')
}

/// Arabic and related scripts, and the scripts of India, in which joiners change the shape of a word.
fn joining_script(character: char) -> bool {
    matches!(character, '\u{620}'..='\u{8ff}' | '\u{900}'..='\u{dff}') && !is_hidden(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hidden_characters_go_and_honest_ones_stay() {
        let tags: String = "obey".chars().map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap()).collect();
        for (text, wanted) in [
            (format!("ok{tags}"), "ok".to_owned()),
            ("a\u{202e}b\u{200b}c\u{ad}d\u{feff}e\u{2066}f".to_owned(), "abcdef".to_owned()),
            ("x\u{e0100}\u{e0101}\u{fe01}y".to_owned(), "xy".to_owned()),
            ("a\u{2028}b\u{1b}[31m".to_owned(), "a b[31m".to_owned()),
            ("👩\u{200d}💻 ✔\u{fe0f} 1\u{fe0f}⃣".to_owned(), "👩\u{200d}💻 ✔\u{fe0f} 1\u{fe0f}⃣".to_owned()),
            ("✔\u{fe0f}\u{fe0f}\u{fe0e}".to_owned(), "✔\u{fe0f}".to_owned()),
            ("می\u{200c}شود".to_owned(), "می\u{200c}شود".to_owned()),
            ("a\u{200d}b\u{200c}".to_owned(), "ab".to_owned()),
        ] {
            assert_eq!(removed(&text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_line_says_what_it_is_without() {
        assert_eq!(noted("key\u{feff}: 1"), "key: 1 [1 hidden character left out: U+FEFF]");
        assert_eq!(
            noted("\u{e0041}\u{e0042}\u{e0043}\u{e0044}"),
            " [4 hidden characters left out: U+E0041 U+E0042 U+E0043 …]"
        );
        assert!(matches!(noted("plain ✔\u{fe0f}"), Cow::Owned(text) if text == "plain ✔\u{fe0f}"));
        assert!(matches!(noted("größer"), Cow::Borrowed(_)));
        assert_eq!(spelled_out("a\u{202e}b\u{e0041}\u{7}"), "a\\u{202e}b\\u{e0041}\\u{7}");
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_as_the_whole(text in "[a✔👩\u{200b}-\u{200d}\u{fe0f}\u{e0041}\n]{0,30}", cut in 0usize..30) {
            let at = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            let mut kept = String::new();
            let mut remover = Remover::default();
            remover.push(&text[..at], &mut kept);
            remover.push(&text[at..], &mut kept);
            prop_assert_eq!(kept, removed(&text).into_owned());
        }
    }
}
