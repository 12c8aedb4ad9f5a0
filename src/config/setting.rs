//! One setting: its key, its environment variables, its default and what it means; and a setting as it is in effect.

use serde::Serialize;

/// Reads an environment variable; injected so that tests need no process environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Dotted key in the TOML file.
    pub key: &'static str,
    /// Environment variables, the first set one wins; the later ones are aliases of the agent this one replaces.
    pub env: &'static [&'static str],
    /// Value when nothing is set; empty means "not set".
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Settings that had another name: the old key, which a file may still have, and the key.
pub(super) const RENAMED: [(&str, &str); 1] = [("auth.ways", "auth.methods")];

/// A setting of the table.
pub(super) const fn setting(
    key: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { key, env, default, doc }
}

/// Settings whose values are shown nowhere.
pub(super) const SECRETS: [&str; 7] = [
    "database.url",
    "auth.oidc_client_secret",
    "model.api_key",
    "chat.link_secret",
    "tracker.webhook_secret",
    "knowledge.embedding_api_key",
    "telemetry.otlp_headers",
];

/// A setting as it is in effect, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Effective {
    /// Dotted key.
    pub key: &'static str,
    /// Its value without secrets; absent when it is not set.
    pub value: Option<String>,
    /// `default`, `file`, or the environment variable it came by.
    pub from: String,
    /// What it does.
    pub doc: &'static str,
}
