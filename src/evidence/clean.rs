//! Removes terminal sequences and log collector prefixes from logs. Line numbers do not change.

use super::terminal::{self, Terminal};
use super::untrusted::hidden;
use crate::clock::{Deadline, DeadlinePassed};
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::{self, BufRead};

/// Maximum length in bytes of a cleaned line.
const MAX_LINE: usize = 4_000;
/// Maximum number of bytes kept from a raw line; a progress bar that overwrites itself for hours is one line.
const MAX_RAW_LINE: usize = 256 << 10;

/// A cleaned log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Cleaned text.
    pub text: String,
    /// Numbers of the lines that are partly or fully red, ascending.
    pub red: Vec<u32>,
}

/// Cleans a log. Returns the text and the numbers of red lines.
#[must_use]
pub fn clean(raw: &str) -> Cleaned {
    clean_within(raw, &Deadline::never()).unwrap_or_default()
}

/// Like [`clean`], but stops when the deadline has passed.
///
/// # Errors
/// The deadline has passed.
pub fn clean_within(raw: &str, deadline: &Deadline) -> Result<Cleaned, DeadlinePassed> {
    let mut cleaned = Cleaned { text: String::with_capacity(raw.len()), red: Vec::new() };
    let mut terminal = Terminal::default();
    for (number, line) in (1..).zip(raw.split_inclusive('\n')) {
        deadline.check()?;
        let end = line.ends_with('\n');
        if push_line(line.strip_suffix('\n').unwrap_or(line), &mut terminal, &mut cleaned.text) {
            cleaned.red.push(number);
        }
        if end {
            cleaned.text.push('\n');
        }
    }
    Ok(cleaned)
}

/// Cleans a log of any size line by line. Calls `take` with line number, cleaned line, and whether a part of it is red.
///
/// # Errors
/// Reading fails.
pub fn each_line(mut reader: impl BufRead, mut take: impl FnMut(u32, &str, bool)) -> io::Result<()> {
    let (mut raw, mut line) = (Vec::new(), String::new());
    let mut terminal = Terminal::default();
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
            Ok(text) => push_line(text, &mut terminal, &mut line),
            Err(_) => push_line(&String::from_utf8_lossy(&raw), &mut terminal, &mut line),
        };
        let rest = read - raw.len() - usize::from(ended);
        if rest > 0 {
            let _ = write!(line, " … ({rest} bytes left out)");
        }
        take(number, &line, red);
    }
}

/// Reads up to the next line feed and keeps at most [`MAX_RAW_LINE`] bytes. Returns the bytes read and whether a line feed
/// was found.
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

/// Appends a cleaned line to `cleaned`. Returns whether a part of it is red.
fn push_line(raw: &str, terminal: &mut Terminal, cleaned: &mut String) -> bool {
    let unwrapped = docker(raw);
    let line = without_prefix(unwrapped.as_deref().unwrap_or(raw).trim_end_matches(['\r', '\n']));
    if terminal::is_plain(line) {
        push_capped(line, 0, cleaned);
        return false;
    }
    let shown = terminal.show(line);
    push_capped(without_prefix(shown.text), shown.beyond, cleaned);
    shown.red
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
    // Replace embedded line feeds, so that the line stays one line.
    Some(text.trim_end_matches('\n').replace('\n', " "))
}

/// Appends a line, truncated if necessary, with the number of bytes left out. `beyond` is the number of bytes already
/// removed.
fn push_capped(line: &str, beyond: usize, cleaned: &mut String) {
    if line.len() <= MAX_LINE && beyond == 0 {
        cleaned.push_str(&hidden::noted(line));
        return;
    }
    let end = line.floor_char_boundary(MAX_LINE);
    cleaned.push_str(&hidden::noted(&line[..end]));
    let _ = write!(cleaned, " … ({} bytes left out)", line.len() - end + beyond);
}

/// Removes the prefix of log collectors: times and stream names of container runtimes and CI systems.
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
                // CRI: stream name, and `F` for a full or `P` for a partial line.
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

/// Returns the text after an RFC 3339 time with fractional seconds and a zone. Collectors write this form; programs rarely
/// do.
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
        // An erased line leaves neither text nor color.
        let erased =
            clean("fold:start:x\r\u{1b}[0K$ make\n\u{1b}[31mold\u{1b}[0m\r\u{1b}[0Knew\nabc\u{8}d\n");
        assert_eq!((erased.text.as_str(), erased.red.as_slice()), ("$ make\nnew\nabd\n", [].as_slice()));
        assert_eq!(text("\u{9b}31mé\u{9b}0m ©\u{85}"), "é ©");
        assert_eq!(text("\u{1b}]0;title\u{7}shown\u{1b}(B"), "shown");
        // Hidden characters are removed, and the line reports it.
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
    fn a_line_is_what_a_terminal_shows() {
        for (raw, wanted) in [
            ("Downloading 50%\rDone", "Done"),
            ("Downloading 50%\u{1b}[GDone    ", "Done"),
            ("50%\r  done", "  done"),
            ("error: x\r        ", "error: x"),
            ("50%\r    \rdone", "done"),
            ("ab\u{8}\u{8}xyz", "xyz"),
            ("abcdef\u{1b}[3D\u{1b}[K!", "abc!"),
            ("abc\u{1b}[8Gx", "abc    x"),
            ("abc\r\u{1b}[1Cx", "axc"),
            ("abc\u{1b}[1Kd", "   d"),
            ("abc\u{1b}[2K\rnew", "new"),
            ("abcdef\r\u{1b}[2Pg\u{1b}[1X", "g ef"),
            ("kept\u{1b}7 gone\u{1b}8\u{1b}[K, too", "kept, too"),
            ("a\tb\r\tc", "        c"),
            ("a\tbcdefghijk\u{1b}[3G\tc", "a\tbcdefgcijk"),
            ("\u{1b}[2J\u{1b}[Hfirst\u{1b}[1Astays", "firststays"),
            ("\u{1b}[4:3mstyled\u{1b}[58;5;31m\u{1b}[?25l text\u{7f}", "styled text"),
        ] {
            assert_eq!(text(raw), wanted, "{raw:?}");
        }
        for (raw, red) in [
            ("\u{1b}[31merror\u{1b}[39m\rfine", false),
            ("\u{1b}[31merror\u{1b}[39m\r    ", true),
            ("\u{1b}[38;5;31mpalette", false),
            ("\u{1b}[1;31;40mx", true),
            ("\u{1b}[31m \u{1b}[0mx", false),
        ] {
            assert_eq!(!clean(raw).red.is_empty(), red, "{raw:?}");
        }
    }

    #[test]
    fn a_string_ends_within_its_line_or_is_shown() {
        for (raw, wanted) in [
            ("\u{1b}]0;a title: error\nerror: x", "0;a title: error\nerror: x"),
            ("\u{1b}]0;title\u{1b}[31merror\u{1b}[0m", "0;titleerror"),
            ("\u{1b}]0;C:\\build\u{7}done", "done"),
            ("\u{1b}]8;;https://a.example/\u{1b}\\link\u{1b}]8;;\u{1b}\\ text", "link text"),
            ("\u{9d}0;title\u{9c}shown", "shown"),
            ("\u{1b}P1$r\u{1b}\\shown\u{1b}_error: y", "shownerror: y"),
            ("\u{1b}[31\nerror: z", "\nerror: z"),
        ] {
            assert_eq!(text(raw), wanted, "{raw:?}");
        }
        assert_eq!(clean("\u{1b}]0;title \u{1b}[31merror").red, [1]);
    }

    #[test]
    fn escapes_that_were_written_as_text_count_where_a_sequence_follows() {
        for escape in
            ["^[", r"\x1b", r"\x1B", r"\u001b", r"\u001B", "#x1b", "#x1B", "&#x1b;", "&#27;", r"\033", r"\e"]
        {
            let cleaned = clean(&format!("old\r{escape}[0K{escape}[1;31merror{escape}[m: x{escape}[?25h"));
            assert_eq!((cleaned.text.as_str(), &cleaned.red[..]), ("error: x", &[1][..]), "{escape}");
        }
        for plain in [
            "grep '^[[:space:]]*#' '^[[A-Z]' '^[[0-9]m'",
            r"sed 's/\x1b\[[0-9;]*m//g' 's/\x1b[[0-9;]*m//g'",
            r#"println!("\x1b[{}m", code)"#,
            r"the escape \x1b, ^[ or \u001b[31",
            "array[31m] #x1 [0K",
        ] {
            assert_eq!(text(plain), plain);
        }
    }

    #[test]
    fn overlong_lines_say_what_is_missing() {
        let coloured = text(&format!("\u{1b}[1m{}", "x".repeat(MAX_LINE + 1_000)));
        assert!(coloured.ends_with("x … (1000 bytes left out)"), "{}", &coloured[MAX_LINE..]);
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
        fn the_number_of_lines_never_changes(text in "[a\\n\\r\u{1b}\u{9d}\\[\\]\\^31mCDK\\x00\\x08é]{0,200}") {
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
