//! What a terminal shows of one line: `vte` reads the escape sequences, this keeps the cells of the line.
//!
//! Escape characters that were written as text, as `^[[31m` or `\x1b[31m`, count where a whole sequence follows. A string, such as
//! that of an operating system command, ends within its line: one that does not is shown, so that it hides nothing.

use std::borrow::Cow;
use vte::{Params, Parser, Perform};

/// Cells of a line; what is written beyond them is only counted. More than is kept of a line.
const WIDTH: usize = 4_096;
/// Columns that a movement leads to, at most, where nothing is written yet.
const MAX_COLUMN: usize = 1_000;
/// Longest parameters of a sequence that was written as text.
const MAX_PARAMETERS: usize = 32;
/// The escape character as programs and people write it.
const WRITTEN: [&str; 12] = [
    "^[", r"\x1b", r"\x1B", r"\u001b", r"\u001B", "&#x1b;", "&#x1B;", "#x1b", "#x1B", r"\033", r"\e", "&#27;",
];

/// A terminal of one line.
#[derive(Default)]
pub(super) struct Terminal {
    parser: Parser,
    screen: Screen,
    text: String,
}

/// What is shown of a line.
pub(super) struct Shown<'a> {
    /// The text, without white space at its end.
    pub(super) text: &'a str,
    /// Bytes after it that are not kept.
    pub(super) beyond: usize,
    /// Whether a part of it is red.
    pub(super) red: bool,
}

/// Whether a line is shown as anything but its own text.
pub(super) fn is_plain(line: &str) -> bool {
    // C1 controls are 0xC2 and a byte in UTF-8; what else begins with 0xC2 only takes the longer way. Without an early end, sixteen
    // bytes are looked at at a time.
    let controls =
        line.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2));
    !controls && next_written(line, 0).is_none()
}

impl Terminal {
    /// Shows a line.
    pub(super) fn show(&mut self, line: &str) -> Shown<'_> {
        let written = escaped(line);
        let whole = ended(&written);
        let Self { parser, screen, text } = self;
        screen.clear();
        parser.advance(screen, whole.as_bytes());
        // Cancels a sequence that does not end: the next line begins anew.
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

/// Where the next escape character is written as text, and where the `[` of its sequence stands.
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

/// Whether a control sequence goes on so after its `[`. Text such as `^[[A-Z]` or `^[[:space:]]` is none.
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

/// The line with escape characters in the place of those that were written as text.
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

/// The line with its controls in seven bits, as the parser reads them, and without the beginnings of strings that do not end.
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
                // ESC and a letter are the same control.
                seven.push(char::from(u8::try_from(u32::from(shown) - 0x40).unwrap_or_default()));
            }
            other => seven.push(other),
        }
    }
    Cow::Owned(without_open_strings(&seven))
}

/// Without the beginnings of strings that have no end in this line.
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

/// Bytes of a string with its end: the string terminator, or a bell after an operating system command.
fn string_length(rest: &str, introducer: u8) -> Option<usize> {
    let end = rest.find(|byte| byte == '\u{1b}' || (byte == '\u{7}' && introducer == b']'))?;
    match &rest.as_bytes()[end..] {
        [0x7, ..] => Some(end + 1),
        [0x1b, b'\\', ..] => Some(end + 2),
        _ => None,
    }
}

/// A column of the line.
#[derive(Clone, Copy)]
struct Cell {
    shown: char,
    red: bool,
}

const BLANK: Cell = Cell { shown: ' ', red: false };

/// The cells of the line. A progress bar overwrites itself: what stands at the end is what a person saw. Where a terminal would show the
/// end of a longer text behind a shorter one, as `Doneloading 50%`, the shorter one alone is shown: nobody wrote the mixture.
#[derive(Default)]
struct Screen {
    cells: Vec<Cell>,
    cursor: usize,
    /// The cursor went back to the first column, and nothing but blanks was written since.
    returned: bool,
    saved: usize,
    red: bool,
    /// Bytes beyond the last cell, and whether a part of them was red.
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
            // Blanks do not overwrite: bars are often padded.
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

    /// Erases from the cursor, up to the cursor, or all.
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
                // A colour of the palette comes with numbers of its own. It decorates source code.
                38 => {
                    self.red = false;
                    break;
                }
                48 => break,
                // Another colour, or none.
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
            // What is below is another line.
            'K' | 'J' => self.erase(first),
            'G' | '`' => self.go_to(count - 1),
            'C' | 'a' => self.go_to(self.cursor + count),
            'D' => self.cursor = self.cursor.saturating_sub(count),
            'P' => self.delete(count),
            'X' => self.blank(self.cursor..self.cursor.saturating_add(count)),
            's' => self.saved = self.cursor,
            'u' => self.cursor = self.saved,
            // A line that shows nothing begins where it is put. Others are not written over: they are another line.
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
