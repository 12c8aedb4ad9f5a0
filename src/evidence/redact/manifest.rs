//! Secrets of manifests that take more than a line: a `name` and its `value`, an option of a list and the item after it, a block
//! of text below a secret's name. Looks at one line at a time and remembers where in its item it stands; YAML, JSON over many
//! lines and HCL look the same to it, as does a diff of them.

use super::names;
use std::ops::Range;

/// Lines within which a value follows its name: a few others, comments, what was logged between.
const NEAR: u8 = 12;
/// Lines that are looked at for a name that follows its value.
const AHEAD: usize = 6;
/// Bytes of these that are looked at.
const MAX_AHEAD: usize = 512;

/// Where in a manifest a line stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The name that was read last.
    name: Option<Name>,
    /// The column of an option whose secret is the next item.
    option: Option<usize>,
    /// A secret text goes on while lines are indented deeper than this.
    text: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    column: usize,
    secret: bool,
    /// Lines for which it is remembered.
    left: u8,
}

impl Name {
    /// Whether it still counts: not for long, and not for another object.
    fn after(self, line: &str, column: usize) -> Option<Self> {
        let outside =
            line.trim_start().starts_with(['{', '}']) && line.len() - line.trim_start().len() < self.column;
        let left = self.left - 1;
        (left > 0 && !(outside && column <= self.column)).then_some(Self { left, ..self })
    }
}

/// `key: value` at the beginning of a line.
pub(super) struct Entry<'a> {
    column: usize,
    key: &'a str,
    /// A list's item begins here.
    first: bool,
    /// What stands after the colon.
    pub(super) value: Range<usize>,
}

impl Manifest {
    /// The secret of the next line, if it has one. `rest` is what follows the line, as far as it is known.
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

    /// The value of a name that calls it secret.
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

    /// The item after an option that takes a secret; whether this line is such an option is remembered.
    fn after_option(&mut self, line: &str, column: usize) -> Option<Range<usize>> {
        let text = line[column..].trim_end();
        // Between them may be comments.
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

/// Where the text of a line begins, after marks of lists, diffs and comments; and whether a list's mark stands right before it.
pub(super) fn lead(line: &str) -> (usize, bool) {
    let bytes = line.as_bytes();
    let (mut at, mut first) = (0, false);
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t') => at += 1,
            Some(mark @ (b'-' | b'+' | b'>' | b'#' | b'|'))
                if bytes.get(at + 1).is_some_and(|next| matches!(next, b' ' | b'\t')) =>
            {
                // A removed line of a diff is no item.
                first = *mark == b'-' && (at > 0 || bytes.get(at + 2) != Some(&b' '));
                at += 1;
            }
            Some(b'{') => (at, first) = (at + 1, true),
            _ => return (at, first),
        }
    }
}

/// The key and the value that a line begins with.
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
    // `a:b` is no entry in YAML, and `a==b` none anywhere.
    if rest.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\')) {
        return None;
    }
    let key = &line[column + quotes..column + quotes + length];
    Some(Entry { column, key, first, value: column + at..line.len() })
}

/// The scalar in a part of a line, without its quotes; and whether it ends there.
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

/// Whether a name that stands here is one of a secret.
fn calls_secret(line: &str, part: Range<usize>) -> bool {
    let name = &line[scalar(line, part).0];
    // `{name: A,` goes on with what follows.
    names::is_secret(name.split(',').next().unwrap_or(name))
}

/// Whether a value is the mark of a block of text: `|-`, `>`.
pub(super) fn opens_text(value: &str) -> bool {
    let value = value.trim();
    let value = value.split_once(" #").map_or(value, |(value, _)| value.trim_end());
    let mark = value.strip_prefix(['|', '>']);
    mark.is_some_and(|rest| rest.len() <= 2 && rest.bytes().all(|b| matches!(b, b'-' | b'+' | b'1'..=b'9')))
}

/// Whether an item's name follows its value, and calls it secret.
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

    /// The secrets of a text, line by line.
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
