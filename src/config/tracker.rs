//! Issue tracker settings.

use super::mcp::McpServer;
use super::reader::SettingsReader;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

/// Type of the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString, VariantArray, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum TrackerKind {
    /// Gitea and Forgejo.
    Gitea,
    /// GitHub and GitHub Enterprise.
    Github,
    /// GitLab.
    Gitlab,
}

impl TrackerKind {
    /// All values.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all values.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Configured destination of issues.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// Name of the MCP server.
    pub server: String,
    /// Repository owner.
    pub owner: String,
    /// Repository name.
    pub repo: String,
    /// Type of the tracker; `None` detects it by the server's tools.
    pub kind: Option<TrackerKind>,
    /// Web URL of the tracker, without a trailing slash, for servers that return no issue URL.
    pub url: Option<String>,
    /// Tool that creates an issue; detected when `None`.
    pub create_tool: Option<String>,
    /// Tool that lists issues; detected when `None`.
    pub list_tool: Option<String>,
    /// Tool that adds a comment; detected when `None`.
    pub comment_tool: Option<String>,
    /// Additional arguments of the tool that creates an issue.
    pub create_arguments: Map<String, Value>,
    /// Secret that verifies the tracker's webhooks; without it they are rejected.
    pub webhook_secret: Option<SecretString>,
}

pub(super) fn read(r: &mut SettingsReader<'_>, mcp: &[McpServer]) -> Option<Tracker> {
    let server = r.required_text("tracker.server");
    let (owner, repo) = (r.text("tracker.owner"), r.text("tracker.repo"));
    let known = mcp.iter().any(|candidate| candidate.name == server);
    r.all_or_none(&["tracker.owner", "tracker.repo"], "issues need both, so that they never go elsewhere");
    if known && owner.is_none() && repo.is_none() {
        r.mistake(
            "`tracker.owner`, `tracker.repo`",
            format!("not set, but the MCP server `{server}` is; issues need both"),
        );
    }
    if !known && owner.is_some() && repo.is_some() {
        r.mistake("`tracker.server`", format!("owner and repository are set, but there is no MCP server `{server}`; set `gitea.url` or add `[[mcp]]`"));
    }
    let (url, create_arguments) = (web(r, mcp, &server), more(r));
    Some(Tracker {
        server,
        owner: owner?,
        repo: repo?,
        kind: kind(r),
        url,
        create_tool: r.text("tracker.create_tool"),
        list_tool: r.text("tracker.list_tool"),
        comment_tool: r.text("tracker.comment_tool"),
        create_arguments,
        webhook_secret: r.signing_secret("tracker.webhook_secret", "events could be forged"),
    })
}

fn kind(r: &mut SettingsReader<'_>) -> Option<TrackerKind> {
    r.text("tracker.kind")?;
    let name = r.one_of("tracker.kind", TrackerKind::NAMES);
    name.parse().ok()
}

/// Returns the tracker's web URL: the setting, or a value in the environment of the stdio server.
fn web(r: &mut SettingsReader<'_>, mcp: &[McpServer], server: &str) -> Option<String> {
    let set = r.url("tracker.url");
    let told = || {
        let server = mcp.iter().find(|candidate| candidate.name == server)?;
        let value = ["GITHUB_HOST", "GITEA_URL", "GITEA_HOST", "FORGEJO_URL", "GITLAB_API_URL", "GITLAB_URL"]
            .iter()
            .find_map(|name| server.env.get(*name))?;
        let value = value.expose_secret().trim().trim_end_matches('/');
        let value = value.strip_suffix("/api/v4").unwrap_or(value);
        let value = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
        let url = reqwest::Url::parse(&value).ok()?;
        let is_plain =
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        is_plain.then(|| format!("{}{}", url.origin().ascii_serialization(), url.path()))
    };
    Some(set.or_else(told)?.trim_end_matches('/').to_owned())
}

/// Reads a TOML table or a JSON object.
fn more(r: &mut SettingsReader<'_>) -> Map<String, Value> {
    const NAME: &str = "tracker.create_arguments";
    let Some(text) = r.text(NAME) else { return Map::new() };
    let table = || -> Option<Value> {
        let line: toml::Table = format!("arguments = {text}").parse().ok()?;
        serde_json::to_value(line.get("arguments")?).ok()
    };
    match serde_json::from_str(&text).ok().or_else(table) {
        Some(Value::Object(arguments)) => arguments,
        _ => {
            r.mistake(
                format!("`{NAME}`"),
                "is not a table such as `{ labels = [\"ci\"] }`, or the same as JSON",
            );
            Map::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use serde_json::json;

    fn read(file: &str) -> Result<Option<super::Tracker>, String> {
        let file = format!(
            "{file}\n[[mcp]]\nname = \"git\"\ntransport = \"stdio\"\ncommand = [\"x\"]\nenv = {{ GITHUB_HOST = \"ghe.example/\" }}\n"
        );
        let config = Config::from_layers(&file.parse().unwrap(), &|_| None);
        config.map(|config| config.tracker).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn what_is_not_set_is_found_out() {
        let base = "[tracker]\nserver = \"git\"\nowner = \"o\"\nrepo = \"r\"\n";
        let tracker = read(base).unwrap().unwrap();
        assert!(
            tracker.create_tool.is_none() && tracker.kind.is_none() && tracker.create_arguments.is_empty()
        );
        assert_eq!(tracker.url.as_deref(), Some("https://ghe.example"), "as the server is told");
        let more = "kind = \"gitlab\"\nurl = \"https://gitlab.example/\"\ncreate_tool = \"file\"\n";
        for arguments in [
            "create_arguments = { labels = [\"ci\"], due = 3 }",
            "create_arguments = '{\"labels\": [\"ci\"], \"due\": 3}'",
        ] {
            let tracker = read(&format!("{base}{more}{arguments}\n")).unwrap().unwrap();
            assert_eq!(
                (tracker.kind, tracker.url.as_deref()),
                (Some(super::TrackerKind::Gitlab), Some("https://gitlab.example"))
            );
            assert_eq!(json!(tracker.create_arguments), json!({"labels": ["ci"], "due": 3}));
        }
        for (line, word) in [("kind = \"jira\"", "gitea"), ("create_arguments = [1]", "is not a table")] {
            let mistake = read(&format!("{base}{line}\n")).unwrap_err();
            assert!(mistake.contains(word), "{mistake}");
        }
    }
}
