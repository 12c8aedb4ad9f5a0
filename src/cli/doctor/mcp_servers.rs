//! Checks MCP servers and the tools that the settings refer to.

use super::finding::Finding;
use super::within;
use crate::blocking::BlockingPool;
use crate::config::{Config, ConfigError, McpServer, Transport, process_env};
use crate::domain::Access;
use crate::domain::policy::{CallContext, Decision};
use crate::mcp::{Connector, Registry, ServerStatus};
use crate::shutdown::Shutdown;
use crate::triage::{self, RequiredTool};
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timeout for closing sessions.
const CLOSING: Duration = Duration::from_secs(5);
/// Maximum number of tools of each kind listed by name.
const NAMED: usize = 8;

/// Connecting servers.
pub(super) struct Servers {
    all: Vec<McpServer>,
    /// Configuration errors of added servers.
    mistakes: Vec<Finding>,
    registry: Registry,
    shutdown: Shutdown,
    began: Instant,
}

impl Servers {
    /// Starts to connect to all configured and added servers.
    pub(super) fn connect(config: &Config, added: &[Value], http: reqwest::Client) -> Self {
        let mut all = config.mcp.clone();
        let mut mistakes = Vec::new();
        for settings in added {
            match config.added.server(settings, &process_env) {
                Ok(server) => all.push(server),
                Err(problems) => {
                    let problems: Vec<String> = problems.iter().map(ConfigError::to_string).collect();
                    let says = format!(
                        "{}, an added server, is left out: {}",
                        settings["name"],
                        problems.join("; ")
                    );
                    let advice =
                        "allow in `added_servers.…` what it needs, or remove it on the page “MCP servers”";
                    mistakes.push(Finding::warning("mcp", says).advice(advice));
                }
            }
        }
        let shutdown = Shutdown::new();
        let connector = Connector { http, blocking: BlockingPool::default() };
        let registry = Registry::start(all.clone(), Arc::clone(&config.policy), None, connector, &shutdown);
        Self { all, mistakes, registry, shutdown, began: Instant::now() }
    }

    pub(super) fn all(&self) -> &[McpServer] {
        &self.all
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) async fn close(self) {
        self.shutdown.finish(CLOSING).await;
    }

    /// Reports the state of each server.
    pub(super) async fn check(&self) -> Vec<Finding> {
        if self.all.is_empty() && self.mistakes.is_empty() {
            let finding =
                Finding::warning("mcp", "no MCP server is configured: reports have to bring their log");
            return vec![finding.advice("set `openshift.url` (MCP_OPENSHIFT_URL) and `gitea.url` (MCP_GITEA_URL), or add `[[mcp]]` tables")];
        }
        let each = self.all.iter().map(|server| self.server(server));
        join_all(each).await.into_iter().chain(self.mistakes.iter().cloned()).collect()
    }

    async fn server(&self, server: &McpServer) -> Finding {
        if let Err(late) = within("mcp", self.registry.wait_for_first_attempt(&server.name)).await {
            let says = format!("`{}`: {}", server.name, late.says);
            return Finding { says, ..late };
        }
        let took = self.began.elapsed();
        match self.registry.status_of(&server.name) {
            Some((status, _)) if status.is_connected() => self.connected(&status, took),
            Some((status, _)) => away(server, &status),
            None => Finding::error("mcp", format!("`{}` is gone", server.name)),
        }
    }

    fn connected(&self, status: &ServerStatus, took: Duration) -> Finding {
        let tools = self.registry.tools_of(&status.name).unwrap_or_default();
        let of = |access: Access| -> Vec<&str> {
            tools.iter().filter(|tool| tool.access == access).map(|tool| tool.name.as_str()).collect()
        };
        let (reads, writes) = (of(Access::Read), of(Access::Write));
        let revision = self.registry.revision_of(&status.name).unwrap_or_default();
        let (name, transport, took) = (&status.name, status.transport, took.as_millis());
        let data = json!({
            "server": name, "transport": transport, "revision": revision, "took_ms": took, "reads": reads, "writes": writes,
        });
        let says =
            format!("`{name}` ({transport}, MCP {revision}) connected in {took} ms, {} tools", tools.len());
        let finding = if tools.is_empty() {
            Finding::warning("mcp", says)
                .advice("see `allow` and `deny` of its table, and what the server itself lets show")
        } else if reads.is_empty() {
            Finding::note("mcp", format!("{says}; none is said to only read: {}", named(&writes))).advice(format!(
                "name those that only look in `read` of its table{}, or investigations are not offered them",
                looking(&writes)
            ))
        } else {
            Finding::ok(
                "mcp",
                format!("{says}; read: {}; change something: {}", named(&reads), named(&writes)),
            )
        };
        let finding = match &status.note {
            Some(note) => Finding::warning("mcp", format!("{}; {note}", finding.says))
                .advice(format!("set transport and URL of `{name}` to what was found")),
            None => finding,
        };
        finding.data(data)
    }

    /// Checks that the tools required by the settings exist, accept their arguments and may be called.
    pub(super) async fn tools(&self, config: &Config) -> Vec<Finding> {
        // An unavailable server is reported only once.
        let needs = triage::needs(config, &self.registry);
        let mut findings: Vec<Finding> = needs.iter().map(|need| self.need(need)).collect();
        let cluster = &config.cluster.server;
        if !self.all.is_empty() && !self.all.iter().any(|server| &server.name == cluster) {
            let says = format!("there is no MCP server `{cluster}`: reports have to bring their log");
            let advice =
                "set `openshift.url` (MCP_OPENSHIFT_URL), or name another server in `cluster.server`";
            findings.insert(0, Finding::warning("tools", says).advice(advice));
        }
        findings
    }

    fn need(&self, need: &RequiredTool<'_>) -> Finding {
        let RequiredTool { setting, server, tool, loss, misfits } = need;
        let name = format!("`{tool}` of `{server}` (`{setting}`)");
        let bad = |says: String| match loss {
            Some(loss) => Finding::warning("tools", format!("{says}: {loss}")),
            None => Finding::error("tools", says),
        };
        let (Some(found), Some(misfits)) = (self.registry.find(server, tool), misfits) else {
            let advice = format!("set `{setting}` to what the server calls it; {}", self.known(server));
            return bad(format!("{name} is not there")).advice(advice);
        };
        if !misfits.is_empty() {
            let more = if *setting == "tracker.create_tool" {
                ", or give it what it wants by `tracker.create_arguments`"
            } else {
                ""
            };
            let advice = format!(
                "set `{setting}` to a tool of the server that does this{more}; {}",
                self.known(server)
            );
            return bad(format!("{name} does not fit: {}", misfits.join("; "))).advice(advice);
        }
        match self.registry.evaluate(&CallContext::service(), server, tool) {
            Some(standing) if standing.decision != Decision::Allow => {
                let says = format!(
                    "{name} is kept from Regreen itself by {}: {}",
                    standing.rule_name(),
                    standing.reason
                );
                bad(says).advice(
                    "change that rule of `policy.file`, or put one with `place = \"service\"` before it",
                )
            }
            _ => {
                let does = if found.access() == Access::Read { "reads" } else { "changes something" };
                Finding::ok("tools", format!("{name} is there and fits; it {does}"))
            }
        }
    }

    fn known(&self, server: &str) -> String {
        let tools = self.registry.tools_of(server).unwrap_or_default();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        format!("it has {}", named(&names))
    }

    /// Checks where issues are filed.
    pub(super) async fn tracker(&self, config: &Config) -> Vec<Finding> {
        let Some(tracker) = &config.tracker else {
            let finding =
                Finding::note("tracker", "issues are filed nowhere; diagnoses are stored and returned");
            return vec![finding.advice("set `tracker.owner` and `tracker.repo` (GITEA_OWNER, GITEA_REPO) and the tracker's MCP server")];
        };
        let place = format!("{}/{} through `{}`", tracker.owner, tracker.repo, tracker.server);
        let mut findings = Vec::new();
        if self.registry.is_connected(&tracker.server) {
            findings.push(match triage::issues(&self.registry, tracker).await {
                Some(Ok(())) => Finding::ok("tracker", format!("issues go to {place}; those there can be listed")),
                Some(Err(error)) => Finding::error("tracker", format!("issues of {place} cannot be listed: {error}"))
                    .advice("see that `tracker.owner` and `tracker.repo` are right, and that the server's token may read and write issues there"),
                None => Finding::note("tracker", format!("issues go to {place}; its tool that lists is not there, or not said to only read, so it is not tried"))
                    .advice("name it in `read` of the server's table"),
            });
        }
        if tracker.webhook_secret.is_none() {
            let finding = Finding::note(
                "tracker",
                "its webhooks are refused: closed issues do not resolve their incidents",
            );
            findings.push(finding.advice("set `tracker.webhook_secret` (REGREEN_WEBHOOK_SECRET), and the same in the webhook of the repository"));
        }
        findings
    }
}

/// Suggests globs for tools whose names indicate read-only access.
fn looking(names: &[&str]) -> String {
    const VERBS: [&str; 8] = ["get_", "list_", "read_", "search_", "query_", "find_", "describe_", "view_"];
    let used = VERBS.iter().filter(|verb| names.iter().any(|name| name.starts_with(**verb)));
    let globs: Vec<String> = used.map(|verb| format!("\"{verb}*\"")).collect();
    if globs.is_empty() { String::new() } else { format!(", such as `read = [{}]`", globs.join(", ")) }
}

fn named(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() <= NAMED => names.join(", "),
        names => format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
    }
}

fn away(server: &McpServer, status: &ServerStatus) -> Finding {
    let reason = status.last_error.as_deref().unwrap_or("no reason given");
    let name = &server.name;
    let refused = ["401", "403", "Auth required", "auth required"].iter().any(|word| reason.contains(word));
    let advice = match &server.transport {
        Transport::Stdio { .. } => format!(
            "see that the first word of `command` of `{name}` is a program here, and that `env` holds what it wants"
        ),
        _ if refused => {
            format!("see that `headers` of `{name}` hold what the server wants, and that it has not expired")
        }
        _ => format!(
            "see that the server runs, that the URL and transport of `{name}` are right, and that a NetworkPolicy lets this pod reach it"
        ),
    };
    let data = json!({ "server": name, "transport": status.transport, "error": reason });
    let finding =
        Finding::error("mcp", format!("`{name}` ({}) is not connected: {reason}", status.transport));
    finding.advice(advice).data(data)
}
