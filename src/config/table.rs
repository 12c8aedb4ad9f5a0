//! Every setting once: its key in the file, its environment variables, its default and what it means.
//! The table of docs/settings.md is printed from here.

use super::setting::{Setting, setting};
use super::{auth, budget, limits, model, retention, telemetry};
use std::sync::LazyLock;

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
    setting("server.bind", &["REGREEN_BIND"], "127.0.0.1", "Address to listen on."),
    setting("server.port", &["REGREEN_PORT", "PORT"], "8000", "Port to listen on; 0 picks a free one."),
    setting(
        "server.metrics_bind",
        &["REGREEN_METRICS_BIND"],
        "",
        "Address and port of its own for `/metrics` and the probes, such as `0.0.0.0:9090`: open to whoever reaches it, and there for `regreen work` too. Unset: none.",
    ),
    setting(
        "server.public_url",
        &["REGREEN_PUBLIC_URL"],
        "",
        "Where people reach this server; used in links of issues and of calls that wait for approval.",
    ),
    setting(
        "server.body_limit",
        &["REGREEN_BODY_LIMIT"],
        "33554432",
        "Largest request body, in bytes; larger ones get 413. Routes that take no logs take less: the description of the API says how much.",
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
        "How long it goes on after SIGTERM, no longer ready, before it stops: a load balancer learns of it late. A second signal ends the wait.",
    ),
    setting(
        "server.shutdown_grace",
        &["REGREEN_SHUTDOWN_GRACE"],
        "30s",
        "How long a stop waits for what runs before it hands it back.",
    ),
    setting(
        "server.max_connections",
        &["REGREEN_MAX_CONNECTIONS"],
        "2048",
        "Connections at the same time, at most half as many as the process may have open files; more wait.",
    ),
    setting(
        "server.header_timeout",
        &["REGREEN_HEADER_TIMEOUT"],
        "75s",
        "How long a connection may rest, or take to send the header of a request.",
    ),
    setting(
        "server.body_timeout",
        &["REGREEN_BODY_TIMEOUT"],
        "30s",
        "How long the body of a request may take, and a second more for each 64 KiB; slower ones get 408.",
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
        "How long a start waits for a database that does not answer yet.",
    ),
    setting(
        "database.data_dir",
        &["REGREEN_DATA_DIR"],
        "",
        "Folder of the private PostgreSQL. Unset: `/var/lib/regreen` as root, else `~/.local/share/regreen`.",
    ),
    setting(
        "database.programs",
        &["REGREEN_POSTGRES_PROGRAMS"],
        "",
        "Folder with `initdb` and `postgres` for the private PostgreSQL. Unset: looked up.",
    ),
    setting(
        "database.migrations",
        &["REGREEN_MIGRATIONS"],
        "",
        "Folder with migrations that take the place of built-in ones: files of `migrations/` under the same names. Stays: what was applied is compared at each start.",
    ),
    setting(
        "agent.turns",
        &["REGREEN_AGENT_TURNS"],
        "12",
        "Completions per investigation; the last one may only conclude.",
    ),
    setting(
        "agent.context_tokens",
        &["REGREEN_AGENT_CONTEXT_TOKENS"],
        "32000",
        "Largest request to the model, in tokens; old tool results are shortened first.",
    ),
    setting(
        "agent.total_tokens",
        &["REGREEN_AGENT_TOTAL_TOKENS"],
        "400000",
        "Tokens one investigation may use in all.",
    ),
    setting("agent.wall_time", &["REGREEN_AGENT_WALL_TIME"], "5m", "Longest time for one investigation."),
    setting(
        "agent.parallel_calls",
        &["REGREEN_AGENT_PARALLEL_CALLS"],
        "4",
        "Tool calls running at the same time.",
    ),
    setting(
        "agent.result_tokens",
        &["REGREEN_AGENT_RESULT_TOKENS"],
        "2000",
        "Tokens of one tool result that the model is shown; the whole is kept as evidence.",
    ),
    setting(
        "chat.history_tokens",
        &["REGREEN_CHAT_HISTORY_TOKENS"],
        "6000",
        "Tokens of earlier messages in a request; older ones are summarised once.",
    ),
    setting(
        "chat.on_disconnect",
        &["REGREEN_CHAT_ON_DISCONNECT"],
        "finish",
        "When the last reader of an answer leaves: `finish` it, or `stop`.",
    ),
    setting(
        "chat.approval_expires",
        &["REGREEN_CHAT_APPROVAL_EXPIRES"],
        "1h",
        "How long a call that changes something waits for a person's approval.",
    ),
    setting(
        "chat.link_secret",
        &["REGREEN_CHAT_LINK_SECRET"],
        "",
        "What links that decide an approval without a login are signed with, at least 16 bytes; unset: there are none.",
    ),
    setting(
        "chat.four_eyes",
        &["REGREEN_CHAT_FOUR_EYES"],
        "no",
        "`yes`: whoever asked for a call does not approve it; somebody else has to, and a signed link needs a login. Needs `auth.ways`.",
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
        "At most one comment on a known issue in this time.",
    ),
    setting(
        "triage.max_attempts",
        &["REGREEN_MAX_ATTEMPTS"],
        "3",
        "Times a report may take its worker down before it is given up.",
    ),
    setting(
        "privacy.redact_emails",
        &["REGREEN_REDACT_EMAILS"],
        "no",
        "`yes` or `no`: whether e-mail addresses are replaced like secrets.",
    ),
    setting(
        "privacy.keep_raw",
        &["REGREEN_KEEP_RAW"],
        "no",
        "`yes` or `no`: whether logs are kept as received too, secrets and all, in the database.",
    ),
    setting(
        "privacy.link_hosts",
        &["REGREEN_LINK_HOSTS"],
        "",
        "Hosts that answers, pages and issues may link to besides that of `server.public_url`, as globs separated by commas; other links are shown as text.",
    ),
    setting(
        "cluster.server",
        &["REGREEN_CLUSTER_SERVER"],
        "openshift",
        "MCP server that logs, pods and events are fetched from.",
    ),
    setting("cluster.log_tool", &["REGREEN_CLUSTER_LOG_TOOL"], "pods_log", "Its tool for a container's log."),
    setting("cluster.pod_tool", &["REGREEN_CLUSTER_POD_TOOL"], "pods_get", "Its tool for a pod."),
    setting("cluster.events_tool", &["REGREEN_CLUSTER_EVENTS_TOOL"], "events_list", "Its tool for events."),
    setting("cluster.log_lines", &["REGREEN_CLUSTER_LOG_LINES"], "50000", "Lines of log to ask for."),
    setting("tracker.server", &["REGREEN_TRACKER_SERVER"], "gitea", "MCP server issues are filed through."),
    setting(
        "tracker.owner",
        &["REGREEN_TRACKER_OWNER", "GITEA_OWNER"],
        "",
        "Owner of the repository issues go to; required with the tracker's server.",
    ),
    setting(
        "tracker.repo",
        &["REGREEN_TRACKER_REPO", "GITEA_REPO"],
        "",
        "Repository issues go to; required with the tracker's server.",
    ),
    setting(
        "tracker.kind",
        &["REGREEN_TRACKER_KIND"],
        "",
        "What the tracker is: `gitea` (Forgejo too), `github` or `gitlab`. Unset: found out by the tools of its server.",
    ),
    setting(
        "tracker.url",
        &["REGREEN_TRACKER_URL"],
        "",
        "Where people read the tracker, such as `https://github.example.com`: for servers that tell no address of an issue. Unset: what the server says, or the public host of the kind.",
    ),
    setting(
        "tracker.create_tool",
        &["REGREEN_TRACKER_CREATE_TOOL"],
        "",
        "Its tool that files an issue. Unset: found out, such as `create_issue` or `issue_write`.",
    ),
    setting(
        "tracker.list_tool",
        &["REGREEN_TRACKER_LIST_TOOL"],
        "",
        "Its tool that lists issues; a retry looks there for the issue it filed. Unset: found out, such as `list_issues`.",
    ),
    setting(
        "tracker.comment_tool",
        &["REGREEN_TRACKER_COMMENT_TOOL"],
        "",
        "Its tool to comment, else found out.",
    ),
    setting(
        "tracker.create_arguments",
        &["REGREEN_TRACKER_CREATE_ARGUMENTS"],
        "",
        "What its tool that files an issue is given besides, such as `{ labels = [\"ci\"] }`; as an environment variable in JSON. Owner, repository, title and text cannot be set here.",
    ),
    setting(
        "tracker.webhook_secret",
        &["REGREEN_WEBHOOK_SECRET"],
        "",
        "What the tracker signs its webhooks to `/api/webhooks/tracker` with, at least 16 bytes; without it they are refused.",
    ),
    setting(
        "openshift.url",
        &["REGREEN_OPENSHIFT_URL", "MCP_OPENSHIFT_URL"],
        "",
        "Short form for an MCP server named `openshift`.",
    ),
    setting(
        "openshift.transport",
        &["REGREEN_OPENSHIFT_TRANSPORT", "MCP_OPENSHIFT_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: by the path of the URL, `/sse` or `/mcp`. Where it is not there, the other one is tried.",
    ),
    setting(
        "gitea.url",
        &["REGREEN_GITEA_URL", "MCP_GITEA_URL"],
        "",
        "Short form for an MCP server named `gitea`.",
    ),
    setting(
        "gitea.transport",
        &["REGREEN_GITEA_TRANSPORT", "MCP_GITEA_TRANSPORT"],
        "",
        "Its transport: `sse` or `streamable-http`. Unset: by the path of the URL, `/sse` or `/mcp`. Where it is not there, the other one is tried.",
    ),
    setting(
        "policy.file",
        &["REGREEN_POLICY_FILE"],
        "",
        "TOML file with the rules of the tool policy. Unset: its defaults alone.",
    ),
    setting(
        "added_servers.commands",
        &["REGREEN_ADDED_COMMANDS"],
        "",
        "Programs that MCP servers added over the API may run, separated by commas; none when unset.",
    ),
    setting(
        "added_servers.urls",
        &["REGREEN_ADDED_URLS"],
        "",
        "URLs that they may have, as globs separated by commas, such as `https://*.example.com/**`; none when unset.",
    ),
    setting(
        "added_servers.secrets",
        &["REGREEN_ADDED_SECRETS"],
        "env:REGREEN_MCP_*",
        "Secrets they may refer to, as globs separated by commas over `env:NAME` and `file:/path`.",
    ),
    setting(
        "queue.concurrency",
        &["REGREEN_QUEUE_CONCURRENCY"],
        "8",
        "Reports one process works on at the same time.",
    ),
    setting("queue.heartbeat", &["REGREEN_QUEUE_HEARTBEAT"], "5s", "How often a worker says that it lives."),
    setting(
        "queue.lease",
        &["REGREEN_QUEUE_LEASE"],
        "30s",
        "Silence after which a worker's reports are taken over.",
    ),
    setting(
        "knowledge.corpus",
        &["REGREEN_CORPUS"],
        "",
        "Folder of documents read at each start, besides the built-in runbooks.",
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
        "Key for it. Unset: `model.api_key`, if the URL is the model's.",
    ),
    setting(
        "knowledge.embedding_model",
        &["REGREEN_EMBEDDING_MODEL"],
        "",
        "Model to ask for; required with `endpoint`.",
    ),
    setting("knowledge.embedding_batch", &["REGREEN_EMBEDDING_BATCH"], "32", "Texts of one request to it."),
    setting(
        "knowledge.embedding_query_prefix",
        &["REGREEN_EMBEDDING_QUERY_PREFIX"],
        "",
        "Put before queries, where the model wants it, such as `query:`.",
    ),
    setting(
        "knowledge.embedding_passage_prefix",
        &["REGREEN_EMBEDDING_PASSAGE_PREFIX"],
        "",
        "Put before passages, where the model wants it, such as `passage:`.",
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
        "Longest piece of a document, in tokens.",
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
        "Folder with templates that take the place of built-in ones: files of `prompts/` under the same names.",
    ),
    setting(
        "pages.folder",
        &["REGREEN_PAGES"],
        "",
        "Folder with templates of pages that take the place of built-in ones: files of `src/web/templates/` under the same names.",
    ),
    setting(
        "audit.retention",
        &["REGREEN_AUDIT_RETENTION"],
        "",
        "How long the audit record is kept, such as `400d`; months that ended longer ago are dropped. Unset: for ever.",
    ),
];

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
