//! Secrets in single-line JSON and flow YAML, at any depth and in strings that contain JSON: values whose sibling `name`
//! denotes a secret, arguments after an option that takes a secret, and the data of a Kubernetes Secret.

use super::names;
use memchr::memchr2;
use std::ops::Range;

/// Maximum depth; deeper content is not searched.
const MAX_DEPTH: usize = 64;
/// Maximum length of a variable in bytes.
const MAX_VARIABLE: usize = 128;
/// Maximum number of scalars stored per object until its kind is known.
const MAX_SCALARS: usize = 4_096;

/// Range and kind of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) kind: &'static str,
    /// Whether only the key denotes a secret; keys also occur in program code.
    pub(super) by_key: bool,
}

/// An open structure.
#[derive(Debug)]
enum Frame {
    Map(Map),
    /// A list; true if the next item is the secret of an option.
    List(bool),
    /// A string that contains JSON; the number of backslashes before its opening quote.
    Embedded(usize),
}

#[derive(Debug, Default)]
struct Map {
    key: Option<Range<usize>>,
    /// Whether the object's `name` denotes a secret.
    named: bool,
    values: Vec<Range<usize>>,
    scalars: Vec<Range<usize>>,
    /// Values of the object's `data`.
    data: Vec<Range<usize>>,
    /// Whether the object has `kind: Secret`.
    secret: bool,
    kind: bool,
    object: bool,
}

/// Returns all secrets of a line, in order.
pub(super) fn secrets(line: &str) -> Vec<Found> {
    let mut scanner = Scanner { line, bytes: line.as_bytes(), stack: Vec::new(), found: Vec::new() };
    scanner.scan();
    while let Some(frame) = scanner.stack.pop() {
        scanner.closed(frame, true);
    }
    let mut found = scanner.found;
    found.sort_by_key(|one| (one.range.start, one.range.end));
    // A value may be found both by its name and as data.
    let mut end = 0;
    found.retain(|one| {
        let apart = one.range.start >= end && !one.range.is_empty();
        if apart {
            end = one.range.end;
        }
        apart
    });
    found
}

struct Scanner<'a> {
    line: &'a str,
    bytes: &'a [u8],
    stack: Vec<Frame>,
    found: Vec<Found>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        let mut at = 0;
        while at < self.bytes.len() {
            if self.stack.is_empty() {
                match memchr2(b'{', b'[', &self.bytes[at..]) {
                    Some(next) => at += next,
                    None => return,
                }
            }
            at = self.token(at);
        }
    }

    /// Processes the token at a position and returns the next position.
    fn token(&mut self, at: usize) -> usize {
        match self.bytes[at] {
            b'{' => self.open(Frame::Map(Map::default())),
            b'[' => self.open(Frame::List(false)),
            b'}' => self.close(|frame| matches!(frame, Frame::Map(_))),
            b']' => self.close(|frame| matches!(frame, Frame::List(_))),
            b',' => {
                if let Some(Frame::Map(map)) = self.stack.last_mut() {
                    map.key = None;
                }
            }
            byte if byte.is_ascii_whitespace() || byte == b':' => {}
            _ => return self.scalar(at),
        }
        at + 1
    }

    fn open(&mut self, frame: Frame) {
        if self.stack.len() < MAX_DEPTH {
            self.stack.push(frame);
        }
    }

    fn close(&mut self, fits: fn(&Frame) -> bool) {
        if self.stack.last().is_some_and(fits)
            && let Some(frame) = self.stack.pop()
        {
            self.closed(frame, false);
        }
    }

    /// Handles the end of an object; `cut` means that the line ended within it.
    fn closed(&mut self, frame: Frame, cut: bool) {
        let Frame::Map(map) = frame else { return };
        if map.named {
            self.take(map.values, "password");
        }
        if map.secret {
            self.take(map.data, "secret-data");
        } else if cut && map.object && !map.kind {
            // The kind follows the data and was cut off.
            let line = self.line;
            let encoded = map.data.into_iter().filter(|value| super::base64(&line[value.clone()]));
            let encoded = encoded.collect();
            self.take(encoded, "secret-data");
        }
        let Some(Frame::Map(parent)) = self.stack.last_mut() else { return };
        let Some(key) = parent.key.clone() else { return };
        match &self.line[key] {
            "data" => parent.data = map.scalars,
            "stringData" => self.take(map.scalars, "secret-data"),
            _ => {}
        }
    }

    fn take(&mut self, ranges: Vec<Range<usize>>, kind: &'static str) {
        self.found.extend(ranges.into_iter().map(|range| Found { range, kind, by_key: false }));
    }

    /// Reads a key, a value or an item, quoted or not.
    fn scalar(&mut self, at: usize) -> usize {
        let slashes = self.bytes[at..].iter().take_while(|byte| **byte == b'\\').count();
        let quote = self.bytes.get(at + slashes).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let embedded = matches!(self.stack.last(), Some(Frame::Embedded(_)));
        let Some(quote) = quote else {
            if slashes > 0 || embedded {
                // An escaped line break in a string that contains JSON, or text around it.
                return at + slashes.max(1);
            }
            let end = self.plain_end(at);
            self.said(at..at + self.line[at..end].trim_end().len(), false);
            return end.max(at + 1);
        };
        let from = at + slashes + 1;
        if matches!(self.stack.last(), Some(Frame::Embedded(opened)) if *opened == slashes) {
            self.stack.pop();
            return from;
        }
        if self.holds_json(from, slashes) {
            self.open(Frame::Embedded(slashes));
            return from;
        }
        let end = self.string_end(from, quote, slashes);
        self.said(from..end, true);
        (end + slashes + 1).min(self.bytes.len())
    }

    /// Whether a string that starts here contains JSON with escaped quotes.
    fn holds_json(&self, from: usize, slashes: usize) -> bool {
        let rest = &self.bytes[from..];
        let opened = rest.first().is_some_and(|byte| matches!(byte, b'{' | b'['));
        opened && {
            let inner = rest.iter().skip(1).skip_while(|byte| matches!(byte, b'{' | b'[' | b' '));
            inner.take_while(|byte| **byte == b'\\').count() > slashes
        }
    }

    /// Returns the end of a string whose opening quote has `slashes` backslashes: the next quote with the same number.
    fn string_end(&self, from: usize, quote: u8, slashes: usize) -> usize {
        let mut at = from;
        let mut run = 0;
        while at < self.bytes.len() {
            match self.bytes[at] {
                b'\\' => run += 1,
                byte if byte == quote && run % (2 * (slashes + 1)) == slashes => return at - slashes,
                _ => run = 0,
            }
            at += 1;
        }
        at
    }

    /// Returns the end of an unquoted scalar.
    fn plain_end(&self, from: usize) -> usize {
        let is_key = matches!(self.stack.last(), Some(Frame::Map(Map { key: None, .. })));
        let mut at = from;
        while at < self.bytes.len() {
            match self.bytes[at] {
                // A variable such as `${NAME}`.
                b'$' if self.bytes.get(at + 1) == Some(&b'{') => {
                    let near = &self.bytes[at..self.bytes.len().min(at + MAX_VARIABLE)];
                    at += memchr::memchr(b'}', near).unwrap_or(1);
                }
                b',' | b'}' | b']' | b'"' | b'\\' => return at,
                b':' if is_key => return at,
                b'{' | b'[' if is_key => return at,
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// Handles a scalar.
    fn said(&mut self, range: Range<usize>, quoted: bool) {
        let text = &self.line[range.clone()];
        match self.stack.last_mut() {
            Some(Frame::Map(map)) => {
                let Some(key) = map.key.clone() else {
                    map.key = Some(range);
                    return;
                };
                if let Some(found) = map.value(&self.line[key], text, range, quoted) {
                    self.found.push(found);
                }
            }
            Some(Frame::List(secret)) => {
                if *secret && !text.starts_with('-') {
                    self.found.push(Found { range, kind: "password", by_key: false });
                }
                *secret = names::is_secret_option(text);
            }
            _ => {}
        }
    }
}

impl Map {
    /// Handles the value of a key. Returns a secret if the key alone denotes one.
    fn value(&mut self, key: &str, text: &str, range: Range<usize>, quoted: bool) -> Option<Found> {
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("name") || is("key") {
            self.named |= names::is_secret(text);
        } else if is("kind") {
            (self.kind, self.secret) = (true, text == "Secret");
        } else if is("value") || is("default") {
            self.values.push(range.clone());
        }
        self.object |= is("apiVersion");
        if self.scalars.len() < MAX_SCALARS {
            self.scalars.push(range.clone());
        }
        (names::is_secret(key) || quoted && is("pass")).then_some(Found {
            range,
            kind: "password",
            by_key: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<&str> {
        secrets(line).into_iter().map(|found| &line[found.range]).collect()
    }

    #[test]
    fn a_name_beside_a_value_tells_whatever_stands_around() {
        for line in [
            r#"{"name":"DB_PASSWORD","value":"s e-c"}"#,
            r#"{"value":"s e-c","optional":true,"name":"DB_PASSWORD"}"#,
            "- {name: DB_PASSWORD, value: s e-c}",
            "spec: {env: [{name: LEVEL, value: debug}, {name: dbPassword, value: s e-c}]}",
            r#"x: {"a":"{\"env\":[{\"name\":\"DB_PASSWORD\",\"value\":\"s e-c\"}]}\n"}"#,
            r#"x: "{\"b\":\"{\\\"name\\\":\\\"DB_PASSWORD\\\",\\\"value\\\":\\\"s e-c\\\"}\"}""#,
            r#"args: ["--user","bob","--password","s e-c"]"#,
            "args: [--password, s e-c, -v]",
            r#""{\"args\":[\"--token\",\"s e-c\"]}""#,
            "{'name': 'DB_PASSWORD', 'value': 's e-c'}",
            "EnvVar{Name:DB_PASSWORD,Value:s e-c,ValueFrom:nil,}",
            r#"{"a":[{"b":1}],"name":"DB_PASSWORD","value":"s e-c"#,
        ] {
            assert_eq!(texts(line), ["s e-c"], "{line}");
        }
        assert_eq!(texts(r#"{"name":"A_TOKEN","value":"x\"y\\"},{"name":"B","value":"z"}"#), [r#"x\"y\\"#]);
        assert_eq!(
            texts(r#"{"apiVersion":"v1","data":{"a":"YWFhYWFh","b":"cc"},"kind":"Secret"}"#),
            ["YWFhYWFh", "cc"]
        );
        assert_eq!(texts(r#"{"apiVersion":"v1","data":{"a":"aHVudGVyMg==","b":"#), ["aHVudGVyMg=="]);
        for line in [
            r#"{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"key":"password","name":"db"}}}"#,
            r#"{"name":"LEVEL","value":"debug"}"#,
            r#"{"apiVersion":"v1","data":{"a":"YWFhYWFh"},"kind":"ConfigMap"}"#,
            "if (a[i] == '{') { b = \"x\"; }",
            "}}]] , \" ' \\ {{{{[[[[",
        ] {
            assert_eq!(texts(line), [""; 0], "{line}");
        }
    }
}
