//! Renders one line as a terminal would: `vte` parses the escape sequences, this module keeps the cells of the line.
//!
//! Escape characters written as text, such as `^[[31m` or `\x1b[31m`, count if a complete sequence follows. A control
//! string, such as an operating system command, has to end within its line; otherwise its content is shown, so that it
//! cannot hide text.

use std::borrow::Cow;
use vte::{Params, Parser, Perform};

/// Maximum number of cells in a line, more than is kept of a line; further output is only counted.
const WIDTH: usize = 4_096;
/// Maximum column that cursor movements can reach beyond the written cells.
const MAX_COLUMN: usize = 1_000;
/// Maximum length of the parameters of a sequence written as text.
const MAX_PARAMETERS: usize = 32;
/// Textual forms of the escape character.
const WRITTEN: [&str; 12] = [
    "^[", r"\x1b", r"\x1B", r"\u001b", r"\u001B", "&#x1b;", "&#x1B;", "#x1b", "#x1B", r"\033", r"\e", "&#27;",
];

/// A terminal with one line.
#[derive(Default)]
pub(super) struct Terminal {
    parser: Parser,
    screen: Screen,
    text: String,
}

/// The rendered line.
pub(super) struct Shown<'a> {
    /// Text without trailing white space.
    pub(super) text: &'a str,
    /// Number of bytes omitted after the text.
    pub(super) beyond: usize,
    /// Whether a part of it is red.
    pub(super) red: bool,
}

/// Whether the line contains no control characters and no escape sequences.
pub(super) fn is_plain(line: &str) -> bool {
    // C1 controls are encoded in UTF-8 as 0xC2 and one more byte; other characters with 0xC2 only take the slow path. Without
    // an early exit, the loop processes sixteen bytes at a time.
    let controls =
        line.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2));
    !controls && next_written(line, 0).is_none()
}

impl Terminal {
    /// Renders a line.
    pub(super) fn show(&mut self, line: &str) -> Shown<'_> {
        let written = escaped(line);
        let whole = ended(&written);
        let Self { parser, screen, text } = self;
        screen.clear();
        parser.advance(screen, whole.as_bytes());
        // Cancels an incomplete sequence, so that the next line starts in a clean state.
        parser.advance(screen, b"\x18");
        let end =
            screen.cells.iter().rposition(|cell| !cell.shown.is_whitespace()).map_or(0, |last| last + 1);
        let cells = if screen.beyond > 0 { &screen.cells[..] } else { &screen.cells[..end] };
        text.clear();
        text.extend(cells.iter().map(|cell| cell.shown));
        let red = screen.red_beyond || cells.iter().any(|cell| cell.red && !cell.shown.is_whitespace());
        Shown { text, beyond: screen.beyond, red }
    }
}

/// Returns the position of the next escape character written as text, and of the `[` of its sequence.
fn next_written(line: &str, from: usize) -> Option<(usize, usize)> {
    let rest = &line[from..];
    memchr::memchr_iter(b'[', rest.as_bytes()).find_map(|at| {
        if !is_sequence(&rest.as_bytes()[at + 1..]) {
            return None;
        }
        let written = WRITTEN.iter().find(|written| rest[..at].ends_with(**written))?;
        Some((from + at - written.len(), from + at))
    })
}

/// Whether the text after `[` continues a control sequence. Text such as `^[[A-Z]` or `^[[:space:]]` does not.
fn is_sequence(rest: &[u8]) -> bool {
    let (private, rest) = match rest.strip_prefix(b"?") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let length = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    if length > MAX_PARAMETERS {
        return false;
    }
    let numbered = rest.first().is_some_and(u8::is_ascii_digit);
    match rest.get(length) {
        Some(b'm' | b'K') => !private && (length == 0 || rest[0] != b':'),
        Some(b'A'..=b'H' | b'J' | b'P' | b'X') => !private && numbered,
        Some(b'h' | b'l') => private && numbered,
        _ => false,
    }
}

/// Replaces escape characters written as text with real ones.
fn escaped(line: &str) -> Cow<'_, str> {
    let (mut escaped, mut from) = (String::new(), 0);
    while let Some((start, bracket)) = next_written(line, from) {
        escaped.push_str(&line[from..start]);
        escaped.push_str("\u{1b}[");
        from = bracket + 1;
    }
    if from == 0 {
        return Cow::Borrowed(line);
    }
    escaped.push_str(&line[from..]);
    Cow::Owned(escaped)
}

/// Converts C1 controls to their 7-bit form for the parser, and removes the introducers of unterminated strings.
fn ended(line: &str) -> Cow<'_, str> {
    let bytes = line.as_bytes();
    let begins_string = |at: usize| bytes.get(at + 1).is_some_and(|byte| b"]PX^_".contains(byte));
    if !bytes.contains(&0xc2) && !memchr::memchr_iter(0x1b, bytes).any(begins_string) {
        return Cow::Borrowed(line);
    }
    let mut seven = String::with_capacity(line.len());
    for shown in line.chars() {
        match shown {
            '\u{80}'..='\u{9f}' => {
                seven.push('\u{1b}');
                // ESC and a letter are the 7-bit form of the control.
                seven.push(char::from(u8::try_from(u32::from(shown) - 0x40).unwrap_or_default()));
            }
            other => seven.push(other),
        }
    }
    Cow::Owned(without_open_strings(&seven))
}

/// Removes the introducers of control strings that do not end in this line.
fn without_open_strings(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, sequence) = rest.split_at(at);
        kept.push_str(before);
        let begins = sequence.as_bytes().get(1).filter(|byte| b"]PX^_".contains(byte));
        let length = match begins.map(|introducer| string_length(&sequence[2..], *introducer)) {
            Some(Some(length)) => 2 + length,
            Some(None) => {
                rest = &sequence[2..];
                continue;
            }
            None => 1,
        };
        kept.push_str(&sequence[..length]);
        rest = &sequence[length..];
    }
    kept.push_str(rest);
    kept
}

/// Length in bytes of a string including its end: the string terminator, or BEL for an operating system command.
fn string_length(rest: &str, introducer: u8) -> Option<usize> {
    let end = rest.find(|byte| byte == '\u{1b}' || (byte == '\u{7}' && introducer == b']'))?;
    match &rest.as_bytes()[end..] {
        [0x7, ..] => Some(end + 1),
        [0x1b, b'\\', ..] => Some(end + 2),
        _ => None,
    }
}

/// One column of the line.
#[derive(Clone, Copy)]
struct Cell {
    shown: char,
    red: bool,
}

const BLANK: Cell = Cell { shown: ' ', red: false };

/// The cells of the line. A progress bar overwrites itself, so the final state is what a person saw. Where a terminal would
/// show the rest of a longer text after a shorter one, as in `Doneloading 50%`, only the shorter one is kept.
#[derive(Default)]
struct Screen {
    cells: Vec<Cell>,
    cursor: usize,
    /// Whether the cursor returned to the first column and only spaces were written since.
    returned: bool,
    saved: usize,
    red: bool,
    /// Number of bytes after the last cell, and whether a part of them is red.
    beyond: usize,
    red_beyond: bool,
}

impl Screen {
    fn clear(&mut self) {
        let mut cells = std::mem::take(&mut self.cells);
        cells.clear();
        *self = Self { cells, ..Self::default() };
    }

    fn put(&mut self, shown: char) {
        if self.returned {
            // Spaces do not overwrite text, because progress bars are often padded.
            if shown.is_whitespace() {
                self.cursor += 1;
                return;
            }
            self.erase_all();
        }
        let cell = Cell { shown, red: self.red };
        if self.cursor >= WIDTH {
            self.beyond += shown.len_utf8();
            self.red_beyond |= self.red && !shown.is_whitespace();
            return;
        }
        if let Some(there) = self.cells.get_mut(self.cursor) {
            *there = cell;
        } else {
            if self.cursor > self.cells.len() {
                self.cells.resize(self.cursor, BLANK);
            }
            self.cells.push(cell);
        }
        self.cursor += 1;
    }

    fn tab(&mut self) {
        if self.cursor >= self.cells.len() && !self.returned {
            self.put('\t');
        } else {
            self.go_to((self.cursor / 8 + 1) * 8);
        }
    }

    fn go_to(&mut self, column: usize) {
        self.cursor = column.min(self.cells.len().max(MAX_COLUMN));
    }

    /// Erases to the end of the line, to its beginning, or completely.
    fn erase(&mut self, which: u16) {
        match which {
            0 => {
                self.cells.truncate(self.cursor);
                (self.beyond, self.red_beyond) = (0, false);
            }
            1 => self.blank(0..self.cursor + 1),
            _ => self.erase_all(),
        }
    }

    fn erase_all(&mut self) {
        self.cells.clear();
        (self.beyond, self.red_beyond, self.returned) = (0, false, false);
    }

    fn blank(&mut self, columns: std::ops::Range<usize>) {
        let end = columns.end.min(self.cells.len());
        if let Some(cells) = self.cells.get_mut(columns.start..end) {
            cells.fill(BLANK);
        }
    }

    fn delete(&mut self, count: usize) {
        let end = self.cursor.saturating_add(count).min(self.cells.len());
        if self.cursor < end {
            self.cells.drain(self.cursor..end);
        }
    }

    fn colour(&mut self, params: &Params) {
        for param in params {
            match param.first().copied().unwrap_or_default() {
                31 | 91 | 41 | 101 => self.red = true,
                // An extended color has its own parameters. Programs use it to highlight source code.
                38 => {
                    self.red = false;
                    break;
                }
                48 => break,
                // Another color, or the default.
                0 | 30..=39 | 90..=97 => self.red = false,
                _ => {}
            }
        }
    }
}

impl Perform for Screen {
    fn print(&mut self, shown: char) {
        if shown != '\u{7f}' {
            self.put(shown);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => (self.cursor, self.returned) = (0, true),
            0x8 => self.cursor = self.cursor.saturating_sub(1),
            b'\t' => self.tab(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        if !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|param| param.first().copied()).unwrap_or_default();
        let count = usize::from(first.max(1));
        if action == 'm' {
            return self.colour(params);
        }
        self.returned = matches!((action, count), ('G' | '`', 1));
        match action {
            // Content below the cursor belongs to other lines.
            'K' | 'J' => self.erase(first),
            'G' | '`' => self.go_to(count - 1),
            'C' | 'a' => self.go_to(self.cursor + count),
            'D' => self.cursor = self.cursor.saturating_sub(count),
            'P' => self.delete(count),
            'X' => self.blank(self.cursor..self.cursor.saturating_add(count)),
            's' => self.saved = self.cursor,
            'u' => self.cursor = self.saved,
            // Positioning on an empty line moves to its start. On other lines it is ignored, because it addresses another line.
            'H' | 'f' if self.cells.is_empty() => self.cursor = 0,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            ([], b'7') => self.saved = self.cursor,
            ([], b'8') => self.cursor = self.saved,
            _ => {}
        }
    }
}
