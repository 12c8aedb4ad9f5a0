//! Replaces secrets with stable placeholders: equal secrets have equal placeholders within a report.

mod flow;
mod manifest;
mod names;
mod rules;

use crate::clock::{Deadline, DeadlinePassed};
use manifest::Manifest;
use memchr::memchr2;
use memchr::memmem::Finder;
use regex::{Captures, Regex};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

/// Maximum number of matches per line that are rejected and then searched again from the end of the name.
const MAX_REFUSED: usize = 64;

/// Matches the line that opens an object's data, in YAML or in multi-line JSON.
static DATA: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^\s*"?(?:data|stringData)"?:\s*\{?\s*$"#).expect("a fixed pattern"));
static SECRET: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("Secret"));
static IS_SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^\s*"?kind"?:\s*"?Secret"?,?\s*$|"kind"\s*:\s*"Secret""#).expect("a fixed pattern")
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?P<secret>[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})\b")
        .expect("a fixed pattern")
});
static BEGIN: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("-----BEGIN "));

/// Redacts a text from an external source that is neither a log nor part of a run.
#[must_use]
pub fn plain(text: &str) -> String {
    Redactor::new().redact(text)
}

/// Redacts the strings in a JSON value; property names are unchanged.
#[must_use]
pub fn json(value: &Value) -> Value {
    match value {
        Value::String(text) => plain(text).into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), json(item))).collect())
        }
        other => other.clone(),
    }
}

/// Returns the stored form of a caller's identifier. An identifier that contains a secret becomes its SHA-256, so that
/// lookups still find it.
#[must_use]
pub fn identifier(text: &str) -> String {
    if plain(text) == text { text.to_owned() } else { hex::encode(Sha256::digest(text)) }
}

/// Parser state, carried from each line of a text to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    block: Block,
    manifest: Manifest,
}

/// A part of a text that spans several lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Block {
    /// No block.
    #[default]
    None,
    /// Data of a Kubernetes object.
    Data(Data),
    /// A private key in PEM format.
    Pem,
}

/// Data of a Kubernetes object. All data of a Secret is redacted, but only Base64 in other objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    /// Data lines are indented more than this.
    outer: usize,
    secret: bool,
    /// A multi-line text continues while lines are indented more than this.
    text: Option<usize>,
}

/// Redacts the texts of one report.
#[derive(Debug, Default)]
pub struct Redactor {
    placeholders: HashMap<String, String>,
    per_kind: HashMap<&'static str, usize>,
    count: usize,
    emails: bool,
}

impl Redactor {
    /// Creates a redactor without known secrets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether e-mail addresses are replaced.
    #[must_use]
    pub fn and_emails(mut self, emails: bool) -> Self {
        self.emails = emails;
        self
    }

    /// Number of replacements so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Replaces secrets in a text. The number of lines does not change.
    #[must_use]
    pub fn redact(&mut self, text: &str) -> String {
        self.redact_within(text, &Deadline::never()).unwrap_or_default()
    }

    /// Like [`Redactor::redact`], but stops when the deadline has passed.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn redact_within(&mut self, text: &str, deadline: &Deadline) -> Result<String, DeadlinePassed> {
        let secret = SECRET.find(text.as_bytes()).is_some() && IS_SECRET.is_match(text);
        let mut redacted = String::with_capacity(text.len());
        let mut position = Position::default();
        let mut rest = text;
        while !rest.is_empty() {
            deadline.check()?;
            let end = memchr::memchr(b'\n', rest.as_bytes());
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            redacted.push_str(&self.of_line(line, after, &mut position, secret));
            rest = after;
            if end.is_some() {
                redacted.push('\n');
                rest = &after[1..];
            }
        }
        Ok(redacted)
    }

    /// Redacts one line; `position` is carried from line to line. Does not detect a name that follows its value, or the kind of
    /// the object that data belongs to.
    pub fn line<'a>(&mut self, line: &'a str, position: &mut Position) -> Cow<'a, str> {
        self.of_line(line, "", position, false)
    }

    fn of_line<'a>(
        &mut self,
        line: &'a str,
        after: &str,
        position: &mut Position,
        secret: bool,
    ) -> Cow<'a, str> {
        if position.block == Block::Pem || BEGIN.find(line.as_bytes()).is_some() {
            return self.pem(line, after, position);
        }
        let mut text = Cow::Borrowed(line);
        if let Some(range) = position.manifest.secret(line, after) {
            text = self.replaced(text, range, "password");
        } else if let Some(range) = position.block.secret(line, secret) {
            text = self.replaced(text, range, "secret-data");
        }
        let wanted = rules::ALL.wanted(line);
        if wanted.names() && memchr2(b'{', b'[', line.as_bytes()).is_some() {
            text = self.flow(text);
        }
        for rule in rules::ALL.of(wanted) {
            if rule.pattern().is_match(&text) {
                text = Cow::Owned(self.apply(rule.kind, rule.pattern(), &text));
            }
        }
        if self.emails && text.contains('@') {
            text = Cow::Owned(self.apply("email", &EMAIL, &text));
        }
        text
    }

    /// Replaces a value in a manifest unless it is a reference.
    fn replaced<'a>(&mut self, line: Cow<'a, str>, range: Range<usize>, kind: &'static str) -> Cow<'a, str> {
        let value = &line[range.clone()];
        if names::is_reference(value) || value.contains("[redacted:") {
            return line;
        }
        let placeholder = self.placeholder(kind, value);
        Cow::Owned(format!("{}{placeholder}{}", &line[..range.start], &line[range.end..]))
    }

    /// Replaces secrets in single-line objects and lists.
    fn flow<'a>(&mut self, line: Cow<'a, str>) -> Cow<'a, str> {
        let mut replaced = String::new();
        let mut from = 0;
        for flow::Found { range, kind, by_key } in flow::secrets(&line) {
            let value = &line[range.clone()];
            let stays = names::is_reference(value) || value.contains("[redacted:");
            if stays || by_key && (names::is_harmless(value) || names::is_code(value)) {
                continue;
            }
            replaced.push_str(&line[from..range.start]);
            replaced.push_str(&self.placeholder(kind, value));
            from = range.end;
        }
        if from == 0 {
            return line;
        }
        replaced.push_str(&line[from..]);
        Cow::Owned(replaced)
    }

    /// Processes a line that starts, continues or ends a PEM block. Removes private keys; keeps certificates and public keys.
    fn pem<'a>(&mut self, line: &'a str, after: &str, position: &mut Position) -> Cow<'a, str> {
        const END: &str = "-----END ";
        let inside = position.block == Block::Pem;
        if !inside && let Some((head, rest)) = line.split_once("-----BEGIN ") {
            let Some((label, body)) = rest.split_once("-----") else { return Cow::Borrowed(line) };
            if !label.ends_with("PRIVATE KEY") && !label.ends_with("PRIVATE KEY BLOCK") {
                return Cow::Borrowed(line);
            }
            // The whole key is in one line, as in JSON; the text after it may contain another secret.
            if let Some((key, tail)) = body.split_once(END) {
                let placeholder = self.placeholder("private-key", key);
                return Cow::Owned(format!("{head}-----BEGIN {label}-----{placeholder}{END}{tail}"));
            }
            position.block = Block::Pem;
            let placeholder = self.placeholder("private-key", body);
            return Cow::Owned(format!("{head}-----BEGIN {label}-----{placeholder}"));
        }
        if let Some((_, tail)) = line.split_once(END) {
            position.block = Block::None;
            return Cow::Owned(format!("{END}{tail}"));
        }
        // If the log was cut within the key, other text follows.
        let body = line.trim().trim_start_matches(['>', '|', '#', '+', '-', ' ']);
        let header =
            ["Proc-Type: ", "DEK-Info: ", "Version: ", "Comment: "].iter().any(|name| body.starts_with(name));
        let of_key = header || !body.contains(' ');
        if !of_key {
            position.block = Block::None;
            return self.of_line(line, after, position, false);
        }
        Cow::Borrowed("")
    }

    fn apply(&mut self, kind: &'static str, pattern: &Regex, text: &str) -> String {
        let mut applied = String::with_capacity(text.len());
        let (mut from, mut at, mut refused) = (0, 0, 0);
        while let Some(found) = pattern.captures_at(text, at) {
            let whole = found.get(0).expect("group 0 always matches");
            at = whole.end().max(at + 1);
            match secret(kind, &found) {
                Some(range) => {
                    applied.push_str(&text[from..range.start]);
                    applied.push_str(&self.placeholder(kind, &text[range.clone()]));
                    from = range.end;
                }
                // The rejected value may itself be a name with a value.
                None if refused < MAX_REFUSED => {
                    refused += 1;
                    at = found.name("name").map_or(at, |name| name.end().max(whole.start() + 1));
                }
                None => {}
            }
            if at > text.len() {
                break;
            }
            at = text.ceil_char_boundary(at);
        }
        applied.push_str(&text[from..]);
        applied
    }

    fn placeholder(&mut self, kind: &'static str, value: &str) -> String {
        self.count += 1;
        if let Some(known) = self.placeholders.get(value) {
            return known.clone();
        }
        let number = self.per_kind.entry(kind).or_default();
        *number += 1;
        let placeholder = format!("[redacted:{kind}:{number}]");
        self.placeholders.insert(value.to_owned(), placeholder.clone());
        placeholder
    }
}

impl Block {
    /// Returns the secret in a line of an object's data; `secret` means that the text contains a Secret.
    fn secret(&mut self, line: &str, secret: bool) -> Option<Range<usize>> {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.trim_start_matches('"').starts_with(['d', 's']) && DATA.is_match(line) {
            let secret = text.trim_start_matches('"').starts_with('s');
            *self = Self::Data(Data { outer: indent, secret, text: None });
            return None;
        }
        let Self::Data(data) = self else { return None };
        if text.trim().is_empty() {
            return None;
        }
        if indent <= data.outer {
            *self = Self::None;
            return None;
        }
        let secret = secret || data.secret;
        if data.text.is_some_and(|outer| indent > outer) {
            return secret.then(|| indent..line.trim_end().len());
        }
        data.text = None;
        let value = manifest::entry(line, indent, false)?.value;
        if manifest::opens_text(&line[value.clone()]) {
            data.text = Some(indent);
            return None;
        }
        let (range, closed) = manifest::scalar(line, value);
        if !closed {
            data.text = Some(indent);
        }
        let hidden = !range.is_empty() && (secret || base64(&line[range.clone()]));
        hidden.then_some(range)
    }
}

/// Whether a value is Base64 and not an ordinary word.
fn base64(value: &str) -> bool {
    let body = value.trim_end_matches('=');
    value.len() >= 8
        && value.len().is_multiple_of(4)
        && value.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && (body.len() < value.len()
            || body.bytes().any(|byte| byte.is_ascii_uppercase())
                && body.bytes().any(|byte| byte.is_ascii_lowercase()))
}

/// Returns the range of a match to replace, if it is a secret.
fn secret(kind: &str, found: &Captures<'_>) -> Option<Range<usize>> {
    let (group, literal) = found
        .name("secret")
        .map(|group| (group, false))
        .or_else(|| found.name("literal").map(|group| (group, true)))?;
    let signs = ['"', '\'', '`', '\\'];
    let text = group.as_str();
    let value = text.trim_start_matches(signs);
    let start = group.end() - value.len();
    let value = value.trim_end_matches(signs);
    let quoted = start > group.start();
    if value.is_empty() || value.contains("[redacted:") || names::is_reference(value) {
        return None;
    }
    let named =
        matches!(kind, "password" | "connection-string" | "api-key-header" | "cookie" | "url-parameter");
    if let Some(name) = found.name("name") {
        let between = &found.get(0)?.as_str()[name.end() - found.get(0)?.start()..];
        // `PASS: TestLogin` reports a passed test.
        let pass = name.as_str() == "pass" && (between.starts_with(['=', '"', '\'']));
        if !pass && !names::is_secret(name.as_str()) {
            return None;
        }
    }
    let short = if quoted { 4 } else { 6 };
    // Ignore punctuation at the end of a sentence or quotation.
    let said = value.trim_end_matches(['`', '\'', '"', '.', ',', ';', ')']);
    let harmless = match (named, literal) {
        (_, true) => names::is_path(value) || names::is_reference(said),
        (true, false) => names::is_harmless(said) || names::is_code(value),
        (false, false) => names::is_harmless(said),
    };
    if harmless || found.name("name").is_some() && !literal && value.len() < short {
        return None;
    }
    Some(start..start + value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(text: &str) -> String {
        Redactor::new().redact(text)
    }

    #[test]
    fn each_kind_is_replaced() {
        let github = format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let cases = [
            (format!("token {github} used"), "token [redacted:github-token:1] used"),
            (
                "git clone https://bot:hunter22@git.example/x".to_owned(),
                "git clone https://bot:[redacted:url-password:1]@git.example/x",
            ),
            (
                "Authorization: Bearer abcdef1234567890".to_owned(),
                "Authorization: Bearer [redacted:authorization:1]",
            ),
            ("DB_PASSWORD=s3cr3t-value".to_owned(), "DB_PASSWORD=[redacted:password:1]"),
            (format!("id {}IOSFODNN7EXAMPLE", "AKIA"), "id [redacted:aws-key:1]"),
            (format!("{{\"auth\": \"{}\"}}", "dXNlcjpwYXNz"), "{\"auth\": \"[redacted:docker-auth:1]\"}"),
            (
                "kind: Secret\ndata:\n  key: c2VjcmV0dmFsdWU=\n".to_owned(),
                "kind: Secret\ndata:\n  key: [redacted:secret-data:1]\n",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(redacted(&text), wanted);
        }
    }

    #[test]
    fn keys_keep_their_lines_and_same_secrets_their_name() {
        let key = format!("a\n-----BEGIN {0} KEY-----\nMII\nabc\n-----END {0} KEY-----\nb\n", "RSA PRIVATE");
        let text = redacted(&key);
        assert_eq!(text.lines().count(), key.lines().count());
        assert!(!text.contains("MII"));
        let mut redactor = Redactor::new();
        let one = redactor.redact("password=hunter2hunter2");
        assert_eq!(one, redactor.redact("password=hunter2hunter2"));
        assert_ne!(one, redactor.redact("password=other-other-2"));
        assert_eq!(redactor.count(), 3);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "HEAD is now at 4f2a91c0d3e5b6a7988776655443322110ffeedd",
            "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "id 123e4567-e89b-12d3-a456-426614174000",
            "password=*** token: ${TOKEN} secret: <none>",
            "error: token expired",
            "unexpected token: string",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    proptest! {
        #[test]
        fn the_number_of_lines_never_changes(text in "(password=[a-z0-9]{6,12}|-----BEGIN PRIVATE KEY-----|[a-z:/@= ]{0,20}|\n){0,30}") {
            prop_assert_eq!(redacted(&text).split('\n').count(), text.split('\n').count());
        }
    }
}
