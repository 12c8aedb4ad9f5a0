//! Where issues are filed.

use super::mcp::McpServer;
use super::reader::SettingsReader;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

/// What the tracker is.
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
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where issues are filed, pinned.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// MCP server's name.
    pub server: String,
    /// Repository owner.
    pub owner: String,
    /// Repository.
    pub repo: String,
    /// What it is; found out by its tools when absent.
    pub kind: Option<TrackerKind>,
    /// Where people read it, for issues whose address the server does not tell; without a slash at its end.
    pub url: Option<String>,
    /// Tool that files; found out when absent.
    pub create_tool: Option<String>,
    /// Tool that lists; found out when absent.
    pub list_tool: Option<String>,
    /// Tool that comments; found out when absent.
    pub comment_tool: Option<String>,
    /// What the tool that files is given besides.
    pub create_arguments: Map<String, Value>,
    /// What the tracker signs its webhooks with; without it they are refused.
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

/// Where people read the tracker: as it is set, or as a server that is started here is told in its environment.
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

/// A table of the file, or an object as JSON.
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
