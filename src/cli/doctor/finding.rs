//! A finding without secrets, and its output.

use crate::config::{Config, EmbedderChoice, McpServer, process_env};
use crate::evidence::redact::Redactor;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use std::io::IsTerminal as _;

/// Minimum length of a secret to redact, because shorter strings occur in any text.
const MIN_SECRET: usize = 4;

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// No problem.
    Ok,
    /// Information.
    Note,
    /// Works, but less well or less safely than possible.
    Warning,
    /// Does not work.
    Error,
}

/// A single finding.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) mark: Mark,
    pub(super) says: String,
    /// Suggested action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    /// Machine-readable data.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) data: Value,
}

impl Finding {
    fn new(check: &'static str, mark: Mark, says: impl Into<String>) -> Self {
        Self { check, mark, says: says.into(), advice: None, data: Value::Null }
    }

    pub(super) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Mark::Ok, says)
    }

    pub(super) fn note(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Mark::Note, says)
    }

    pub(super) fn warning(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Mark::Warning, says)
    }

    pub(super) fn error(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Mark::Error, says)
    }

    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) fn data(self, data: Value) -> Self {
        Self { data, ..self }
    }
}

/// Redacts configured secrets, and anything that looks like a secret, in findings.
#[derive(Default)]
pub(super) struct Hide(Vec<String>);

impl Hide {
    /// Collects the secrets of the settings and of all MCP servers.
    pub(super) fn of(config: &Config, servers: &[McpServer]) -> Self {
        let mut secrets = Vec::new();
        let mut add = |secret: Option<&SecretString>| {
            secrets.extend(secret.map(|secret| secret.expose_secret().to_owned()));
        };
        add(config.database.url.as_ref());
        add(config.model.as_ref().and_then(|model| model.api_key.as_ref()));
        if let EmbedderChoice::Endpoint(endpoint) = &config.knowledge.embedder {
            add(endpoint.api_key.as_ref());
        }
        add(config.chat.link_secret.as_ref());
        add(config.tracker.as_ref().and_then(|tracker| tracker.webhook_secret.as_ref()));
        add(config.auth.oidc.as_ref().and_then(|oidc| oidc.client_secret.as_ref()));
        config.telemetry.otlp_headers.iter().for_each(|(_, secret)| add(Some(secret)));
        for server in servers {
            server.headers.values().chain(server.env.values()).for_each(|secret| add(Some(secret)));
        }
        // Servers may repeat a header's value without its scheme, or only the password of a URL.
        let parts = |secret: &String| -> Vec<String> {
            let url = reqwest::Url::parse(secret).ok();
            let password = url.and_then(|url| url.password().map(str::to_owned));
            let last = secret.split_whitespace().last().map(str::to_owned);
            [Some(secret.clone()), password, last].into_iter().flatten().collect()
        };
        let mut parts: Vec<String> = secrets.iter().flat_map(parts).collect();
        parts.retain(|part| part.len() >= MIN_SECRET);
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        Self(parts)
    }

    pub(super) fn all(&self, findings: Vec<Finding>) -> Vec<Finding> {
        findings.into_iter().map(|finding| self.one(finding)).collect()
    }

    fn one(&self, finding: Finding) -> Finding {
        let Finding { check, mark, says, advice, data } = finding;
        let advice = advice.map(|advice| self.text(&advice));
        Finding { check, mark, says: self.text(&says), advice, data: self.value(data) }
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, item)| (key, self.value(item))).collect(),
            other => other,
        }
    }

    /// Formats text on one line without terminal control characters, because it may come from a server.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "[redacted]");
        }
        let text = Redactor::new().redact(&text);
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    }
}

/// Prints the findings as text or as JSON Lines.
pub(super) fn print(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    if json {
        for finding in findings {
            outln!("{}", serde_json::to_string(finding)?);
        }
        return Ok(());
    }
    let no_colour = process_env("NO_COLOR").is_some_and(|set| !set.is_empty());
    let colour = std::io::stdout().is_terminal() && !no_colour;
    for Finding { check, mark, says, advice, .. } in findings {
        outln!("{} {check:<12} {says}", marked(*mark, colour));
        if let Some(advice) = advice {
            outln!("{:22}→ {advice}", "");
        }
    }
    let count = |mark: Mark| findings.iter().filter(|finding| finding.mark == mark).count();
    let [ok, notes, warnings, errors] = [Mark::Ok, Mark::Note, Mark::Warning, Mark::Error].map(count);
    outln!("\n{ok} ok, {notes} notes, {warnings} warnings, {errors} errors");
    Ok(())
}

fn marked(mark: Mark, colour: bool) -> String {
    let (word, code) = match mark {
        Mark::Ok => ("ok", "32"),
        Mark::Note => ("note", "36"),
        Mark::Warning => ("warning", "33"),
        Mark::Error => ("error", "31"),
    };
    if colour { format!("\x1b[{code}m{word:<8}\x1b[0m") } else { format!("{word:<8}") }
}
