//! Features of one line: categories of words, shapes and a template, computed in one pass.

use super::lexicon::{self, SEED, kind::*, mix};

/// Shapes of a line, one bit each.
pub(super) mod mark {
    macro_rules! marks {
        ($($name:ident)*) => { marks!(@ 0u32; $($name)*); };
        (@ $bit:expr; $name:ident $($rest:ident)*) => {
            pub(in crate::evidence) const $name: u64 = 1 << ($bit);
            marks!(@ $bit + 1; $($rest)*);
        };
        (@ $bit:expr;) => {
            /// Number of shapes.
            pub(in crate::evidence) const COUNT: u32 = $bit;
        };
    }
    marks!(BLANK RED ERROR_COLON ERROR_UPPER FAIL_UPPER TYPE_ERROR LACKING EXIT_BAD EXIT_GOOD LOCATION FRAME UNDERLINE
        RULE DIFF HUNK BULLET NUMBERED CROSS TICK SHELL PERCENT URL TIME ZERO_FAIL COLON_END QUOTE SENTENCE MAKE_ERROR
        CAPITAL NOT_OK IN_NAME LEVEL TABLE BRACES SOURCE_LINE EXPECTED_GOT PATH COUNT_FAIL ERROR_BANG LOWER_START ARROW
        DOTS KEY_VALUE GOOD_LOG);
}
use mark::*;

/// Features of a line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LineFeatures {
    /// Categories of the line's words.
    pub(super) kinds: u32,
    /// Shapes of the line.
    pub(super) marks: u64,
    /// Template hash; equal for lines that differ only in numbers.
    pub(super) template: u64,
    /// Length in bytes without surrounding white space.
    pub(super) length: u16,
    /// Number of words.
    pub(super) words: u16,
    /// Leading white space; a tab counts as 4.
    pub(super) indent: u8,
    /// Percentage of digits.
    pub(super) digits: u8,
    /// Percentage of punctuation.
    pub(super) punctuation: u8,
    /// Percentage of capital letters.
    pub(super) upper: u8,
    /// Severity of the line by itself, in tenths.
    pub(super) weight: u8,
}

impl LineFeatures {
    pub(super) fn is(&self, marks: u64) -> bool {
        self.marks & marks != 0
    }

    pub(super) fn has(&self, kinds: u32) -> bool {
        self.kinds & kinds != 0
    }
}

/// Computes the features of a cleaned line; `red` means that a part of it is red.
pub(super) fn line_features(line: &str, red: bool) -> LineFeatures {
    let mut look = LineFeatures::default();
    let start = line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t'));
    let indent: u32 = start.map(|byte| if byte == b'\t' { 4 } else { 1 }).sum();
    look.indent = u8::try_from(indent).unwrap_or(200).min(200);
    let text = without_time(without_container(line.trim()));
    if text.is_empty() {
        look.marks = BLANK;
        look.template = SEED;
        return look;
    }
    if red {
        look.marks |= RED;
    }
    words(text.as_bytes(), &mut look);
    shapes(text, &mut look);
    look.weight = weight(&look);
    look
}

/// Severity of a line by itself: 0 for none, 15 for one failure word, 30 and more for a line that says what failed.
#[must_use]
pub fn severity(line: &str) -> u8 {
    line_features(line, false).weight
}

/// Removes the prefix of tools that interleave logs: `[task : step] text` or `[container] text`.
fn without_container(text: &str) -> &str {
    let Some((name, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else {
        return text;
    };
    let plain = name.len() <= 80
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-:_ /.".contains(&b))
        && name.bytes().any(|b| b.is_ascii_lowercase());
    if plain && !matches!(name, "error" | "warning" | "warn" | "info" | "debug" | "fatal" | "x") {
        rest
    } else {
        text
    }
}

/// Removes a leading time, which carries no information about the failure.
fn without_time(text: &str) -> &str {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let bytes = inner.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let date =
        digit(0) && digit(3) && (is(4, b'-') || is(4, b'/')) && digit(5) && (is(7, b'-') || is(7, b'/'));
    let clock = digit(0) && digit(1) && is(2, b':') && digit(3) && is(5, b':') && digit(6);
    if !date && !clock {
        return text;
    }
    let end =
        bytes.iter().position(|b| !(b.is_ascii_digit() || b"-/:.,TZ+ ]".contains(b))).unwrap_or(bytes.len());
    &inner[end..]
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// State while iterating over words.
#[derive(Default)]
struct Words {
    count: usize,
    /// Categories of the two previous words, latest first.
    before: [u32; 2],
    /// Index of the last number, and whether it was zero.
    number: Option<(usize, bool)>,
    /// Index of the last word about an exit.
    exit: Option<usize>,
    /// Index of the last word about a failure.
    failure: Option<usize>,
}

fn words(text: &[u8], look: &mut LineFeatures) {
    let (mut digits, mut punctuation, mut upper) = (0, 0, 0);
    let mut state = Words::default();
    let mut template = SEED;
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if !is_word(byte) {
            if !byte.is_ascii_whitespace() {
                punctuation += 1;
                template = mix(template, u64::from(byte));
            }
            at += 1;
            continue;
        }
        let from = at;
        let (mut figures, mut capitals, mut hash) = (0, 0, SEED);
        while at < text.len() && (is_word(text[at]) || apostrophe(text, at)) {
            figures += usize::from(text[at].is_ascii_digit());
            capitals += usize::from(text[at].is_ascii_uppercase());
            hash = mix(hash, u64::from(text[at].to_ascii_lowercase()));
            at += 1;
        }
        digits += figures;
        upper += capitals;
        state.count += 1;
        // Words with digits are usually ids.
        template = mix(template, if figures > 0 { 7 } else { hash });
        if figures == at - from {
            number(text, from, at, &mut state, look);
        } else {
            let word = Word { from, at, shouted: capitals == at - from, kinds: lexicon::kinds(hash) };
            word.read(text, &mut state, look);
        }
    }
    let percent = |count: usize| u8::try_from(count * 100 / text.len().max(1)).unwrap_or(100);
    look.words = u16::try_from(state.count).unwrap_or(u16::MAX);
    look.length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    (look.digits, look.punctuation, look.upper) = (percent(digits), percent(punctuation), percent(upper));
    look.template = template;
}

/// Whether the character is an apostrophe within a word such as `can't`.
fn apostrophe(text: &[u8], at: usize) -> bool {
    text[at] == b'\''
        && at > 0
        && text[at - 1].is_ascii_lowercase()
        && text.get(at + 1).is_some_and(u8::is_ascii_lowercase)
}

fn number(text: &[u8], from: usize, at: usize, state: &mut Words, look: &mut LineFeatures) {
    let word = &text[from..at];
    let zero = word.iter().all(|byte| *byte == b'0');
    let after_failure = state.failure.is_some_and(|failure| failure + 1 == state.count);
    if after_failure && zero {
        look.marks |= ZERO_FAIL;
    }
    let sign = text[..from].iter().rev().find(|byte| !byte.is_ascii_whitespace());
    if after_failure && !zero && matches!(sign, Some(b':' | b'=')) {
        look.marks |= COUNT_FAIL;
    }
    if state.exit.is_some_and(|exit| state.count - exit <= 4) && word.len() <= 3 {
        look.marks |= if zero { EXIT_GOOD } else { EXIT_BAD };
    }
    let next = text.get(at).copied().unwrap_or(b' ');
    let of_make = state.before[0] & ERROR != 0 && text.starts_with(b"make") && !matches!(next, b':' | b'.');
    if of_make && !zero && word.len() <= 3 {
        look.marks |= EXIT_BAD | MAKE_ERROR;
    }
    state.number = Some((state.count, zero));
    state.before = [0, state.before[0]];
}

/// A word and its position.
struct Word {
    from: usize,
    at: usize,
    /// Whether all characters are capital letters.
    shouted: bool,
    kinds: u32,
}

impl Word {
    fn read(self, text: &[u8], state: &mut Words, look: &mut LineFeatures) {
        let Self { from, at, shouted, mut kinds } = self;
        let word = &text[from..at];
        let next = text.get(at).copied().unwrap_or(b' ');
        let previous = if from > 0 { text[from - 1] } else { b' ' };
        // Within an identifier, path or flag, the word is part of a name: `error-chain`, `--fail-fast`, `error.rs`.
        let file = next == b'.' && text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
        let joined = b"-/_.@\\".contains(&previous) || b"-/_@\\(".contains(&next) || file;
        const LOUD: u32 = ERROR | FAIL | FATAL | EXCEPTION | DEATH | REFUSED | MISSING | ASSERT | WARNING;
        if joined && kinds & LOUD != 0 {
            look.marks |= IN_NAME;
            kinds = 0;
        }
        let ends = |suffix: &[u8]| word.len() > suffix.len() && word.ends_with(suffix);
        if ends(b"Error") || ends(b"Exception") || ends(b"Failure") || ends(b"Fault") {
            look.marks |= TYPE_ERROR;
        }
        if kinds & ERROR != 0 {
            look.marks |= if shouted { ERROR_UPPER } else { 0 };
            look.marks |= if matches!(next, b':' | b'[' | b']' | b'>') { ERROR_COLON } else { 0 };
            look.marks |= if next == b'!' { ERROR_BANG } else { 0 };
        }
        if kinds & FAIL != 0 && shouted {
            look.marks |= FAIL_UPPER;
        }
        if kinds & (FAIL | ERROR) != 0 {
            state.failure = Some(state.count);
            if let Some((_, zero)) = state.number.filter(|(index, _)| index + 1 == state.count) {
                look.marks |= if zero { ZERO_FAIL } else { COUNT_FAIL };
            }
            if state.before[0] & NEGATION != 0 {
                look.marks |= ZERO_FAIL;
            }
        }
        let negated = state.before[0] & NEGATION != 0
            || state.before[1] & NEGATION != 0 && state.before[0] & AUXILIARY != 0;
        let lacking = kinds & LACKED != 0 && negated
            || kinds & NEGATION != 0 && state.before[0] & AUXILIARY != 0
            || word.ends_with(b"n't")
            || word.eq_ignore_ascii_case(b"cannot");
        if lacking {
            look.marks |= LACKING;
        }
        if word.eq_ignore_ascii_case(b"out") && text[..from].ends_with(b"timed ") {
            kinds |= DEATH;
        }
        let exits =
            word.len() > 6 || state.before[0] & EXIT != 0 || word.to_ascii_lowercase().starts_with(b"exit");
        if kinds & EXIT != 0 && exits {
            state.exit = Some(state.count);
        }
        if kinds & EXPECTED != 0 && look.kinds & EXPECTED != 0 {
            look.marks |= EXPECTED_GOT;
        }
        look.kinds |= kinds;
        state.before = [kinds, state.before[0]];
    }
}

fn shapes(text: &str, look: &mut LineFeatures) {
    let bytes = text.as_bytes();
    let (first, second) = (bytes[0], bytes.get(1).copied().unwrap_or(b' '));
    let last = bytes[bytes.len() - 1];
    let mut counts = [0usize; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let count = |wanted: &[u8]| wanted.iter().map(|byte| counts[usize::from(*byte)]).sum::<usize>();
    let mut set = |mark: u64, holds: bool| look.marks |= if holds { mark } else { 0 };
    set(CAPITAL, first.is_ascii_uppercase());
    set(LOWER_START, first.is_ascii_lowercase());
    set(COLON_END, last == b':');
    set(SENTENCE, last == b'.' && look.words >= 4 && first.is_ascii_uppercase());
    set(DOTS, count(b".") >= 3 && text.contains("..."));
    set(URL, count(b":") > 0 && text.contains("://"));
    set(PERCENT, count(b"%") > 0 && look.digits > 0);
    set(ARROW, count(b">") > 0 && (text.contains("->") || text.contains("=>")));
    set(QUOTE, count(b"\"'`") > 0 || !text.is_ascii() && text.contains('‘'));
    set(RULE, look.words == 0 || count(b"=-*#_~+") * 10 >= bytes.len() * 8);
    let drawn = count(b"^~ \t|-") == bytes.len();
    set(UNDERLINE, drawn && (count(b"^") > 0 || bytes.len() >= 3 && count(b"~") == bytes.len()));
    set(HUNK, text.starts_with("@@"));
    let changed = matches!(first, b'+' | b'-') && !matches!(second, b'-' | b'+') && look.indent == 0;
    set(DIFF, changed || text.starts_with("--- ") || text.starts_with("+++ "));
    set(BULLET, matches!(first, b'*' | b'-') && second == b' ' || text.starts_with(['•', '●', '▸']));
    let figures = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let dot = matches!(bytes.get(figures), Some(b')' | b'.')) && bytes.get(figures + 1) == Some(&b' ');
    set(NUMBERED, figures > 0 && dot);
    let crossed = text.starts_with(['✗', '✕', '✖', '×', '✘', '❌', '●', '⨯']);
    set(CROSS, crossed || text.starts_with("[-]") || text.starts_with("[x]") || text.starts_with("[X]"));
    set(TICK, text.starts_with("[+]") || !text.is_ascii() && text.contains(['✓', '✔', '√']));
    set(NOT_OK, text.starts_with("not ok") || text.starts_with("--- FAIL"));
    let prompt = matches!(first, b'$' | b'+' | b'>' | b'#') && second == b' ';
    set(SHELL, prompt || text.starts_with("++ ") || text.starts_with("##["));
    set(LEVEL, level(text));
    set(FRAME, frame(text));
    set(LOCATION, location(bytes));
    let table = count(b"|") > 0 && (text.contains(" | ") || text.starts_with("| "));
    set(TABLE, table);
    set(SOURCE_LINE, table && (first.is_ascii_digit() || matches!(first, b'|' | b'>')));
    set(BRACES, matches!(last, b'{' | b'}' | b';' | b')' | b'('));
    set(PATH, count(b"/") >= 2);
    set(KEY_VALUE, count(b"=") >= 2);
    set(TIME, figures > 0 && count(b":") >= 2 && look.digits > 20);
}

/// Whether the line starts with a level such as `[ERROR]`.
fn level(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('[') else { return false };
    let word = rest.split([']', ' ']).next().unwrap_or_default();
    ["error", "err", "fatal", "severe", "fail", "warn", "warning"]
        .iter()
        .any(|level| word.eq_ignore_ascii_case(level))
}

/// Whether the line is a stack frame, in the formats of most languages.
fn frame(text: &str) -> bool {
    let second_is_digit = || text.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    match text.as_bytes()[0] {
        b'a' if text.starts_with("at ") => return true,
        b'f' if text.starts_with("from ") => return true,
        b'F' if text.starts_with("File \"") => return true,
        b'i' if text.starts_with("in ") && text.contains(':') => return true,
        b'g' if text.starts_with("goroutine ") => return true,
        b'.' if text.starts_with("... ") && text.ends_with("more") => return true,
        b'#' if second_is_digit() => return true,
        _ => {}
    }
    text.contains(":in `") || text.contains(": in `") || text.contains("in function ") || text.contains("+0x")
}

/// Whether the line contains a source location: `file.ext:12`, `file.ext(12,3)` or `path/file:12`.
fn location(text: &[u8]) -> bool {
    let candidates = (3..text.len().saturating_sub(1))
        .filter(|&at| matches!(text[at], b':' | b'(') && text[at + 1].is_ascii_digit());
    for at in candidates.take(8) {
        let start =
            text[..at].iter().rposition(|byte| b" \t('\"[".contains(byte)).map_or(0, |found| found + 1);
        let word = &text[start..at];
        let extension =
            word.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).map(|dot| &word[dot + 1..]);
        let named = extension.is_some_and(|extension| {
            (1..=8).contains(&extension.len())
                && extension[0].is_ascii_alphabetic()
                && extension.iter().all(u8::is_ascii_alphanumeric)
        });
        let path = text[at] == b':' && word.contains(&b'/') && !word.windows(3).any(|three| three == b"://");
        if named || path {
            return true;
        }
    }
    false
}

/// Estimates the severity in tenths; the ranking uses it as a feature.
fn weight(look: &LineFeatures) -> u8 {
    let kinds = [
        (ERROR, 15),
        (FAIL, 15),
        (FATAL, 20),
        (MISSING, 12),
        (REFUSED, 10),
        (DEATH, 15),
        (ASSERT, 15),
        (EXCEPTION, 15),
    ];
    let marks = [
        (LACKING, 15),
        (TYPE_ERROR, 15),
        (ERROR_COLON, 15),
        (ERROR_UPPER, 5),
        (FAIL_UPPER, 10),
        (RED, 15),
        (EXPECTED_GOT, 10),
        (LOCATION, 7),
        (FRAME, 7),
        (CROSS, 10),
        (NOT_OK, 15),
        (EXIT_BAD, 10),
        (ERROR_BANG, 10),
        (LEVEL, 10),
        (COUNT_FAIL, 10),
    ];
    let kinds: u32 = kinds.iter().filter(|(kind, _)| look.has(*kind)).map(|(_, tenths)| tenths).sum();
    let marks: u32 = marks.iter().filter(|(mark, _)| look.is(*mark)).map(|(_, tenths)| tenths).sum();
    let mut weight = kinds + marks;
    if look.is(ZERO_FAIL) {
        weight = weight * 3 / 10;
    }
    if look.has(WARNING) {
        weight /= 2;
    }
    // The last successful run printed the same line.
    if look.is(GOOD_LOG) {
        weight /= 4;
    }
    u8::try_from(weight).unwrap_or(u8::MAX)
}
