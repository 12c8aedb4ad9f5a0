//! Settings: a TOML file overridden by environment variables, validated as a whole before anything starts.

mod added_servers;
mod auth;
mod budget;
mod digest;
mod knowledge;
mod legacy_env;
mod limits;
mod mcp;
mod mcp_servers;
mod model;
mod notify;
mod policy;
mod reader;
mod retention;
mod server;
mod setting;
mod table;
mod telemetry;
mod tracker;
mod url_guard;

pub use added_servers::Added;
pub use auth::{Auth, Kubernetes, Oidc, Roles, own_namespace};
pub use budget::{Allowance, Budgets, Prices};
pub use knowledge::{EmbedderChoice, EmbeddingEndpoint, Knowledge};
pub use limits::{Limits, Rate};
pub use mcp::{McpServer, Transport, globs};
pub use model::ModelEndpoint;
pub use notify::{Channel, Forge, ForgeKind, Target};
pub use reader::ConfigError;
pub use retention::{LEAST_KEPT, Retention};
pub use server::Server;
pub use setting::{Effective, Env, Setting};
pub use table::{SETTINGS, markdown_table};
pub use telemetry::{Log, Telemetry};
pub use tracker::{Tracker, TrackerKind};
pub use url_guard::is_off_limits;

use crate::domain::RunLimits;
use crate::domain::policy::Policy;
use crate::evidence::untrusted::link_policy::LinkPolicy;
use anyhow::Context as _;
use reader::SettingsReader;
use secrecy::{ExposeSecret as _, SecretString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Minimum length of a signing secret, in bytes.
const MIN_SECRET: usize = 16;

/// Minimum heartbeat interval. A shorter interval would cause only heartbeat traffic.
const SHORTEST_BEAT: Duration = Duration::from_millis(100);

/// The whole validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// HTTP server.
    pub server: Server,
    /// Authentication of callers.
    pub auth: Auth,
    /// PostgreSQL.
    pub database: Database,
    /// The model endpoint; `None` means the built-in analyst.
    pub model: Option<ModelEndpoint>,
    /// Limits of one investigation.
    pub agent: RunLimits,
    /// Rules for MCP servers added over the API.
    pub added: Added,
    /// Token and cost budgets.
    pub budget: Budgets,
    /// Limits on incoming requests.
    pub limits: Limits,
    /// Chat.
    pub chat: Chat,
    /// Triage.
    pub triage: Triage,
    /// Redaction and retention of raw logs.
    pub privacy: Privacy,
    /// MCP server and tools that fetch evidence.
    pub cluster: Cluster,
    /// Issue tracker; `None` files no issues.
    pub tracker: Option<Tracker>,
    /// All MCP servers.
    pub mcp: Vec<McpServer>,
    /// Rules for which callers may call which tools.
    pub policy: Arc<Policy>,
    /// Notification targets.
    pub notify: Vec<Target>,
    /// Audit log.
    pub audit: Audit,
    /// Retention of finished data.
    pub retention: Retention,
    /// Workers.
    pub queue: Queue,
    /// Runbooks and their search.
    pub knowledge: Knowledge,
    /// Folder of prompt templates that override built-in ones.
    pub prompts: Option<PathBuf>,
    /// Folder of page templates that override built-in ones.
    pub pages: Option<PathBuf>,
    /// Logging.
    pub log: Log,
    /// Export of logs and traces in addition to local logging.
    pub telemetry: Telemetry,
    /// Warnings about valid settings, one sentence each.
    pub warnings: Vec<String>,
    /// Effective value of every setting, for display.
    pub effective: Vec<Effective>,
    /// Hash of the effective settings, the tables and the files that they name.
    pub digest: String,
}

/// Database settings.
#[derive(Debug, Clone)]
pub struct Database {
    /// Connection URL; `None` selects the private server.
    pub url: Option<SecretString>,
    /// Pool size.
    pub max_connections: u32,
    /// Longest time that startup waits for the database.
    pub wait: Duration,
    /// Data folder of the private server.
    pub data_dir: PathBuf,
    /// Folder of the PostgreSQL programs for the private server.
    pub programs: Option<PathBuf>,
    /// Folder of migrations that override built-in ones.
    pub migrations: Option<PathBuf>,
}

/// Chat settings.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Maximum tokens of earlier messages in a prompt.
    pub history_tokens: usize,
    /// Stops an answer when no client reads it any more.
    pub stop_on_disconnect: bool,
    /// Time after which a call that waits for approval expires.
    pub approval_expires: Duration,
    /// Secret that signs approval links; without it no links are made.
    pub link_secret: Option<SecretString>,
    /// Prevents requesters from approving their own calls.
    pub four_eyes: bool,
}

/// Triage settings.
#[derive(Debug, Clone)]
pub struct Triage {
    /// Maximum tokens of log excerpts in the brief.
    pub excerpt_tokens: usize,
    /// Minimum time between two comments on an issue.
    pub comment_interval: Duration,
    /// Number of worker crashes after which a report fails.
    pub max_attempts: i32,
}

/// Redaction and retention of raw logs.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// Redacts e-mail addresses like secrets.
    pub redact_emails: bool,
    /// Also stores logs as received.
    pub keep_raw: bool,
    /// Allowed link targets in texts of models and logs.
    pub links: LinkPolicy,
}

/// MCP server and tools that fetch evidence.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Name of the MCP server.
    pub server: String,
    /// Name of the log tool.
    pub log_tool: String,
    /// Name of the pod tool.
    pub pod_tool: String,
    /// Name of the events tool.
    pub events_tool: String,
    /// Number of log lines to request.
    pub log_lines: u32,
}

/// Audit log settings.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// Drops months that ended longer ago than this; `None` keeps all.
    pub retention: Option<Duration>,
}

/// Worker settings.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Number of reports processed concurrently.
    pub concurrency: usize,
    /// Heartbeat interval.
    pub heartbeat: Duration,
    /// Time without a heartbeat after which a worker counts as dead.
    pub lease: Duration,
}

/// All errors of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {} {plural}:", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads a variable of the process environment. `container` is also set when a container engine has left its marker
/// file or Kubernetes has set its variables.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn process_env(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if name != "container" || value.is_some() {
        return value;
    }
    let has_mark = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    (has_mark || std::env::var("KUBERNETES_SERVICE_HOST").is_ok()).then(|| "oci".to_owned())
}

impl Config {
    /// Reads the optional file and applies the environment over it.
    ///
    /// # Errors
    /// Fails when the file cannot be read or is not valid TOML, or with all [`ConfigErrors`].
    pub fn load(file: Option<&Path>, env: Env<'_>) -> anyhow::Result<Self> {
        let table: toml::Table = match file {
            None => toml::Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration file {}", path.display()))?
                .parse()
                .with_context(|| format!("{} is not valid TOML", path.display()))?,
        };
        Ok(Self::from_layers(&table, env)?)
    }

    /// Applies the environment over the file and validates the result.
    ///
    /// # Errors
    /// Returns all errors at once.
    pub fn from_layers(file: &toml::Table, env: Env<'_>) -> Result<Self, ConfigErrors> {
        let mut r = SettingsReader::new(&SETTINGS, env, file);
        let mcp = mcp_servers::read(&mut r, file);
        let server = server::read(&mut r);
        let model = model::model(&mut r);
        let cluster = cluster(&mut r);
        let tracker = tracker::read(&mut r, &mcp);
        let config = Self {
            auth: Auth::read(&mut r, server.bind),
            server,
            database: database(&mut r, env),
            budget: budget::read(&mut r, file, model.as_ref().map(|model| model.name.as_str())),
            limits: limits::read(&mut r),
            model,
            agent: agent(&mut r),
            added: Added::read(&mut r),
            chat: chat(&mut r),
            triage: Triage {
                excerpt_tokens: r.bounded("triage.excerpt_tokens", 200, 200_000),
                comment_interval: r.duration("triage.comment_interval"),
                max_attempts: r.bounded("triage.max_attempts", 1, 100),
            },
            privacy: Privacy {
                redact_emails: r.one_of("privacy.redact_emails", &["no", "yes"]) == "yes",
                keep_raw: r.one_of("privacy.keep_raw", &["no", "yes"]) == "yes",
                links: links(&mut r),
            },
            policy: policy::read(
                &mut r,
                &cluster.server,
                tracker.as_ref().map(|tracker| tracker.server.as_str()),
            ),
            cluster,
            tracker,
            mcp,
            notify: notify::read(&mut r, file),
            audit: audit(&mut r),
            retention: retention::read(&mut r),
            queue: queue(&mut r),
            knowledge: knowledge::read(&mut r),
            prompts: r.text("prompts.folder").map(PathBuf::from),
            pages: r.text("pages.folder").map(PathBuf::from),
            telemetry: telemetry::read(&mut r),
            log: telemetry::log(&mut r),
            warnings: r.warnings(),
            effective: r.effective(),
            digest: digest::of(&r, file),
        };
        if config.chat.four_eyes && !config.auth.is_on() {
            r.mistake(
                "`chat.four_eyes`",
                "needs `auth.methods`: nobody is told apart where nobody has to show who they are",
            );
        }
        if r.mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors(r.mistakes)) }
    }
}

/// Reads the allowed link targets.
fn links(r: &mut SettingsReader<'_>) -> LinkPolicy {
    let hosts = added_servers::globs_of(r, "privacy.link_hosts");
    LinkPolicy::new(&hosts, r.text("server.public_url").as_deref())
}

fn database(r: &mut SettingsReader<'_>, env: Env<'_>) -> Database {
    let home = || env("XDG_DATA_HOME").or_else(|| env("HOME").map(|home| format!("{home}/.local/share")));
    let data_dir = r.text("database.data_dir").map(PathBuf::from).unwrap_or_else(|| match home() {
        // The user that PostgreSQL runs as cannot read root's home directory.
        Some(home) if !home.starts_with("/root") => PathBuf::from(home).join("regreen"),
        _ => PathBuf::from("/var/lib/regreen"),
    });
    let url = r.secret("database.url");
    let is_postgres = |url: &SecretString| {
        ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme))
    };
    if url.as_ref().is_some_and(|url| !is_postgres(url)) {
        r.mistake("`database.url`", "does not begin with postgres:// or postgresql://");
    }
    Database {
        url,
        max_connections: r.bounded("database.max_connections", 4, 1000),
        wait: r.duration("database.wait"),
        data_dir,
        programs: r.text("database.programs").map(PathBuf::from),
        migrations: r.text("database.migrations").map(PathBuf::from),
    }
}

fn cluster(r: &mut SettingsReader<'_>) -> Cluster {
    Cluster {
        server: r.required_text("cluster.server"),
        log_tool: r.required_text("cluster.log_tool"),
        pod_tool: r.required_text("cluster.pod_tool"),
        events_tool: r.required_text("cluster.events_tool"),
        log_lines: r.bounded("cluster.log_lines", 1, 10_000_000),
    }
}

fn chat(r: &mut SettingsReader<'_>) -> Chat {
    let approval_expires = r.duration("chat.approval_expires");
    if !(Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600)).contains(&approval_expires) {
        r.mistake("`chat.approval_expires`", "is outside one second to 30 days");
    }
    Chat {
        link_secret: r.signing_secret("chat.link_secret", "links could be forged"),
        history_tokens: r.bounded("chat.history_tokens", 0, 200_000),
        stop_on_disconnect: r.one_of("chat.on_disconnect", &["finish", "stop"]) == "stop",
        approval_expires,
        four_eyes: r.one_of("chat.four_eyes", &["no", "yes"]) == "yes",
    }
}

fn agent(r: &mut SettingsReader<'_>) -> RunLimits {
    RunLimits {
        turns: r.bounded("agent.turns", 1, 100),
        context_tokens: r.bounded("agent.context_tokens", 2_000, 2_000_000),
        total_tokens: r.bounded("agent.total_tokens", 2_000, 1_000_000_000),
        wall: r.duration("agent.wall_time"),
        parallel_calls: r.bounded("agent.parallel_calls", 1, 64),
        result_tokens: r.bounded("agent.result_tokens", 100, 100_000),
        ..RunLimits::default()
    }
}

fn audit(r: &mut SettingsReader<'_>) -> Audit {
    Audit { retention: retention::kept(r, "audit.retention") }
}

fn queue(r: &mut SettingsReader<'_>) -> Queue {
    let queue = Queue {
        concurrency: r.bounded("queue.concurrency", 1, 2048),
        heartbeat: r.duration_from("queue.heartbeat", SHORTEST_BEAT),
        lease: r.duration_from("queue.lease", SHORTEST_BEAT),
    };
    if queue.lease < queue.heartbeat * 2 {
        r.mistake(
            "`queue.lease`",
            "has to be at least twice `queue.heartbeat`, or living workers lose their reports",
        );
    }
    queue
}

#[cfg(test)]
mod tests;
