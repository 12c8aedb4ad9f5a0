//! Definition of every setting: file key, environment variables, default and description. The table in docs/settings.md
//! is generated from it.

use super::setting::{Setting, setting};
use super::{auth, budget, limits, model, retention, telemetry};
use std::sync::LazyLock;

/// All settings, in the order of the documentation.
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
    setting("server.bind", &["REGREEN_BIND"], "127.0.0.1", "Address to listen on."),
    setting("server.port", &["REGREEN_PORT", "PORT"], "8000", "Port to listen on; 0 picks a free one."),
    setting(
        "server.metrics_bind",
        &["REGREEN_METRICS_BIND"],
        "",
        "Separate address and port for `/metrics` and the probes, such as `0.0.0.0:9090`. Needs no authentication; `regreen work` serves it too. Unset: none.",
    ),
    setting(
        "server.public_url",
        &["REGREEN_PUBLIC_URL"],
        "",
        "Base URL under which people reach this server; used for links in issues and in requests for approval.",
    ),
    setting(
        "server.body_limit",
        &["REGREEN_BODY_LIMIT"],
        "33554432",
        "Maximum size of a request body, in bytes; larger requests get 413. Routes that take no logs have lower limits: see the description of the API.",
    ),
    setting(
        "server.wait",
        &["REGREEN_WAIT"],
        "5m",
        "How long `POST /report-failure` waits for the outcome before it answers 202.",
    ),
    setting(
        "server.stop_delay",
        &["REGREEN_STOP_DELAY"],
        "0s",
        "Drain delay: how long the server keeps serving after SIGTERM while readiness fails, so that load balancers notice. A second signal ends it.",
    ),
    setting(
        "server.shutdown_grace",
        &["REGREEN_SHUTDOWN_GRACE"],
        "30s",
        "How long a stop waits for work in progress before the work is handed back.",
    ),
    setting(
        "server.max_connections",
        &["REGREEN_MAX_CONNECTIONS"],
        "2048",
        "Maximum number of concurrent connections, at most half of the limit on open files; further connections wait.",
    ),
    setting(
        "server.header_timeout",
        &["REGREEN_HEADER_TIMEOUT"],
        "75s",
        "How long a connection may be idle, or take to send the headers of a request.",
    ),
    setting(
        "server.body_timeout",
        &["REGREEN_BODY_TIMEOUT"],
        "30s",
        "How long a request body may take, plus one second for each 64 KiB; slower requests get 408.",
    ),
    setting(
        "database.url",
        &["REGREEN_DATABASE_URL", "DATABASE_URL"],
        "",
        "PostgreSQL with pgvector. Unset: a private one in the data folder.",
    ),
    setting(
        "database.max_connections",
        &["REGREEN_DATABASE_MAX_CONNECTIONS"],
        "16",
        "Size of the connection pool.",
    ),
    setting(
        "database.wait",
        &["REGREEN_DATABASE_WAIT"],
        "1m",
        "How long a start waits for a database that does not answer.",
    ),
    setting(
        "database.data_dir",
        &["REGREEN_DATA_DIR"],
        "",
        "Data folder of the private PostgreSQL. Unset: `/var/lib/regreen` as root, else `~/.local/share/regreen`.",
    ),
    setting(
        "database.programs",
        &["REGREEN_POSTGRES_PROGRAMS"],
        "",
        "Folder with `initdb` and `postgres` for the private PostgreSQL. Unset: searched for.",
    ),
    setting(
        "database.migrations",
        &["REGREEN_MIGRATIONS"],
        "",
        "Folder with migrations that replace built-in ones: files with the same names as in `migrations/`. Keep it mounted: applied migrations are compared at each start.",
    ),
    setting(
        "agent.turns",
        &["REGREEN_AGENT_TURNS"],
        "12",
        "Requests to the model per investigation; the last one may only conclude.",
    ),
    setting(
        "agent.context_tokens",
        &["REGREEN_AGENT_CONTEXT_TOKENS"],
        "32000",
        "Maximum size of a request to the model, in tokens; old tool results are shortened first.",
    ),
    setting(
        "agent.total_tokens",
        &["REGREEN_AGENT_TOTAL_TOKENS"],
        "400000",
        "Total tokens that one investigation may use.",
    ),
    setting("agent.wall_time", &["REGREEN_AGENT_WALL_TIME"], "5m", "Time limit of one investigation."),
    setting(
        "agent.parallel_calls",
        &["REGREEN_AGENT_PARALLEL_CALLS"],
        "4",
        "Maximum number of concurrent tool calls.",
    ),
    setting(
        "agent.result_tokens",
        &["REGREEN_AGENT_RESULT_TOKENS"],
        "2000",
        "Tokens of a tool result that are shown to the model; the full result is kept as evidence.",
    ),
    setting(
        "chat.history_tokens",
        &["REGREEN_CHAT_HISTORY_TOKENS"],
        "6000",
        "Tokens of earlier messages in a request; older messages are summarised.",
    ),
    setting(
        "chat.on_disconnect",
        &["REGREEN_CHAT_ON_DISCONNECT"],
        "finish",
        "What happens to an answer when its last reader disconnects: `finish` or `stop`.",
    ),
    setting(
        "chat.approval_expires",
        &["REGREEN_CHAT_APPROVAL_EXPIRES"],
        "1h",
        "How long a call waits for approval before it expires.",
    ),
    setting(
        "chat.link_secret",
        &["REGREEN_CHAT_LINK_SECRET"],
        "",
        "Key that signs approval links which work without a login, at least 16 bytes. Unset: no such links.",
    ),
    setting(
        "chat.four_eyes",
        &["REGREEN_CHAT_FOUR_EYES"],
        "no",
        "`yes`: whoever asked for a call cannot approve it, and a signed link needs a login. Requires `auth.methods`.",
    ),
    setting(
        "triage.excerpt_tokens",
        &["REGREEN_EXCERPT_TOKENS"],
        "6000",
        "Tokens of log excerpts in the brief.",
    ),
    setting(
        "triage.comment_interval",
        &["REGREEN_COMMENT_INTERVAL"],
        "1h",
        "Minimum time between two comments on a known issue.",
    ),
    setting(
        "triage.max_attempts",
        &["REGREEN_MAX_ATTEMPTS"],
        "3",
        "How often a report may crash its worker before it fails.",
    ),
    setting(
        "privacy.redact_emails",
        &["REGREEN_REDACT_EMAILS"],
        "no",
        "`yes` or `no`: redact e-mail addresses like secrets.",
    ),
    setting(
        "privacy.keep_raw",
        &["REGREEN_KEEP_RAW"],
        "no",
        "`yes` or `no`: also store logs as received, including secrets.",
    ),
    setting(
        "privacy.link_hosts",
        &["REGREEN_LINK_HOSTS"],
        "",
        "Hosts that answers, pages and issues may link to besides the host of `server.public_url`, as globs separated by commas; other links are shown as text.",
    ),
    setting(
        "cluster.server",
        &["REGREEN_CLUSTER_SERVER"],
        "openshift",
        "MCP server for logs, pods and events.",
    ),
    setting(
        "cluster.log_tool",
        &["REGREEN_CLUSTER_LOG_TOOL"],
        "pods_log",
        "Tool that returns a container's log.",
    ),
    setting("cluster.pod_tool", &["REGREEN_CLUSTER_POD_TOOL"], "pods_get", "Tool that returns a pod."),
    setting(
        "cluster.events_tool",
        &["REGREEN_CLUSTER_EVENTS_TOOL"],
        "events_list",
        "Tool that lists events.",
    ),
    setting("cluster.log_lines", &["REGREEN_CLUSTER_LOG_LINES"], "50000", "Number of log lines to request."),
    setting("tracker.server", &["REGREEN_TRACKER_SERVER"], "gitea", "MCP server that files issues."),
    setting(
        "tracker.owner",
        &["REGREEN_TRACKER_OWNER", "GITEA_OWNER"],
        "",
        "Owner of the repository for issues; required if the tracker's server is configured.",
    ),
    setting(
        "tracker.repo",
        &["REGREEN_TRACKER_REPO", "GITEA_REPO"],
        "",
        "Repository for issues; required if the tracker's server is configured.",
    ),
    setting(
        "tracker.kind",
        &["REGREEN_TRACKER_KIND"],
        "",
        "Type of the tracker: `gitea` (also Forgejo), `github` or `gitlab`. Unset: detected from the tools of its server.",
    ),
    setting(
        "tracker.url",
        &["REGREEN_TRACKER_URL"],
        "",
        "Base URL of the tracker's web pages, such as `https://github.example.com`; for servers that return no URL of an issue. Unset: what the server returns, or the public host of the type.",
    ),
    setting(
        "tracker.create_tool",
        &["REGREEN_TRACKER_CREATE_TOOL"],
        "",
        "Tool that creates an issue. Unset: detected, such as `create_issue` or `issue_write`.",
    ),
    setting(
        "tracker.list_tool",
        &["REGREEN_TRACKER_LIST_TOOL"],
        "",
        "Tool that lists issues; a retry uses it to find an issue that was already filed. Unset: detected, such as `list_issues`.",
    ),
    setting(
        "tracker.comment_tool",
        &["REGREEN_TRACKER_COMMENT_TOOL"],
        "",
        "Tool that adds a comment. Unset: detected.",
    ),
    setting(
        "tracker.create_arguments",
        &["REGREEN_TRACKER_CREATE_ARGUMENTS"],
        "",
        "Additional arguments for the tool that creates an issue, such as `{ labels = [\"ci\"] }`; as JSON in an environment variable. Owner, repository, title and text cannot be set here.",
    ),
    setting(
        "tracker.webhook_secret",
        &["REGREEN_WEBHOOK_SECRET"],
        "",
        "Secret that signs the tracker's webhooks to `/api/webhooks/tracker`, at least 16 bytes. Unset: they are rejected.",
    ),
    setting(
        "openshift.url",
        &["REGREEN_OPENSHIFT_URL", "MCP_OPENSHIFT_URL"],
        "",
        "Shorthand for an MCP server named `openshift`.",
    ),
    setting(
        "openshift.transport",
        &["REGREEN_OPENSHIFT_TRANSPORT", "MCP_OPENSHIFT_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: chosen by the path of the URL, `/sse` or `/mcp`; if that fails, the other one is tried.",
    ),
    setting(
        "gitea.url",
        &["REGREEN_GITEA_URL", "MCP_GITEA_URL"],
        "",
        "Shorthand for an MCP server named `gitea`.",
    ),
    setting(
        "gitea.transport",
        &["REGREEN_GITEA_TRANSPORT", "MCP_GITEA_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: chosen by the path of the URL, `/sse` or `/mcp`; if that fails, the other one is tried.",
    ),
    setting(
        "policy.file",
        &["REGREEN_POLICY_FILE"],
        "",
        "TOML file with the rules of the tool policy. Unset: the defaults apply.",
    ),
    setting(
        "added_servers.commands",
        &["REGREEN_ADDED_COMMANDS"],
        "",
        "Programs that MCP servers added through the API may run, separated by commas. Unset: none.",
    ),
    setting(
        "added_servers.urls",
        &["REGREEN_ADDED_URLS"],
        "",
        "URLs that they may have, as globs separated by commas, such as `https://*.example.com/**`. Unset: none.",
    ),
    setting(
        "added_servers.secrets",
        &["REGREEN_ADDED_SECRETS"],
        "env:REGREEN_MCP_*",
        "Secrets that they may reference, as globs separated by commas over `env:NAME` and `file:/path`.",
    ),
    setting(
        "queue.concurrency",
        &["REGREEN_QUEUE_CONCURRENCY"],
        "8",
        "Reports one process works on at the same time.",
    ),
    setting("queue.heartbeat", &["REGREEN_QUEUE_HEARTBEAT"], "5s", "Interval of a worker's heartbeat."),
    setting(
        "queue.lease",
        &["REGREEN_QUEUE_LEASE"],
        "30s",
        "Time without a heartbeat after which another worker takes over a worker's reports.",
    ),
    setting(
        "knowledge.corpus",
        &["REGREEN_CORPUS"],
        "",
        "Folder with documents that are read at each start, in addition to the built-in runbooks.",
    ),
    setting(
        "knowledge.embedder",
        &["REGREEN_EMBEDDER"],
        "lexical",
        "`lexical` (built in), `endpoint` (OpenAI-compatible) or `local` (a model folder, run in this process).",
    ),
    setting(
        "knowledge.embedding_url",
        &["REGREEN_EMBEDDING_URL"],
        "",
        "Endpoint for embeddings. Unset: `model.url`.",
    ),
    setting(
        "knowledge.embedding_api_key",
        &["REGREEN_EMBEDDING_API_KEY"],
        "",
        "API key for it. Unset: `model.api_key`, if the URL is the model's.",
    ),
    setting(
        "knowledge.embedding_model",
        &["REGREEN_EMBEDDING_MODEL"],
        "",
        "Model to request; required with `endpoint`.",
    ),
    setting("knowledge.embedding_batch", &["REGREEN_EMBEDDING_BATCH"], "32", "Texts per request."),
    setting(
        "knowledge.embedding_query_prefix",
        &["REGREEN_EMBEDDING_QUERY_PREFIX"],
        "",
        "Prefix for queries, if the model needs one, such as `query:`.",
    ),
    setting(
        "knowledge.embedding_passage_prefix",
        &["REGREEN_EMBEDDING_PASSAGE_PREFIX"],
        "",
        "Prefix for passages, if the model needs one, such as `passage:`.",
    ),
    setting(
        "knowledge.embedding_folder",
        &["REGREEN_EMBEDDING_FOLDER"],
        "",
        "Sentence-transformers folder of the BERT family; required with `local`.",
    ),
    setting(
        "knowledge.chunk_tokens",
        &["REGREEN_CHUNK_TOKENS"],
        "256",
        "Maximum size of a piece of a document, in tokens.",
    ),
    setting(
        "knowledge.brief_tokens",
        &["REGREEN_KNOWLEDGE_TOKENS"],
        "1800",
        "Tokens of runbooks and past incidents in a brief.",
    ),
    setting(
        "prompts.folder",
        &["REGREEN_PROMPTS"],
        "",
        "Folder with templates that replace built-in ones: files with the same names as in `prompts/`.",
    ),
    setting(
        "pages.folder",
        &["REGREEN_PAGES"],
        "",
        "Folder with page templates that replace built-in ones: files with the same names as in `src/web/templates/`.",
    ),
    setting(
        "audit.retention",
        &["REGREEN_AUDIT_RETENTION"],
        "",
        "How long the audit record is kept, such as `400d`; months that ended before that are dropped. Unset: forever.",
    ),
];

/// Formats the table in docs/settings.md as Markdown.
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
