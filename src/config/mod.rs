//! Settings: a TOML file under environment variables, checked as a whole before anything starts.

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

/// Shortest secret that something is signed with, in bytes.
const MIN_SECRET: usize = 16;

/// Shortest time between two signs of life: less would be nothing but signs of life.
const SHORTEST_BEAT: Duration = Duration::from_millis(100);

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listening.
    pub server: Server,
    /// Who has to show who they are, and how.
    pub auth: Auth,
    /// PostgreSQL.
    pub database: Database,
    /// The model endpoint; `None` means the built-in analyst.
    pub model: Option<ModelEndpoint>,
    /// Budget of one investigation.
    pub agent: RunLimits,
    /// What MCP servers added over the API may do.
    pub added: Added,
    /// What may be spent.
    pub budget: Budgets,
    /// What may come in.
    pub limits: Limits,
    /// Chat.
    pub chat: Chat,
    /// Triage.
    pub triage: Triage,
    /// What is kept and replaced.
    pub privacy: Privacy,
    /// Where evidence is fetched.
    pub cluster: Cluster,
    /// Where issues are filed; `None` means nowhere.
    pub tracker: Option<Tracker>,
    /// All MCP servers.
    pub mcp: Vec<McpServer>,
    /// Who may call which of their tools.
    pub policy: Arc<Policy>,
    /// Who is told of what.
    pub notify: Vec<Target>,
    /// The record of what was done.
    pub audit: Audit,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Workers.
    pub queue: Queue,
    /// Runbooks and their search.
    pub knowledge: Knowledge,
    /// Templates that take the place of built-in ones.
    pub prompts: Option<PathBuf>,
    /// Templates of pages that take the place of built-in ones.
    pub pages: Option<PathBuf>,
    /// Logging.
    pub log: Log,
    /// Where logs and traces go beside it.
    pub telemetry: Telemetry,
    /// What people have to know of settings that are good, a sentence each.
    pub warnings: Vec<String>,
    /// Every setting as it is in effect, for people.
    pub effective: Vec<Effective>,
    /// Over these, the tables and the files they name: a change shows.
    pub digest: String,
}

/// PostgreSQL.
#[derive(Debug, Clone)]
pub struct Database {
    /// Connection URL; `None` means the private one.
    pub url: Option<SecretString>,
    /// Pool size.
    pub max_connections: u32,
    /// Longest wait of a start for it.
    pub wait: Duration,
    /// Data folder of the private one.
    pub data_dir: PathBuf,
    /// Programs of the private one.
    pub programs: Option<PathBuf>,
    /// Migrations that take the place of built-in ones.
    pub migrations: Option<PathBuf>,
}

/// Chat.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Tokens of earlier messages.
    pub history_tokens: usize,
    /// An answer that nobody reads any more is stopped.
    pub stop_on_disconnect: bool,
    /// Longest wait of a call for a person's approval.
    pub approval_expires: Duration,
    /// What links that decide an approval are signed with; without it there are none.
    pub link_secret: Option<SecretString>,
    /// Whoever asked for a call does not approve it.
    pub four_eyes: bool,
}

/// Triage.
#[derive(Debug, Clone)]
pub struct Triage {
    /// Tokens of excerpts in the brief.
    pub excerpt_tokens: usize,
    /// At most one comment in this time.
    pub comment_interval: Duration,
    /// Worker deaths before giving up.
    pub max_attempts: i32,
}

/// What is kept, and what is replaced before anybody sees it.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// E-mail addresses are replaced like secrets.
    pub redact_emails: bool,
    /// Logs are kept as received too.
    pub keep_raw: bool,
    /// Where texts of models and logs may link to.
    pub links: LinkPolicy,
}

/// Where evidence is fetched.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// MCP server's name.
    pub server: String,
    /// Log tool.
    pub log_tool: String,
    /// Pod tool.
    pub pod_tool: String,
    /// Events tool.
    pub events_tool: String,
    /// Lines of log to ask for.
    pub log_lines: u32,
}

/// The record of what was done.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// Months that ended longer ago are dropped; `None` keeps all.
    pub retention: Option<Duration>,
}

/// Workers.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Reports at the same time.
    pub concurrency: usize,
    /// Sign of life.
    pub heartbeat: Duration,
    /// Silence that means death.
    pub lease: Duration,
}

/// Every mistake of a configuration.
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

/// Reads the process environment. `container` is set in a container, by whoever runs it or by the marks that engines leave.
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
    /// Reads the file, if any, and the environment over it.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML; or [`ConfigErrors`], all of them.
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

    /// Puts environment over file and checks the whole.
    ///
    /// # Errors
    /// All mistakes at once.
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

/// Where texts may link to.
fn links(r: &mut SettingsReader<'_>) -> LinkPolicy {
    let hosts = added_servers::globs_of(r, "privacy.link_hosts");
    LinkPolicy::new(&hosts, r.text("server.public_url").as_deref())
}

fn database(r: &mut SettingsReader<'_>, env: Env<'_>) -> Database {
    let home = || env("XDG_DATA_HOME").or_else(|| env("HOME").map(|home| format!("{home}/.local/share")));
    let data_dir = r.text("database.data_dir").map(PathBuf::from).unwrap_or_else(|| match home() {
        // Root's home is closed to the user that PostgreSQL runs as.
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
