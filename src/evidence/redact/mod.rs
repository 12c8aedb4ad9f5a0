//! Replaces secrets by stable placeholders: the same secret gets the same one within a report.

mod rules;

use regex::{Captures, Regex};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// `key: value` or `"key": "value"` in a Secret's data.
static ENTRY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^(?P<head>\s+"?[A-Za-z0-9._-]+"?:\s+"?)(?P<secret>[^"\s|>][^"\s]*)"#)
        .expect("a fixed pattern")
});
/// Opens a Secret's data, as YAML or as JSON over many lines.
static DATA: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^(?P<indent>\s*)"?(?:data|stringData)"?:\s*\{?\s*$"#).expect("a fixed pattern")
});
/// A Secret in one line of JSON.
static JSON_DATA: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""(?:data|stringData)"\s*:\s*\{[^{}]*\}"#).expect("a fixed pattern"));
static JSON_VALUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"":\s*"(?P<secret>[^"]+)""#).expect("a fixed pattern"));
static IS_SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^\s*"?kind"?:\s*"?Secret"?,?\s*$|"kind"\s*:\s*"Secret""#).expect("a fixed pattern")
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?P<secret>[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})\b")
        .expect("a fixed pattern")
});

/// Values that stand for a secret without being one.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\*+|x{3,}|\.{3,}|<[^>]*>|\$\{?[\w.()]+\}?|\$\(.*|\{\{.*|%\w+%?|null|none|nil|true|false|undefined|empty|required|missing|invalid|changeme|example|redacted|\[?masked\]?|\[redacted.*|not[ _-].*|was|is|has|expired|read|write|file:.*|env:.*|vault:.*|secretKeyRef.*|valueFrom.*|/[\w./-]+|[0-9]{1,6})$")
        .expect("a fixed pattern")
});

/// Where a text stands that is more than a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Block {
    /// Nowhere.
    #[default]
    None,
    /// Within the data of a Kubernetes object, which are indented deeper than this. Secrets hide all, others what is base64.
    Data(usize),
    /// Within a PEM block.
    Pem,
}

/// Replaces secrets within one report.
#[derive(Debug, Default)]
pub struct Redactor {
    placeholders: HashMap<String, String>,
    per_kind: HashMap<&'static str, usize>,
    count: usize,
    emails: bool,
}

impl Redactor {
    /// Has seen no secret yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces e-mail addresses too.
    #[must_use]
    pub fn and_emails(mut self, emails: bool) -> Self {
        self.emails = emails;
        self
    }

    /// Secrets replaced so far, each occurrence counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The text with its secrets replaced. Its number of lines does not change.
    #[must_use]
    pub fn redact(&mut self, text: &str) -> String {
        let secret = IS_SECRET.is_match(text);
        let mut redacted = String::with_capacity(text.len());
        let mut block = Block::None;
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            redacted.push_str(&self.of_line(line, &mut block, secret));
            redacted.push_str(end);
        }
        redacted
    }

    /// The same line by line; `block` is carried from one to the next.
    pub fn line<'a>(&mut self, line: &'a str, block: &mut Block) -> Cow<'a, str> {
        self.of_line(line, block, false)
    }

    fn of_line<'a>(&mut self, line: &'a str, block: &mut Block, secret: bool) -> Cow<'a, str> {
        if *block == Block::Pem || line.contains("-----BEGIN ") {
            return self.pem(line, block);
        }
        let mut text = self.data(line, block, secret);
        for rule in rules::ALL.for_line(line) {
            if rule.pattern().is_match(&text) {
                text = Cow::Owned(self.apply(rule.kind, rule.pattern(), &text));
            }
        }
        if self.emails && text.contains('@') {
            text = Cow::Owned(self.apply("email", &EMAIL, &text));
        }
        text
    }

    /// A line that begins, continues or ends a PEM block; keys go, certificates and public keys stay.
    fn pem<'a>(&mut self, line: &'a str, block: &mut Block) -> Cow<'a, str> {
        const END: &str = "-----END ";
        if *block == Block::None
            && let Some((head, rest)) = line.split_once("-----BEGIN ")
        {
            let Some((label, body)) = rest.split_once("-----") else { return Cow::Borrowed(line) };
            if !label.ends_with("PRIVATE KEY") && !label.ends_with("PRIVATE KEY BLOCK") {
                return Cow::Borrowed(line);
            }
            // All in one line, as in JSON: what follows the block may be a secret too.
            if let Some((key, tail)) = body.split_once(END) {
                let placeholder = self.placeholder("private-key", key);
                return Cow::Owned(format!("{head}-----BEGIN {label}-----{placeholder}{END}{tail}"));
            }
            *block = Block::Pem;
            let placeholder = self.placeholder("private-key", body);
            return Cow::Owned(format!("{head}-----BEGIN {label}-----{placeholder}"));
        }
        if let Block::Data(_) = block {
            *block = Block::None;
            return self.pem(line, block);
        }
        if let Some((_, tail)) = line.split_once(END) {
            *block = Block::None;
            return Cow::Owned(format!("{END}{tail}"));
        }
        // A log that was cut within the key goes on with something else.
        let body = line.trim().trim_start_matches(['>', '|', '#', '+', '-', ' ']);
        let header =
            ["Proc-Type: ", "DEK-Info: ", "Version: ", "Comment: "].iter().any(|name| body.starts_with(name));
        let of_key = header || !body.contains(' ');
        if !of_key {
            *block = Block::None;
            return self.of_line(line, block, false);
        }
        Cow::Borrowed("")
    }

    /// A line of a Kubernetes object's data.
    fn data<'a>(&mut self, line: &'a str, block: &mut Block, secret: bool) -> Cow<'a, str> {
        if line.contains("\"Secret\"") && line.contains("ata\"") {
            let replace = |found: &Captures<'_>| self.apply("secret-data", &JSON_VALUE, &found[0]);
            return Cow::Owned(JSON_DATA.replace_all(line, replace).into_owned());
        }
        let indent = line.len() - line.trim_start().len();
        if let Some(found) = DATA.captures(line) {
            *block = Block::Data(found["indent"].len());
            return Cow::Borrowed(line);
        }
        let Block::Data(outer) = *block else { return Cow::Borrowed(line) };
        if indent <= outer && !line.trim().is_empty() {
            *block = Block::None;
            return Cow::Borrowed(line);
        }
        let Some(value) = ENTRY.captures(line).and_then(|entry| entry.name("secret")) else {
            return Cow::Borrowed(line);
        };
        if secret || base64(value.as_str()) {
            return Cow::Owned(self.apply("secret-data", &ENTRY, line));
        }
        Cow::Borrowed(line)
    }

    fn apply(&mut self, kind: &'static str, pattern: &Regex, text: &str) -> String {
        let replace = |found: &Captures<'_>| {
            let whole = found.get(0).expect("group 0 always matches");
            let Some(secret) = found.name("secret") else {
                return whole.as_str().to_owned();
            };
            let value = secret.as_str().trim_matches(['"', '\'', '`', '\\']);
            let named = matches!(kind, "password" | "connection-string" | "api-key-header" | "cookie");
            if HARMLESS.is_match(value) || value.contains("[redacted:") || (named && is_code(value)) {
                return whole.as_str().to_owned();
            }
            let placeholder = self.placeholder(kind, value);
            let (before, after) = (secret.start() - whole.start(), secret.end() - whole.start());
            format!("{}{placeholder}{}", &whole.as_str()[..before], &whole.as_str()[after..])
        };
        pattern.replace_all(text, replace).into_owned()
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

/// Base64 that is more than a word.
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

/// `token: string` of a type, `password = getPassword()` of a program, `token: EOF` of a parser: code, not a value.
fn is_code(value: &str) -> bool {
    let word = value.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    let lower_word = word && !value.bytes().any(|b| b.is_ascii_uppercase()) && value.len() <= 8;
    let type_or_constant =
        word && (value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') || camel(value));
    // `self.config.token`, `os.environ`, `pkg::name`
    let path = value.contains("::") || value.split('.').count() > 1 && value.split('.').all(identifier);
    lower_word || type_or_constant || path
}

/// `SecretKeySelector`: words with a capital each, and no more capitals than words have.
fn camel(value: &str) -> bool {
    let capitals = value.bytes().filter(u8::is_ascii_uppercase).count();
    let humps = value
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase())
        .count();
    value.is_ascii() && (1..=4).contains(&capitals) && humps == capitals && value.len() >= capitals * 4
}

fn identifier(part: &str) -> bool {
    part.len() <= 24
        && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
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
