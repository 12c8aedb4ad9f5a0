//! Every setting once: its key in the file, its environment variables, its default and what it means.
//! The table of docs/settings.md is printed from here.

use super::{auth, budget, limits, model, retention, telemetry};
use serde::Serialize;
use std::sync::LazyLock;

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

pub(super) const fn s(
    key: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { key, env, default, doc }
}

/// All settings, in the order of the documented table.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    [
        GENERAL,
        model::SETTINGS,
        auth::SETTINGS,
        budget::SETTINGS,
        limits::SETTINGS,
        telemetry::SETTINGS,
        retention::SETTINGS,
    ]
    .concat()
});

const GENERAL: &[Setting] = &[
    s("server.bind", &["REGREEN_BIND"], "127.0.0.1", "Address to listen on."),
    s("server.port", &["REGREEN_PORT", "PORT"], "8000", "Port to listen on; 0 picks a free one."),
    s(
        "server.metrics_bind",
        &["REGREEN_METRICS_BIND"],
        "",
        "Address and port of its own for `/metrics` and the probes, such as `0.0.0.0:9090`: open to whoever reaches it, and there for `regreen work` too. Unset: none.",
    ),
    s(
        "server.public_url",
        &["REGREEN_PUBLIC_URL"],
        "",
        "Where people reach this server; used in links of issues and of calls that wait for approval.",
    ),
    s(
        "server.body_limit",
        &["REGREEN_BODY_LIMIT"],
        "33554432",
        "Largest request body, in bytes; larger ones get 413. Routes that take no logs take less: the description of the API says how much.",
    ),
    s(
        "server.wait",
        &["REGREEN_WAIT"],
        "5m",
        "How long `POST /report-failure` waits for the outcome before it answers 202.",
    ),
    s(
        "server.stop_delay",
        &["REGREEN_STOP_DELAY"],
        "0s",
        "How long it goes on after SIGTERM, no longer ready, before it stops: a load balancer learns of it late. A second signal ends the wait.",
    ),
    s(
        "server.shutdown_grace",
        &["REGREEN_SHUTDOWN_GRACE"],
        "30s",
        "How long a stop waits for what runs before it hands it back.",
    ),
    s(
        "server.max_connections",
        &["REGREEN_MAX_CONNECTIONS"],
        "2048",
        "Connections at the same time, at most half as many as the process may have open files; more wait.",
    ),
    s(
        "server.header_timeout",
        &["REGREEN_HEADER_TIMEOUT"],
        "75s",
        "How long a connection may rest, or take to send the header of a request.",
    ),
    s(
        "server.body_timeout",
        &["REGREEN_BODY_TIMEOUT"],
        "30s",
        "How long the body of a request may take, and a second more for each 64 KiB; slower ones get 408.",
    ),
    s(
        "database.url",
        &["REGREEN_DATABASE_URL", "DATABASE_URL"],
        "",
        "PostgreSQL with pgvector. Unset: a private one in the data folder.",
    ),
    s(
        "database.max_connections",
        &["REGREEN_DATABASE_MAX_CONNECTIONS"],
        "16",
        "Size of the connection pool.",
    ),
    s(
        "database.wait",
        &["REGREEN_DATABASE_WAIT"],
        "1m",
        "How long a start waits for a database that does not answer yet.",
    ),
    s(
        "database.data_dir",
        &["REGREEN_DATA_DIR"],
        "",
        "Folder of the private PostgreSQL. Unset: `/var/lib/regreen` as root, else `~/.local/share/regreen`.",
    ),
    s(
        "database.programs",
        &["REGREEN_POSTGRES_PROGRAMS"],
        "",
        "Folder with `initdb` and `postgres` for the private PostgreSQL. Unset: looked up.",
    ),
    s(
        "database.migrations",
        &["REGREEN_MIGRATIONS"],
        "",
        "Folder with migrations that take the place of built-in ones: files of `migrations/` under the same names. Stays: what was applied is compared at each start.",
    ),
    s(
        "agent.turns",
        &["REGREEN_AGENT_TURNS"],
        "12",
        "Completions per investigation; the last one may only conclude.",
    ),
    s(
        "agent.context_tokens",
        &["REGREEN_AGENT_CONTEXT_TOKENS"],
        "32000",
        "Largest request to the model, in tokens; old tool results are shortened first.",
    ),
    s(
        "agent.total_tokens",
        &["REGREEN_AGENT_TOTAL_TOKENS"],
        "400000",
        "Tokens one investigation may use in all.",
    ),
    s("agent.wall_time", &["REGREEN_AGENT_WALL_TIME"], "5m", "Longest time for one investigation."),
    s("agent.parallel_calls", &["REGREEN_AGENT_PARALLEL_CALLS"], "4", "Tool calls running at the same time."),
    s(
        "agent.result_tokens",
        &["REGREEN_AGENT_RESULT_TOKENS"],
        "2000",
        "Tokens of one tool result that the model is shown; the whole is kept as evidence.",
    ),
    s(
        "chat.history_tokens",
        &["REGREEN_CHAT_HISTORY_TOKENS"],
        "6000",
        "Tokens of earlier messages in a request; older ones are summarised once.",
    ),
    s(
        "chat.on_disconnect",
        &["REGREEN_CHAT_ON_DISCONNECT"],
        "finish",
        "When the last reader of an answer leaves: `finish` it, or `stop`.",
    ),
    s(
        "chat.approval_expires",
        &["REGREEN_CHAT_APPROVAL_EXPIRES"],
        "1h",
        "How long a call that changes something waits for a person's approval.",
    ),
    s(
        "chat.link_secret",
        &["REGREEN_CHAT_LINK_SECRET"],
        "",
        "What links that decide an approval without a login are signed with, at least 16 bytes; unset: there are none.",
    ),
    s(
        "chat.four_eyes",
        &["REGREEN_CHAT_FOUR_EYES"],
        "no",
        "`yes`: whoever asked for a call does not approve it; somebody else has to, and a signed link needs a login. Needs `auth.ways`.",
    ),
    s("triage.excerpt_tokens", &["REGREEN_EXCERPT_TOKENS"], "6000", "Tokens of log excerpts in the brief."),
    s(
        "triage.comment_interval",
        &["REGREEN_COMMENT_INTERVAL"],
        "1h",
        "At most one comment on a known issue in this time.",
    ),
    s(
        "triage.max_attempts",
        &["REGREEN_MAX_ATTEMPTS"],
        "3",
        "Times a report may take its worker down before it is given up.",
    ),
    s(
        "privacy.redact_emails",
        &["REGREEN_REDACT_EMAILS"],
        "no",
        "`yes` or `no`: whether e-mail addresses are replaced like secrets.",
    ),
    s(
        "privacy.keep_raw",
        &["REGREEN_KEEP_RAW"],
        "no",
        "`yes` or `no`: whether logs are kept as received too, secrets and all, in the database.",
    ),
    s(
        "privacy.link_hosts",
        &["REGREEN_LINK_HOSTS"],
        "",
        "Hosts that answers, pages and issues may link to besides that of `server.public_url`, as globs separated by commas; other links are shown as text.",
    ),
    s(
        "cluster.server",
        &["REGREEN_CLUSTER_SERVER"],
        "openshift",
        "MCP server that logs, pods and events are fetched from.",
    ),
    s("cluster.log_tool", &["REGREEN_CLUSTER_LOG_TOOL"], "pods_log", "Its tool for a container's log."),
    s("cluster.pod_tool", &["REGREEN_CLUSTER_POD_TOOL"], "pods_get", "Its tool for a pod."),
    s("cluster.events_tool", &["REGREEN_CLUSTER_EVENTS_TOOL"], "events_list", "Its tool for events."),
    s("cluster.log_lines", &["REGREEN_CLUSTER_LOG_LINES"], "50000", "Lines of log to ask for."),
    s("tracker.server", &["REGREEN_TRACKER_SERVER"], "gitea", "MCP server issues are filed through."),
    s(
        "tracker.owner",
        &["REGREEN_TRACKER_OWNER", "GITEA_OWNER"],
        "",
        "Owner of the repository issues go to; required with the tracker's server.",
    ),
    s(
        "tracker.repo",
        &["REGREEN_TRACKER_REPO", "GITEA_REPO"],
        "",
        "Repository issues go to; required with the tracker's server.",
    ),
    s(
        "tracker.kind",
        &["REGREEN_TRACKER_KIND"],
        "",
        "What the tracker is: `gitea` (Forgejo too), `github` or `gitlab`. Unset: found out by the tools of its server.",
    ),
    s(
        "tracker.url",
        &["REGREEN_TRACKER_URL"],
        "",
        "Where people read the tracker, such as `https://github.example.com`: for servers that tell no address of an issue. Unset: what the server says, or the public host of the kind.",
    ),
    s(
        "tracker.create_tool",
        &["REGREEN_TRACKER_CREATE_TOOL"],
        "",
        "Its tool that files an issue. Unset: found out, such as `create_issue` or `issue_write`.",
    ),
    s(
        "tracker.list_tool",
        &["REGREEN_TRACKER_LIST_TOOL"],
        "",
        "Its tool that lists issues; a retry looks there for the issue it filed. Unset: found out, such as `list_issues`.",
    ),
    s("tracker.comment_tool", &["REGREEN_TRACKER_COMMENT_TOOL"], "", "Its tool to comment, else found out."),
    s(
        "tracker.create_arguments",
        &["REGREEN_TRACKER_CREATE_ARGUMENTS"],
        "",
        "What its tool that files an issue is given besides, such as `{ labels = [\"ci\"] }`; as an environment variable in JSON. Owner, repository, title and text cannot be set here.",
    ),
    s(
        "tracker.webhook_secret",
        &["REGREEN_WEBHOOK_SECRET"],
        "",
        "What the tracker signs its webhooks to `/api/webhooks/tracker` with, at least 16 bytes; without it they are refused.",
    ),
    s(
        "openshift.url",
        &["REGREEN_OPENSHIFT_URL", "MCP_OPENSHIFT_URL"],
        "",
        "Short form for an MCP server named `openshift`.",
    ),
    s(
        "openshift.transport",
        &["REGREEN_OPENSHIFT_TRANSPORT", "MCP_OPENSHIFT_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: by the path of the URL, `/sse` or `/mcp`. Where it is not there, the other one is tried.",
    ),
    s(
        "gitea.url",
        &["REGREEN_GITEA_URL", "MCP_GITEA_URL"],
        "",
        "Short form for an MCP server named `gitea`.",
    ),
    s(
        "gitea.transport",
        &["REGREEN_GITEA_TRANSPORT", "MCP_GITEA_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: by the path of the URL, `/sse` or `/mcp`. Where it is not there, the other one is tried.",
    ),
    s(
        "policy.file",
        &["REGREEN_POLICY_FILE"],
        "",
        "TOML file with the rules of the tool policy. Unset: its defaults alone.",
    ),
    s(
        "added_servers.commands",
        &["REGREEN_ADDED_COMMANDS"],
        "",
        "Programs that MCP servers added over the API may run, separated by commas; none when unset.",
    ),
    s(
        "added_servers.urls",
        &["REGREEN_ADDED_URLS"],
        "",
        "URLs that they may have, as globs separated by commas, such as `https://*.example.com/**`; none when unset.",
    ),
    s(
        "added_servers.secrets",
        &["REGREEN_ADDED_SECRETS"],
        "env:REGREEN_MCP_*",
        "Secrets they may refer to, as globs separated by commas over `env:NAME` and `file:/path`.",
    ),
    s(
        "queue.concurrency",
        &["REGREEN_QUEUE_CONCURRENCY"],
        "8",
        "Reports one process works on at the same time.",
    ),
    s("queue.heartbeat", &["REGREEN_QUEUE_HEARTBEAT"], "5s", "How often a worker says that it lives."),
    s(
        "queue.lease",
        &["REGREEN_QUEUE_LEASE"],
        "30s",
        "Silence after which a worker's reports are taken over.",
    ),
    s(
        "knowledge.corpus",
        &["REGREEN_CORPUS"],
        "",
        "Folder of documents read at each start, besides the built-in runbooks.",
    ),
    s(
        "knowledge.embedder",
        &["REGREEN_EMBEDDER"],
        "lexical",
        "`lexical` (built in), `endpoint` (OpenAI-compatible) or `local` (a model folder, run in this process).",
    ),
    s(
        "knowledge.embedding_url",
        &["REGREEN_EMBEDDING_URL"],
        "",
        "Endpoint for embeddings. Unset: `model.url`.",
    ),
    s(
        "knowledge.embedding_api_key",
        &["REGREEN_EMBEDDING_API_KEY"],
        "",
        "Key for it. Unset: `model.api_key`, if the URL is the model's.",
    ),
    s(
        "knowledge.embedding_model",
        &["REGREEN_EMBEDDING_MODEL"],
        "",
        "Model to ask for; required with `endpoint`.",
    ),
    s("knowledge.embedding_batch", &["REGREEN_EMBEDDING_BATCH"], "32", "Texts of one request to it."),
    s(
        "knowledge.embedding_query_prefix",
        &["REGREEN_EMBEDDING_QUERY_PREFIX"],
        "",
        "Put before queries, where the model wants it, such as `query:`.",
    ),
    s(
        "knowledge.embedding_passage_prefix",
        &["REGREEN_EMBEDDING_PASSAGE_PREFIX"],
        "",
        "Put before passages, where the model wants it, such as `passage:`.",
    ),
    s(
        "knowledge.embedding_folder",
        &["REGREEN_EMBEDDING_FOLDER"],
        "",
        "Sentence-transformers folder of the BERT family; required with `local`.",
    ),
    s("knowledge.chunk_tokens", &["REGREEN_CHUNK_TOKENS"], "256", "Longest piece of a document, in tokens."),
    s(
        "knowledge.brief_tokens",
        &["REGREEN_KNOWLEDGE_TOKENS"],
        "1800",
        "Tokens of runbooks and past incidents in a brief.",
    ),
    s(
        "prompts.folder",
        &["REGREEN_PROMPTS"],
        "",
        "Folder with templates that take the place of built-in ones: files of `prompts/` under the same names.",
    ),
    s(
        "pages.folder",
        &["REGREEN_PAGES"],
        "",
        "Folder with templates of pages that take the place of built-in ones: files of `src/web/templates/` under the same names.",
    ),
    s(
        "audit.retention",
        &["REGREEN_AUDIT_RETENTION"],
        "",
        "How long the audit record is kept, such as `400d`; months that ended longer ago are dropped. Unset: for ever.",
    ),
];

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

/// The table of docs/settings.md, in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| key | environment | default | meaning |\n| --- | --- | --- | --- |\n");
    for setting in SETTINGS.iter() {
        let env = setting.env.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let default =
            if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
        table.push_str(&format!(
            "| `{}` | {env} | {default} | {} |\n",
            setting.key,
            setting.doc.replace('|', "\\|")
        ));
    }
    table
}
