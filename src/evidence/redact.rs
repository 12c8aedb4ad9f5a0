//! Replaces secrets by stable placeholders: the same secret gets the same one within a report.

use regex::{Captures, Regex};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A kind of secret: its name, what it looks like, and the group that is secret.
struct Rule {
    kind: &'static str,
    pattern: Regex,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |kind, pattern: &str| Rule { kind, pattern: Regex::new(pattern).expect("a fixed pattern") };
    vec![
        rule(
            "private-key",
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        ),
        rule("github-token", r"\b(?P<secret>gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,})"),
        rule("gitlab-token", r"\b(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,})"),
        rule("slack-token", r"\b(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,})"),
        rule("slack-webhook", r"https://hooks\.slack\.com/services/(?P<secret>[A-Za-z0-9/_-]{20,})"),
        rule("aws-key", r"\b(?P<secret>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b"),
        rule("google-key", r"\b(?P<secret>AIza[A-Za-z0-9_-]{35})"),
        rule("google-token", r"\b(?P<secret>ya29\.[A-Za-z0-9_-]{20,})"),
        rule("npm-token", r"\b(?P<secret>npm_[A-Za-z0-9]{36})\b"),
        rule("pypi-token", r"\b(?P<secret>pypi-[A-Za-z0-9_-]{50,})"),
        rule("api-key", r"\b(?P<secret>sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,})"),
        rule("stripe-key", r"\b(?P<secret>[rs]k_(?:live|test)_[A-Za-z0-9]{16,})"),
        rule("azure-key", r"(?i)\b(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/=]{20,})"),
        rule("openshift-token", r"\b(?P<secret>sha256~[A-Za-z0-9_-]{30,})"),
        rule("jwt", r"\b(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
        rule(
            "authorization",
            r#"(?i)\bauthorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|negotiate)\s+)?(?P<secret>[A-Za-z0-9+/=._~-]{8,})"#,
        ),
        rule("bearer-token", r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9+/=._~-]{16,})"),
        rule("url-password", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'\x22]*:(?P<secret>[^\s/@'\x22]{2,})@"),
        rule("docker-auth", r#""auth"\s*:\s*"(?P<secret>[A-Za-z0-9+/=]{8,})""#),
        rule("npm-auth", r"(?i)_auth(?:Token)?\s*=\s*(?P<secret>[A-Za-z0-9+/=._-]{8,})"),
        rule("netrc-password", r"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+(?P<secret>\S+)"),
        rule(
            "password",
            r#"(?i)(?:\b|_)(?:password|passwd|passphrase|pwd|secret|client[_-]?secret|access[_-]?key|secret[_-]?key|private[_-]?key|api[_-]?key|apikey|(?:access|auth|refresh|api|deploy|session|id|private)[_-]?token|token|credentials?)["']?\s*(?:=|:)\s*(?P<secret>"[^"\r\n]{4,}"|'[^'\r\n]{4,}'|[^\s"'<>,;(){}\[\]]{6,})"#,
        ),
        rule(
            "password",
            r"(?i)(?:^|\s)--?(?:password|passwd|token|secret|api-key)[ =](?P<secret>[^\s-][^\s]{5,})",
        ),
    ]
});

/// A Secret's `data:` block holds base64 under any name.
static SECRET_DATA: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^(?P<head>\s+[A-Za-z0-9._-]+:\s+)(?P<secret>[A-Za-z0-9+/]{8,}={0,2})[ \t]*$")
        .expect("a fixed pattern")
});
static IS_SECRET: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*kind:\s*Secret\s*$").expect("a fixed pattern"));

/// Values that stand for a secret without being one.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\*+|x{3,}|\.{3,}|<[^>]*>|\$\{?[\w.()]+\}?|\$\(.*|\{\{.*|%\w+%?|null|none|nil|true|false|undefined|empty|required|missing|invalid|changeme|example|redacted|\[?masked\]?|\[redacted.*|not[ _-].*|was|is|has|expired|file:.*|env:.*|vault:.*|secretKeyRef.*|valueFrom.*|/[\w./-]+|[0-9]{1,6})$")
        .expect("a fixed pattern")
});

/// Replaces secrets within one report.
#[derive(Debug, Default)]
pub struct Redactor {
    placeholders: HashMap<String, String>,
    per_kind: HashMap<&'static str, usize>,
    count: usize,
}

impl Redactor {
    /// Has seen no secret yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Secrets replaced so far, each occurrence counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The text with its secrets replaced. Its number of lines does not change.
    #[must_use]
    pub fn redact(&mut self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        if IS_SECRET.is_match(&text) {
            text = Cow::Owned(self.apply("secret-data", &SECRET_DATA, &text));
        }
        for rule in RULES.iter() {
            if rule.pattern.is_match(&text) {
                text = Cow::Owned(self.apply(rule.kind, &rule.pattern, &text));
            }
        }
        text.into_owned()
    }

    fn apply(&mut self, kind: &'static str, pattern: &Regex, text: &str) -> String {
        let replace = |found: &Captures<'_>| {
            let whole = found.get(0).expect("group 0 always matches");
            let Some(secret) = found.name("secret") else {
                return whole.as_str().to_owned();
            };
            let value = secret.as_str().trim_matches(['"', '\'']);
            if HARMLESS.is_match(value)
                || value.contains("[redacted:")
                || (kind == "password" && is_code(value))
            {
                return whole.as_str().to_owned();
            }
            let placeholder = self.placeholder(kind, value);
            // Lines keep their numbers also where a key spans many.
            let lines = "\n".repeat(secret.as_str().matches('\n').count());
            let (before, after) = (secret.start() - whole.start(), secret.end() - whole.start());
            format!("{}{placeholder}{lines}{}", &whole.as_str()[..before], &whole.as_str()[after..])
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

/// `token: string` of a type, `password = getPassword()` of a program: code, not a value.
fn is_code(value: &str) -> bool {
    let plain_word =
        value.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.' || b == b'_') && value.len() < 24;
    plain_word && !value.bytes().any(|b| b.is_ascii_uppercase()) && !value.contains('.') && value.len() < 8
        || value.contains("::")
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
        let key = format!("a\n-----BEGIN {0} KEY-----\nMII\nabc\n-----END {0} KEY-----\nb", "RSA PRIVATE");
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
