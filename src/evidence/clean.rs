//! Takes out of a log what a terminal or a log collector put in. Line N of the result is line N of the log as received.

use super::untrusted::hidden;
use crate::clock::{Deadline, DeadlinePassed};
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::{self, BufRead};

/// Longest line that is kept, in bytes.
const MAX_LINE: usize = 4_000;
/// Bytes of a line that are looked at; a bar that overwrites itself for hours is one line.
const MAX_RAW_LINE: usize = 256 << 10;

/// A cleaned log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The text.
    pub text: String,
    /// Numbers of the lines of which a part was shown in red, ascending.
    pub red: Vec<u32>,
}

/// The cleaned text, and which lines were red.
#[must_use]
pub fn clean(raw: &str) -> Cleaned {
    clean_within(raw, &Deadline::never()).unwrap_or_default()
}

/// The same; stops when the deadline is over.
///
/// # Errors
/// It is over.
pub fn clean_within(raw: &str, deadline: &Deadline) -> Result<Cleaned, DeadlinePassed> {
    let mut cleaned = Cleaned { text: String::with_capacity(raw.len()), red: Vec::new() };
    for (number, line) in (1..).zip(raw.split_inclusive('\n')) {
        deadline.check()?;
        let end = line.ends_with('\n');
        if push_line(line.strip_suffix('\n').unwrap_or(line), &mut cleaned.text) {
            cleaned.red.push(number);
        }
        if end {
            cleaned.text.push('\n');
        }
    }
    Ok(cleaned)
}

/// Cleans a log of any size line by line: number, cleaned line, whether a part of it was red.
///
/// # Errors
/// The reader fails.
pub fn each_line(mut reader: impl BufRead, mut take: impl FnMut(u32, &str, bool)) -> io::Result<()> {
    let (mut raw, mut line) = (Vec::new(), String::new());
    let mut number = 0u32;
    loop {
        raw.clear();
        let (read, ended) = read_line(&mut reader, &mut raw)?;
        if read == 0 {
            return Ok(());
        }
        number = number.saturating_add(1);
        line.clear();
        let red = match std::str::from_utf8(&raw) {
            Ok(text) => push_line(text, &mut line),
            Err(_) => push_line(&String::from_utf8_lossy(&raw), &mut line),
        };
        let rest = read - raw.len() - usize::from(ended);
        if rest > 0 {
            let _ = write!(line, " … ({rest} bytes left out)");
        }
        take(number, &line, red);
    }
}

/// Reads up to the next line feed, keeping a bounded part: bytes read, and whether the line feed was there.
fn read_line(reader: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<(usize, bool)> {
    let mut read = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok((read, false));
        }
        let end = memchr::memchr(b'\n', buffer);
        let part = &buffer[..end.unwrap_or(buffer.len())];
        raw.extend_from_slice(&part[..part.len().min(MAX_RAW_LINE - raw.len())]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        read += used;
        if end.is_some() {
            return Ok((read, true));
        }
    }
}

/// Cleans one line into `cleaned`; whether a part of it was red.
fn push_line(raw: &str, cleaned: &mut String) -> bool {
    let unwrapped = docker(raw);
    let line = without_prefix(unwrapped.as_deref().unwrap_or(raw).trim_end_matches(['\r', '\n']));
    // C1 controls are 0xC2 and a byte in UTF-8; what else begins with 0xC2 only takes the longer way.
    if !line.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == 0xc2) {
        push_capped(line, cleaned);
        return false;
    }
    let mut screen = Screen::default();
    screen.show(line);
    push_capped(without_prefix(screen.line.trim_end()), cleaned);
    screen.red_shown
}

/// A line of Docker's `json-file` driver.
#[derive(Deserialize)]
struct DockerLine {
    log: String,
}

fn docker(line: &str) -> Option<String> {
    if !line.starts_with("{\"log\":\"") {
        return None;
    }
    let text = serde_json::from_str::<DockerLine>(line).ok()?.log;
    // A line stays one line.
    Some(text.trim_end_matches('\n').replace('\n', " "))
}

fn push_capped(line: &str, cleaned: &mut String) {
    if line.len() <= MAX_LINE {
        cleaned.push_str(&hidden::noted(line));
        return;
    }
    let end = line.floor_char_boundary(MAX_LINE);
    cleaned.push_str(&hidden::noted(&line[..end]));
    let _ = write!(cleaned, " … ({} bytes left out)", line.len() - end);
}

/// One line of a terminal. A progress bar overwrites itself: what stands at the end is what a person saw.
#[derive(Default)]
struct Screen {
    line: String,
    red: bool,
    red_shown: bool,
    /// The cursor stands at the first column again.
    returned: bool,
}

impl Screen {
    fn show(&mut self, line: &str) {
        let mut rest = line.chars();
        while let Some(shown) = rest.next() {
            match shown {
                '\r' => self.returned = true,
                '\u{8}' => {
                    self.line.pop();
                }
                '\u{1b}' => self.escape(&mut rest),
                // The same in eight bits.
                '\u{9b}' => self.sequence(&mut rest),
                '\t' => self.push('\t'),
                other if other.is_control() => {}
                other => self.push(other),
            }
        }
    }

    fn push(&mut self, shown: char) {
        if self.returned {
            // Blanks do not overwrite: bars are often padded.
            if shown.is_whitespace() {
                return;
            }
            self.erase();
        }
        self.line.push(shown);
        self.red_shown |= self.red && !shown.is_whitespace();
    }

    fn erase(&mut self) {
        self.line.clear();
        self.red_shown = false;
        self.returned = false;
    }

    /// What follows ESC: ECMA-48 control sequences, operating system commands, character sets.
    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        let mut after = rest.clone();
        match after.next() {
            Some('[') => self.sequence(&mut after),
            Some(']') => {
                after.find(|byte| matches!(byte, '\u{7}' | '\\'));
            }
            Some('(' | ')') => {
                after.next();
            }
            _ => {}
        }
        *rest = after;
    }

    /// A control sequence after its introducer.
    fn sequence(&mut self, rest: &mut std::str::Chars<'_>) {
        let mut parameters = String::new();
        for byte in rest.by_ref().take(64) {
            if ('@'..='~').contains(&byte) {
                self.control(byte, &parameters);
                break;
            }
            parameters.push(byte);
        }
    }

    fn control(&mut self, byte: char, parameters: &str) {
        match byte {
            'K' | 'J' if self.returned || parameters == "2" => self.erase(),
            'G' if matches!(parameters, "" | "1") => self.returned = true,
            'm' => {
                for code in parameters.split([';', ':']) {
                    match code.parse().unwrap_or(0u8) {
                        31 | 91 | 41 | 101 => self.red = true,
                        // Another colour, or none. Palette colours decorate source code.
                        0 | 30..=39 | 90..=97 => self.red = false,
                        _ => {}
                    }
                    if matches!(code, "38" | "48") {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
}

/// Without what log collectors put before every line: the times and streams of container runtimes and CI systems.
fn without_prefix(line: &str) -> &str {
    let bytes = line.as_bytes();
    match bytes.first() {
        Some(b'[') => line[1..]
            .split_once("] ")
            .filter(|(time, _)| stamp(time) == Some(""))
            .map_or(line, |(_, rest)| rest),
        Some(byte) if byte.is_ascii_digit() => match stamp(line) {
            Some("") => "",
            Some(rest) => {
                let Some(rest) = rest.strip_prefix(' ') else { return line };
                // CRI: stream and whether the line is whole.
                ["stdout F ", "stderr F ", "stdout P ", "stderr P "]
                    .iter()
                    .find_map(|stream| rest.strip_prefix(stream))
                    .or_else(|| ["stdout F", "stderr F"].contains(&rest).then_some(""))
                    .unwrap_or(rest)
            }
            None => line,
        },
        _ => line,
    }
}

/// What follows an RFC 3339 time with fractions of a second and a zone, as collectors write and programs rarely do.
fn stamp(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let fixed = digits(0..4)
        && bytes.get(4) == Some(&b'-')
        && digits(5..7)
        && bytes.get(7) == Some(&b'-')
        && digits(8..10)
        && bytes.get(10) == Some(&b'T')
        && digits(11..13)
        && bytes.get(13) == Some(&b':')
        && digits(14..16)
        && bytes.get(16) == Some(&b':')
        && digits(17..19);
    if !fixed {
        return None;
    }
    let fraction = text[19..].strip_prefix('.')?.trim_start_matches(|c: char| c.is_ascii_digit());
    if let Some(rest) = fraction.strip_prefix('Z') {
        return Some(rest);
    }
    let zone = fraction.as_bytes();
    let offset = matches!(zone.first(), Some(b'+' | b'-')) && zone.get(3) == Some(&b':') && zone.len() >= 6;
    (offset && fraction.is_char_boundary(6)).then(|| &fraction[6..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(raw: &str) -> String {
        clean(raw).text
    }

    #[test]
    fn colours_and_progress_bars_go_the_numbers_stay() {
        let cleaned = clean("\u{1b}[31merror\u{1b}[0m: x\r\n 10%\r 50%\r100% done\nlast");
        assert_eq!(cleaned.text, "error: x\n100% done\nlast");
        assert_eq!(cleaned.red, [1]);
        // A line that erased itself leaves nothing, and no colour either.
        let erased =
            clean("fold:start:x\r\u{1b}[0K$ make\n\u{1b}[31mold\u{1b}[0m\r\u{1b}[0Knew\nabc\u{8}d\n");
        assert_eq!((erased.text.as_str(), erased.red.as_slice()), ("$ make\nnew\nabd\n", [].as_slice()));
        assert_eq!(text("\u{9b}31mé\u{9b}0m ©\u{85}"), "é ©");
        assert_eq!(text("\u{1b}]0;title\u{7}shown\u{1b}(B"), "shown");
        // What nobody sees goes too, and the line says so.
        assert_eq!(text("a: b\nkey\u{200b}: 1"), "a: b\nkey: 1 [1 hidden character left out: U+200B]");
    }

    #[test]
    fn what_collectors_add_goes_what_programs_write_stays() {
        for (raw, wanted) in [
            ("2026-11-21T10:00:00.123456789Z stdout F error: x", "error: x"),
            ("2026-11-21T10:00:00.123456789+01:00 stderr P part", "part"),
            ("2026-11-21T10:00:00.1234567Z ##[error]exit 1", "##[error]exit 1"),
            ("[2026-11-21T10:00:00.123Z] + make", "+ make"),
            ("2026-11-21 10:00:00,123 ERROR app", "2026-11-21 10:00:00,123 ERROR app"),
            ("2026-11-21T10:00:00Z started", "2026-11-21T10:00:00Z started"),
            ("{\"log\":\"\\u001b[31merror\\n\",\"stream\":\"stderr\",\"time\":\"t\"}", "error"),
            ("{\"log\":\"broken", "{\"log\":\"broken"),
            ("2026-11-21T10:00:00.123Z\u{e9}", "2026-11-21T10:00:00.123Z\u{e9}"),
        ] {
            assert_eq!(text(raw), wanted);
        }
    }

    #[test]
    fn overlong_lines_say_what_is_missing() {
        let cleaned = text(&"x".repeat(MAX_LINE + 10));
        assert!(cleaned.ends_with("… (10 bytes left out)"), "{}", &cleaned[MAX_LINE..]);
        let endless = "y".repeat(MAX_RAW_LINE + 5);
        let mut lines = Vec::new();
        each_line(format!("{endless}\nz").as_bytes(), |number, line, _| {
            lines.push((number, line.to_owned()))
        })
        .unwrap();
        assert!(lines[0].1.ends_with("… (5 bytes left out)"), "{}", lines[0].1.len());
        assert_eq!(lines[1], (2, "z".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_it() {
        let mut lines = Vec::new();
        each_line(&b"a\xff\xfeb\n\x1b[31m\xe9\n"[..], |_, line, red| lines.push((line.to_owned(), red)))
            .unwrap();
        assert_eq!(lines, [("a\u{fffd}\u{fffd}b".to_owned(), false), ("\u{fffd}".to_owned(), true)]);
    }

    proptest! {
        #[test]
        fn the_number_of_lines_never_changes(text in "[a\\n\\r\u{1b}\\[31mK\\x00é]{0,200}") {
            let cleaned = clean(&text);
            prop_assert_eq!(cleaned.text.split('\n').count(), text.split('\n').count());
            let mut lines = Vec::new();
            each_line(text.as_bytes(), |_, line, _| lines.push(line.to_owned())).unwrap();
            let mut wanted: Vec<String> = cleaned.text.split('\n').map(str::to_owned).collect();
            if text.is_empty() || text.ends_with('\n') {
                wanted.pop();
            }
            prop_assert_eq!(lines, wanted);
        }
    }
}
