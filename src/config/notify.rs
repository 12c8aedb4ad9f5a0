//! The `[[notify]]` tables of the file: notification targets, channels and filters.

use super::mcp::globs;
use super::reader::SettingsReader;
use crate::domain::{FailureClass, NotificationFilter, Novelty};
use globset::{Glob, GlobSet};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// A notification target.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name in logs and in the audit log.
    pub name: String,
    /// Channel of the notifications.
    pub channel: Channel,
    /// Filter of the notifications.
    pub wanted: NotificationFilter,
    /// Namespace globs of the filter, as written in the file.
    pub namespaces: Vec<String>,
}

/// Notification channel.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Incoming webhook of Slack or a compatible service. The URL is a secret: its holder may post.
    Slack(SecretString),
    /// Workflow webhook of Microsoft Teams.
    Teams(SecretString),
    /// Generic webhook by the Standard Webhooks specification.
    Webhook {
        /// Where to.
        url: SecretString,
        /// Secret that signs the messages.
        secret: SecretString,
    },
    /// A comment on the pull request whose commit failed.
    PullRequest(Forge),
}

impl Channel {
    /// Returns whether all messages go to one destination and are therefore sent one after the other.
    #[must_use]
    pub fn is_one(&self) -> bool {
        !matches!(self, Self::PullRequest(_))
    }

    /// Name in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Teams(_) => "teams",
            Self::Webhook { .. } => "webhook",
            Self::PullRequest(Forge { kind: ForgeKind::Gitea, .. }) => "gitea",
            Self::PullRequest(Forge { kind: ForgeKind::GitHub, .. }) => "github",
        }
    }
}

/// Forge that hosts the pull requests.
#[derive(Debug, Clone)]
pub struct Forge {
    /// API of the forge.
    pub kind: ForgeKind,
    /// Base URL of the API, without a trailing slash.
    pub api: String,
    /// Host of repository URLs.
    pub host: String,
    /// Path prefix of repository URLs, without a trailing slash; empty unless the forge is below a path.
    pub base: String,
    /// Token of an account that may read pull requests and comment on them.
    pub token: SecretString,
    /// Globs of permitted repositories, as `owner/name` in lower case, because forges ignore case.
    pub repositories: GlobSet,
}

/// API of a forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeKind {
    /// Gitea or Forgejo.
    Gitea,
    /// GitHub or GitHub Enterprise.
    GitHub,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    name: String,
    channel: String,
    url: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default = "everywhere")]
    namespaces: Vec<String>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default = "news")]
    on: Vec<String>,
    #[serde(default)]
    every: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default = "everywhere")]
    repositories: Vec<String>,
}

fn everywhere() -> Vec<String> {
    vec!["*".to_owned()]
}

fn news() -> Vec<String> {
    vec!["new".to_owned(), "returned".to_owned()]
}

/// Reads all targets; errors go to the reader.
pub(super) fn read(r: &mut SettingsReader<'_>, file: &toml::Table) -> Vec<Target> {
    let tables = match file.get("notify") {
        None => return Vec::new(),
        Some(toml::Value::Array(tables)) => tables,
        Some(_) => {
            r.mistake("`notify` (file)", "is written as `[[notify]]`, once for each who is told");
            return Vec::new();
        }
    };
    let mut targets: Vec<Target> = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, table) in tables.iter().enumerate() {
        match table.clone().try_into::<RawTarget>() {
            Ok(raw) if !seen.insert(raw.name.clone()) => {
                r.mistake(format!("`notify` `{}`", raw.name), "there are two of that name");
            }
            Ok(raw) => targets.extend(target(r, raw)),
            Err(error) => r.mistake(format!("`notify[{index}]` (file)"), error.message().trim()),
        }
    }
    targets
}

fn target(r: &mut SettingsReader<'_>, raw: RawTarget) -> Option<Target> {
    let name = format!("`notify` `{}`", raw.name);
    let before = r.mistakes.len();
    if raw.name.is_empty() || raw.name.len() > 32 {
        r.mistake(format!("{name} name"), "has to be 1 to 32 characters");
    }
    let channel = channel(r, &name, &raw);
    for glob in raw.namespaces.iter().filter(|glob| Glob::new(glob).is_err()) {
        r.mistake(format!("{name} namespaces"), format!("`{glob}` is not a pattern such as `team-a-*`"));
    }
    let mut classes = Vec::new();
    for class in &raw.classes {
        match class.parse::<FailureClass>() {
            Ok(class) => classes.push(class),
            Err(_) => r.mistake(format!("{name} classes"), one_of(class, FailureClass::NAMES)),
        }
    }
    let mut novelties = Vec::new();
    for novelty in &raw.on {
        match Novelty::parse(novelty) {
            Some(novelty) => novelties.push(novelty),
            None => r.mistake(format!("{name} on"), one_of(novelty, Novelty::NAMES)),
        }
    }
    // No rate limit by default, because the comment is updated in place.
    let every = raw.every.as_deref().unwrap_or(if is_forge(&raw.channel) { "0s" } else { "5m" });
    let every = humantime::parse_duration(every).unwrap_or_else(|_| {
        r.mistake(format!("{name} every"), format!("`{every}` is not a time such as `5m`"));
        Duration::ZERO
    });
    let every = r.not_too_long(&format!("{name} every"), every);
    let wanted = NotificationFilter { namespaces: globs(&raw.namespaces), classes, novelties, every };
    let channel = channel.filter(|_| r.mistakes.len() == before)?;
    Some(Target { name: raw.name, channel, wanted, namespaces: raw.namespaces })
}

fn one_of(word: &str, known: &[&str]) -> String {
    format!("`{word}` is none of {}", known.join(", "))
}

fn channel(r: &mut SettingsReader<'_>, name: &str, raw: &RawTarget) -> Option<Channel> {
    let url = r.resolve(&format!("{name} url"), &raw.url)?;
    let is_web = Url::parse(url.expose_secret()).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_web {
        // Omits the URL, because its holder may post.
        r.mistake(format!("{name} url"), "is not an http or https address");
    }
    let secret = match &raw.secret {
        Some(secret) => Some(r.resolve(&format!("{name} secret"), secret)?),
        None => None,
    };
    if is_forge(&raw.channel) {
        return forge(r, name, raw, url.expose_secret()).map(Channel::PullRequest);
    }
    match (raw.channel.as_str(), secret) {
        ("slack", None) => Some(Channel::Slack(url)),
        ("teams", None) => Some(Channel::Teams(url)),
        ("webhook", Some(secret)) if secret.expose_secret().len() >= super::MIN_SECRET => {
            Some(Channel::Webhook { url, secret })
        }
        ("webhook", Some(_)) => {
            r.mistake(format!("{name} secret"), format!("is shorter than {} bytes", super::MIN_SECRET));
            None
        }
        ("webhook", None) => {
            r.mistake(format!("{name} secret"), "is missing; messages to a `webhook` are signed with it");
            None
        }
        ("slack" | "teams", Some(_)) => {
            r.mistake(format!("{name} secret"), "is only for the channel `webhook`");
            None
        }
        (other, _) => {
            r.mistake(
                format!("{name} channel"),
                one_of(other, &["slack", "teams", "webhook", "gitea", "github"]),
            );
            None
        }
    }
}

fn is_forge(channel: &str) -> bool {
    matches!(channel, "gitea" | "github")
}

/// Reads a forge. `url` is its web URL; the API is below it, except for GitHub, whose API has its own host.
fn forge(r: &mut SettingsReader<'_>, name: &str, raw: &RawTarget, url: &str) -> Option<Forge> {
    let Some(token) = &raw.token else {
        r.mistake(format!("{name} token"), "is missing; pull requests are commented on with it");
        return None;
    };
    let token = r.resolve(&format!("{name} token"), token)?;
    let parsed = Url::parse(url).ok()?;
    let host = parsed.host_str()?.to_owned();
    let (base, below) = (url.trim_end_matches('/'), parsed.path().trim_end_matches('/').to_owned());
    let (kind, api) = match (raw.channel.as_str(), host.as_str()) {
        ("github", "github.com") => (ForgeKind::GitHub, "https://api.github.com".to_owned()),
        ("github", host) if host.ends_with(".ghe.com") => (ForgeKind::GitHub, format!("https://api.{host}")),
        ("github", _) => (ForgeKind::GitHub, format!("{base}/api/v3")),
        _ => (ForgeKind::Gitea, format!("{base}/api/v1")),
    };
    let repositories: Vec<String> = raw.repositories.iter().map(|glob| glob.to_ascii_lowercase()).collect();
    let repositories = globs(&repositories);
    for glob in raw.repositories.iter().filter(|glob| Glob::new(glob).is_err()) {
        r.mistake(format!("{name} repositories"), format!("`{glob}` is not a pattern such as `team/*`"));
    }
    Some(Forge { kind, api, host, base: below, token, repositories })
}
