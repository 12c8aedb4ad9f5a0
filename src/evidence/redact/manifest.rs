//! Secrets that span several lines of a manifest: a `name` and its `value`, a list option and the item after it, and a
//! block of text below a secret's name. Processes one line at a time and tracks its position within the item. Supports
//! YAML, multi-line JSON, HCL, and diffs of them.

use super::names;
use std::ops::Range;

/// Maximum number of lines between a name and its value, including comments and interleaved log lines.
const NEAR: u8 = 12;
/// Number of lines searched for a name that follows its value.
const AHEAD: usize = 6;
/// Maximum number of bytes searched per line for such a name.
const MAX_AHEAD: usize = 512;

/// Position of a line within a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The last name read.
    name: Option<Name>,
    /// Column of an option whose secret is the next item.
    option: Option<usize>,
    /// Column of a secret text block, which continues while lines are indented more than this.
    text: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    column: usize,
    secret: bool,
    /// Number of lines for which the name remains valid.
    left: u8,
}

impl Name {
    /// Returns the name if it is still valid: not too old, and not of another object.
    fn after(self, line: &str, column: usize) -> Option<Self> {
        let outside =
            line.trim_start().starts_with(['{', '}']) && line.len() - line.trim_start().len() < self.column;
        let left = self.left - 1;
        (left > 0 && !(outside && column <= self.column)).then_some(Self { left, ..self })
    }
}

/// A `key: value` pair at the beginning of a line.
pub(super) struct Entry<'a> {
    column: usize,
    key: &'a str,
    /// Whether a list item starts here.
    first: bool,
    /// Range of the text after the separator.
    pub(super) value: Range<usize>,
}

impl Manifest {
    /// Returns the secret in the next line, if any. `rest` is the known text after the line.
    pub(super) fn secret(&mut self, line: &str, rest: &str) -> Option<Range<usize>> {
        if let Some(outer) = self.text {
            let indent = line.len() - line.trim_start().len();
            if indent == line.len() {
                return None;
            }
            if indent > outer {
                return Some(indent..line.trim_end().len());
            }
            self.text = None;
        }
        let (column, first) = lead(line);
        if let Some(secret) = self.after_option(line, column) {
            return Some(secret);
        }
        self.name = self.name.and_then(|name| name.after(line, column));
        let entry = entry(line, column, first)?;
        match entry.key {
            "name" | "key" => {
                let secret = calls_secret(line, entry.value);
                let before = self.name.filter(|known| known.column == entry.column && !entry.first);
                let secret = secret || before.is_some_and(|known| known.secret);
                self.name = Some(Name { column: entry.column, secret, left: NEAR });
                None
            }
            "value" | "default" => {
                if entry.first {
                    self.name = None;
                }
                let known = self.name.filter(|name| name.column == entry.column);
                let secret = known.map_or_else(|| named_ahead(rest, entry.column), |name| name.secret);
                if secret { self.value(line, &entry) } else { None }
            }
            key if opens_text(&line[entry.value.clone()]) && names::is_secret(key) => {
                self.text = Some(entry.column);
                None
            }
            _ => None,
        }
    }

    /// Returns the value that belongs to a secret name.
    fn value(&mut self, line: &str, entry: &Entry<'_>) -> Option<Range<usize>> {
        let text = line[entry.value.clone()].trim();
        if text.is_empty() || opens_text(text) {
            self.text = Some(entry.column);
            return None;
        }
        if text.starts_with(['{', '[']) {
            return None;
        }
        let (range, closed) = scalar(line, entry.value.clone());
        if !closed {
            self.text = Some(entry.column);
        }
        Some(range).filter(|range| !range.is_empty())
    }

    /// Returns the item after an option that takes a secret. Remembers whether this line is such an option.
    fn after_option(&mut self, line: &str, column: usize) -> Option<Range<usize>> {
        let text = line[column..].trim_end();
        // Comments may be between the option and its item.
        if text.is_empty() || line.trim_start().starts_with('#') {
            return None;
        }
        let option = self.option.take();
        if option.is_none() && !text.trim_start_matches(['"', '\'', '\\']).starts_with('-') {
            return None;
        }
        let text = text.strip_suffix(" \\").unwrap_or(text);
        let (range, _) = scalar(line, column..column + text.len());
        let item = &line[range.clone()];
        if names::is_secret_option(item) {
            self.option = Some(column);
            return None;
        }
        if option != Some(column) || item.starts_with('-') {
            return None;
        }
        if opens_text(item) {
            self.text = Some(column.saturating_sub(2));
            return None;
        }
        Some(range).filter(|range| !range.is_empty())
    }
}

/// Returns the column after list, diff and comment marks, and whether a list mark directly precedes it.
pub(super) fn lead(line: &str) -> (usize, bool) {
    let bytes = line.as_bytes();
    let (mut at, mut first) = (0, false);
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t') => at += 1,
            Some(mark @ (b'-' | b'+' | b'>' | b'#' | b'|'))
                if bytes.get(at + 1).is_some_and(|next| matches!(next, b' ' | b'\t')) =>
            {
                // A removed line of a diff is not a list item.
                first = *mark == b'-' && (at > 0 || bytes.get(at + 2) != Some(&b' '));
                at += 1;
            }
            Some(b'{') => (at, first) = (at + 1, true),
            _ => return (at, first),
        }
    }
}

/// Parses the key and the value at the beginning of a line.
pub(super) fn entry(line: &str, column: usize, first: bool) -> Option<Entry<'_>> {
    let rest = &line.as_bytes()[column..];
    let quotes = rest.iter().take_while(|byte| matches!(byte, b'\\' | b'"' | b'\'')).count();
    let length = rest[quotes..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        .count();
    let signs = |from: usize, of: &[u8]| rest[from..].iter().take_while(|byte| of.contains(byte)).count();
    let mut at = quotes + length;
    if length == 0 || quotes > 8 {
        return None;
    }
    at += if quotes > 0 { signs(at, b"\\\"'") } else { 0 };
    at += signs(at, b" ");
    if !matches!(rest.get(at), Some(b':' | b'=')) {
        return None;
    }
    at += 1;
    // `a:b` is not a pair in YAML, and `a==b` is not a pair in any format.
    if rest.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\')) {
        return None;
    }
    let key = &line[column + quotes..column + quotes + length];
    Some(Entry { column, key, first, value: column + at..line.len() })
}

/// Returns the scalar within a part of a line, without quotes, and whether it ends there.
pub(super) fn scalar(line: &str, part: Range<usize>) -> (Range<usize>, bool) {
    let text = &line[part.clone()];
    let from = part.start + (text.len() - text.trim_start().len());
    let text = text.trim();
    let slashes = text.bytes().take_while(|byte| *byte == b'\\').count();
    match text.as_bytes().get(slashes) {
        Some(quote @ (b'"' | b'\'')) => {
            let inner = from + slashes + 1;
            let mut run = 0;
            for (at, byte) in line.as_bytes()[inner..part.end].iter().enumerate() {
                match byte {
                    b'\\' if *quote == b'"' || slashes > 0 => run += 1,
                    byte if byte == quote && run % (2 * (slashes + 1)) == slashes => {
                        return (inner..inner + at - slashes, true);
                    }
                    _ => run = 0,
                }
            }
            (inner..from + text.len(), false)
        }
        _ => {
            let end = text.find(" #").unwrap_or(text.len());
            let plain = text[..end].trim_end().trim_end_matches([',', '}', ']']).trim_end();
            (from..from + plain.len(), true)
        }
    }
}

/// Whether the name in this range denotes a secret.
fn calls_secret(line: &str, part: Range<usize>) -> bool {
    let name = &line[scalar(line, part).0];
    // In `{name: A,`, the name ends at the comma.
    names::is_secret(name.split(',').next().unwrap_or(name))
}

/// Whether a value starts a block of text, such as `|-` or `>`.
pub(super) fn opens_text(value: &str) -> bool {
    let value = value.trim();
    let value = value.split_once(" #").map_or(value, |(value, _)| value.trim_end());
    let mark = value.strip_prefix(['|', '>']);
    mark.is_some_and(|rest| rest.len() <= 2 && rest.bytes().all(|b| matches!(b, b'-' | b'+' | b'1'..=b'9')))
}

/// Whether the item's name follows its value and denotes a secret.
fn named_ahead(rest: &str, column: usize) -> bool {
    let mut rest = rest.strip_prefix('\n').unwrap_or(rest);
    for _ in 0..AHEAD {
        let near = &rest[..rest.floor_char_boundary(MAX_AHEAD)];
        let (line, after) = near.split_once('\n').unwrap_or((near, ""));
        let (at, first) = lead(line);
        let comment = line.trim_start().starts_with('#') || line.trim().is_empty();
        if !comment && (at < column || at == column && first) {
            return false;
        }
        if let Some(entry) = entry(line, at, first).filter(|entry| entry.column == column)
            && matches!(entry.key, "name" | "key")
        {
            return calls_secret(line, entry.value);
        }
        if after.is_empty() && line.len() == near.len() {
            return false;
        }
        rest = &rest[line.len() + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the secrets of a text, line by line.
    fn secrets(text: &str) -> Vec<&str> {
        let mut manifest = Manifest::default();
        let mut rest = text;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let end = rest.find('\n').unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            found.extend(manifest.secret(line, after).map(|range| &line[range]));
            rest = after.strip_prefix('\n').unwrap_or(after);
        }
        found
    }

    #[test]
    fn a_value_is_found_by_the_name_beside_it() {
        for text in [
            "- name: DB_PASSWORD\n  value: s e-c",
            "  - name: \"DB_PASSWORD\"\n    # of the database\n\n    value: 's e-c'\n",
            "- value: s e-c # none\n  name: DB_PASSWORD\n- name: LEVEL\n  value: debug\n",
            "- name: LEVEL\n  value: debug\n- value: s e-c\n  name: DB_PASSWORD\n",
            "  {\n    \"name\": \"dbPassword\",\n    \"value\": \"s e-c\"\n  },\n  {\n    \"value\": \"x\",\n    \"name\": \"A\"\n  }\n",
            "  {\n    \"name\": \"A\",\n    \"value\": \"x\"\n  },\n  {\n    \"value\": \"s e-c\",\n    \"name\": \"DB_PASS\"\n  }\n",
            "+    - name: DB_PASSWORD\n+      value: s e-c\n",
            "-        - name: DB_PASSWORD\n-          value: s e-c\n",
            "- {name: DB_PASSWORD,\n   value: s e-c}\n",
            "  - name: DB_PASSWORD\n    value: |-\n      s e-c\n  - name: B\n    value: x\n",
            "  - name: DB_PASSWORD\n    value:\n      s e-c\n  - name: B\n",
            "set_sensitive {\n  name  = \"db.password\"\n  value = \"s e-c\"\n}\n",
            "password: >-\n  s e-c\nuser: x\n",
            "args:\n  - --password\n  - s e-c\n  - --verbose\n",
            "args:\n  - \"--db-password\"\n  # the same as in ci\n  - \"s e-c\"\n",
            "  \"--token\",\n  \"s e-c\",\n  \"-v\"\n",
            "    Args:\n      --password\n      s e-c\n      --user\n      bob\n",
        ] {
            assert_eq!(secrets(text), ["s e-c"], "{text}");
        }
    }

    #[test]
    fn what_no_name_calls_secret_stays() {
        for text in [
            "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: db\n      key: password\n- name: LEVEL\n  value: debug\n",
            "- name: TOKEN_EXPIRY\n  value: 3600\n",
            "- name: DB_PASSWORD\n- value: debug\n  name: LEVEL\n",
            "args:\n  - --password-file\n  - /run/secrets/db\n  - --token\n  - --verbose\n",
            "--token\n  the token to use\n",
            "- --password\nexit status 1\n",
            "value: 12\nname: x\n",
        ] {
            assert_eq!(secrets(text), [""; 0], "{text}");
        }
    }
}
