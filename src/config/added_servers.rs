//! MCP servers added over the API, which are more restricted than configured ones.

use super::mcp::{McpServer, globs};
use super::mcp_servers;
use super::reader::{ConfigError, SettingsReader};
use super::setting::Env;
use super::table::SETTINGS;
use super::url_guard;
use crate::evidence::untrusted::leak;
use globset::Glob;

/// Restrictions of MCP servers added over the API.
#[derive(Debug, Clone, Default)]
pub struct Added {
    /// Allowed programs.
    pub commands: Vec<String>,
    /// Allowed globs of secret references, `env:NAME` or `file:/path`.
    pub secrets: Vec<String>,
    /// Allowed URL globs.
    pub urls: Vec<String>,
}

/// Reads a comma-separated list of globs.
pub(super) fn globs_of(r: &mut SettingsReader<'_>, key: &str) -> Vec<String> {
    let text = r.required_text(key);
    let items: Vec<String> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    for item in &items {
        if let Err(error) = Glob::new(item) {
            r.mistake(format!("`{key}`"), format!("`{item}` is not a glob: {}", error.kind()));
        }
    }
    items
}

impl Added {
    pub(super) fn read(r: &mut SettingsReader<'_>) -> Self {
        Self {
            commands: globs_of(r, "added_servers.commands"),
            secrets: globs_of(r, "added_servers.secrets"),
            urls: globs_of(r, "added_servers.urls"),
        }
    }

    /// Builds a server from the JSON form of a `[[mcp]]` table.
    ///
    /// # Errors
    /// Returns all settings that are invalid or not allowed for an added server.
    pub fn server(&self, settings: &serde_json::Value, env: Env<'_>) -> Result<McpServer, Vec<ConfigError>> {
        let mistake = |problem: String| ConfigError { setting: "settings".to_owned(), problem };
        let raw: mcp_servers::RawServer =
            serde_json::from_value(settings.clone()).map_err(|error| vec![mistake(error.to_string())])?;
        let mut problems = Vec::new();
        let references = globs(&self.secrets);
        for (field, values) in [("headers", &raw.headers), ("env", &raw.env)] {
            for (name, value) in values {
                let problem = if !value.starts_with("env:") && !value.starts_with("file:") {
                    "is a secret and has to be given as `env:NAME` or `file:/path`, never as it is".to_owned()
                } else if references.is_match(value) {
                    continue;
                } else {
                    format!("`{value}` is not among `added_servers.secrets`")
                };
                problems.push(ConfigError { setting: format!("{field} `{name}`"), problem });
            }
        }
        if raw.passthrough {
            problems.push(ConfigError {
                setting: "passthrough".to_owned(),
                problem: "tokens of people go only to servers of the configuration".to_owned(),
            });
        }
        if let Some(program) = raw.command.first().filter(|program| !self.commands.contains(program)) {
            problems.push(ConfigError {
                setting: "command".to_owned(),
                problem: format!("`{program}` is not among `added_servers.commands`"),
            });
        }
        if let Some(problem) = raw.url.as_ref().and_then(|url| url_guard::problem(url, &self.urls)) {
            problems.push(ConfigError { setting: "url".to_owned(), problem });
        }
        // The settings are stored and shown in plain text, so they must not contain a secret.
        if leak::hold_secret(settings) {
            problems.push(ConfigError {
                setting: "url".to_owned(),
                problem: "or another field holds what looks like a secret; give it as a reference such as `env:NAME` in `headers` or `env`".to_owned(),
            });
        }
        // Check permissions before any secret is resolved.
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut reader = SettingsReader::new(&SETTINGS, env, &toml::Table::new());
        let server = mcp_servers::server(&mut reader, raw);
        match server {
            Some(server) if reader.mistakes.is_empty() => Ok(McpServer { guarded: true, ..server }),
            _ => Err(reader.mistakes),
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::{Value, json};

    fn server(settings: &Value) -> Result<McpServer, String> {
        let rules = Added {
            commands: vec!["npx".into()],
            secrets: vec!["env:REGREEN_MCP_*".into()],
            urls: vec!["https://a.example/**".into(), "x".into()],
        };
        let env = |name: &str| (name == "REGREEN_MCP_TOKEN").then(|| "t".to_owned());
        rules
            .server(settings, &env)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn only_what_is_allowed_is_added() {
        let good = json!({"name": "a", "transport": "streamable-http", "url": "https://a.example/mcp",
                          "headers": {"authorization": "env:REGREEN_MCP_TOKEN"}});
        assert_eq!(server(&good).unwrap().headers.len(), 1);
        assert!(server(&json!({"name": "a", "transport": "stdio", "command": ["npx", "x"]})).is_ok());
        for (settings, word) in [
            (
                json!({"name": "a", "transport": "sse", "url": "http://x", "headers": {"authorization": "Bearer x"}}),
                "never as it is",
            ),
            (
                json!({"name": "a", "transport": "sse", "url": "http://x", "headers": {"authorization": "env:DATABASE_URL"}}),
                "added_servers.secrets",
            ),
            (
                json!({"name": "a", "transport": "sse", "url": "http://x", "headers": {"authorization": "file:/etc/passwd"}}),
                "added_servers.secrets",
            ),
            (
                json!({"name": "a", "transport": "sse", "url": "http://x", "headers": {"a": "env:REGREEN_MCP_NONE"}}),
                "not set",
            ),
            (json!({"name": "a", "transport": "stdio", "command": ["sh"]}), "added_servers.commands"),
            (
                json!({"name": "a", "transport": "streamable-http", "url": "https://x", "passthrough": true}),
                "only to servers of the configuration",
            ),
            (
                json!({"name": "a", "transport": "websocket", "url": "wss://b.example/mcp"}),
                "added_servers.urls",
            ),
            (json!({"name": "a b", "transport": "sse", "url": "http://x"}), "letters"),
            (json!({"name": "a", "transport": "sse", "url": "ftp://x"}), "http://"),
            (json!({"name": "a", "transport": "sse", "url": "http://x", "color": 1}), "color"),
            (json!(7), "struct"),
        ] {
            let problem = server(&settings).unwrap_err();
            assert!(problem.contains(word), "{settings}: {problem}");
        }
    }
}
