//! Definition of a setting (key, environment variables, default and description) and its effective value.

use serde::Serialize;

/// Reads an environment variable; injected so that tests need no process environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Definition of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Dotted key in the TOML file.
    pub key: &'static str,
    /// Environment variables; the first one that is set wins. Later ones are legacy aliases.
    pub env: &'static [&'static str],
    /// Default value; empty means "not set".
    pub default: &'static str,
    /// Description.
    pub doc: &'static str,
}

/// Renamed settings: the old key, which a file may still contain, and the current key.
pub(super) const RENAMED: [(&str, &str); 1] = [("auth.ways", "auth.methods")];

/// Defines a setting.
pub(super) const fn setting(
    key: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { key, env, default, doc }
}

/// Settings whose values are never shown.
pub(super) const SECRETS: [&str; 7] = [
    "database.url",
    "auth.oidc_client_secret",
    "model.api_key",
    "chat.link_secret",
    "tracker.webhook_secret",
    "knowledge.embedding_api_key",
    "telemetry.otlp_headers",
];

/// Effective value of a setting, for display.
#[derive(Debug, Clone, Serialize)]
pub struct Effective {
    /// Dotted key.
    pub key: &'static str,
    /// Value without secrets; `None` when not set.
    pub value: Option<String>,
    /// Source: `default`, `file`, or the name of the environment variable.
    pub from: String,
    /// Description.
    pub doc: &'static str,
}
