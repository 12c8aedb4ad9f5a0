//! Shared state, built once from the configuration and passed to all interfaces.

mod admission;

pub use admission::{AdmissionControl, Incoming, Slot};

use crate::agent::{Outcome, Schemas, was_kept_back};
use crate::audit::Recorder;
use crate::auth::Auth;
use crate::blocking::BlockingPool;
use crate::budget::Ledger;
use crate::clock::Started;
use crate::config::{Config, ModelEndpoint, process_env};
use crate::db;
use crate::db::audit;
use crate::db::mcp_servers;
use crate::db::migrations::Migrations;
use crate::db::private::PrivatePostgres;
use crate::db::runs::{self, Work};
use crate::domain::{AuditAction, AuditOutcome, Money, Profile, Run};
use crate::events::{Live, StreamNotifier};
use crate::knowledge::Knowledge;
use crate::llm::{CapabilityCache, Model, OpenAi};
use crate::mcp::{Connector, Registry};
use crate::metrics::metrics;
use crate::prompts::Prompts;
use crate::shutdown::Shutdown;
use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, PgPool};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// State shared by interfaces and use cases.
pub struct App {
    /// Settings.
    pub config: Config,
    /// Database connection pool.
    pub pool: PgPool,
    /// Authentication of callers.
    pub auth: Auth,
    /// Registry of MCP servers.
    pub mcp: Registry,
    /// The configured model, if any.
    pub model: Option<Arc<dyn Model>>,
    /// Detected capabilities of the model endpoint.
    experience: CapabilityCache,
    /// Search over runbooks and past failures.
    pub knowledge: Arc<Knowledge>,
    /// Prompt templates.
    pub prompts: Prompts,
    /// Signals shutdown: no new work is accepted.
    pub shutdown: Shutdown,
    /// Cancelled when the grace period ends: running work is returned to the queue.
    pub drain: CancellationToken,
    /// MCP connections; closed last, because running work needs them.
    pub connections: Shutdown,
    /// Wakes streams when something changes on any replica.
    pub notifier: Arc<StreamNotifier>,
    /// Answers in progress.
    pub live: Live,
    /// Limits on concurrent work.
    pub admission: AdmissionControl,
    /// Usage and budgets of models.
    pub ledger: Arc<Ledger>,
    /// Compiled JSON schemas of tool arguments.
    pub schemas: Schemas,
    /// Threads for work that takes more than a few milliseconds.
    pub blocking: BlockingPool,
    http: reqwest::Client,
    syncing: tokio::sync::Mutex<()>,
}

/// A database connection pool and, if used, the private server behind it.
pub struct Connected {
    /// The pool.
    pub pool: PgPool,
    /// Private server; must be stopped last.
    pub private: Option<PrivatePostgres>,
    /// Description of the database, without secrets.
    pub place: String,
    migrations: Migrations,
}

impl Connected {
    /// Migrates the schema to the current version.
    ///
    /// # Errors
    /// Returns the errors of [`Migrations::run`].
    pub async fn migrate(&self) -> anyhow::Result<()> {
        self.migrations.run(&self.pool).await
    }
}

/// Connects to the configured database, or starts the private server.
///
/// # Errors
/// Fails when the URL or the migrations folder is invalid, or the private server does not start.
pub async fn connect(config: &Config) -> anyhow::Result<Connected> {
    let migrations = Migrations::load(config.database.migrations.as_deref())?;
    let max = config.database.max_connections;
    if let Some(options) = database(config)? {
        let place = place(&options);
        return Ok(Connected { pool: db::pool(options, max), private: None, place, migrations });
    }
    let programs = config.database.programs.as_deref();
    let private = PrivatePostgres::start(&config.database.data_dir, programs).await?;
    let pool = db::pool(private.connect_options(), max);
    let place = format!("the private database in {}", private.folder().display());
    Ok(Connected { pool, private: Some(private), place, migrations })
}

/// Describes a configured database by its name and server.
fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("the database `{name}` at {}", socket.display()),
        None => format!("the database `{name}` at {}:{}", options.get_host(), options.get_port()),
    }
}

/// Returns the options of the configured database; `None` selects the private server.
///
/// # Errors
/// Fails when the URL is invalid.
pub fn database(config: &Config) -> anyhow::Result<Option<PgConnectOptions>> {
    let parse = |url: &SecretString| url.expose_secret().parse();
    let options = config.database.url.as_ref().map(parse).transpose();
    options.map_err(|_| anyhow::anyhow!("`database.url` is not a PostgreSQL URL"))
}

impl App {
    /// Builds the shared state on a migrated database. MCP servers connect in the background.
    ///
    /// # Errors
    /// Fails when a prompt, a signature or a model setting is invalid.
    pub fn build(config: Config, pool: PgPool, shutdown: Shutdown) -> anyhow::Result<Arc<Self>> {
        metrics().begin_targets(config.notify.iter().map(|target| target.name.as_str()));
        let http = http_client()?;
        let ledger = Ledger::new(pool.clone(), config.budget.clone(), shutdown.clone());
        let blocking = BlockingPool::default();
        let knowledge = Knowledge::new(&config, pool.clone(), http.clone())?.on(blocking.clone());
        let knowledge = Arc::new(knowledge);
        let experience = CapabilityCache::default();
        let endpoint = config.model.as_ref();
        let model = endpoint.map(|endpoint| model(endpoint, http.clone(), &experience));
        let connections = Shutdown::new();
        let connector = Connector { http: http.clone(), blocking: blocking.clone() };
        let mcp = Registry::start(
            config.mcp.clone(),
            Arc::clone(&config.policy),
            Some(pool.clone()),
            connector,
            &connections,
        );
        let auth = Auth::new(&config, pool.clone(), http.clone())?;
        Ok(Arc::new(Self {
            auth,
            pool,
            mcp,
            model: model.map(|model| Arc::new(model) as Arc<dyn Model>),
            experience,
            knowledge,
            prompts: Prompts::load(config.prompts.as_deref())?,
            shutdown,
            drain: CancellationToken::new(),
            connections,
            notifier: Arc::default(),
            live: Live::default(),
            admission: AdmissionControl::new(&config.limits),
            ledger,
            schemas: Schemas::default(),
            blocking,
            http,
            syncing: tokio::sync::Mutex::default(),
            config,
        }))
    }

    /// Replaces the added MCP servers with the stored ones. Skips and logs a server whose settings are no longer valid,
    /// for example because a secret is missing.
    ///
    /// # Errors
    /// Fails when the database is unavailable.
    pub async fn sync_servers(&self) -> sqlx::Result<()> {
        // One call at a time, so that an older list cannot overwrite a newer one.
        let _turn = self.syncing.lock().await;
        let mut wanted = Vec::new();
        for settings in mcp_servers::all(&self.pool).await? {
            match self.config.added.server(&settings, &process_env) {
                Ok(server) => wanted.push(server),
                Err(mistakes) => {
                    let problems: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                    tracing::warn!(server = %settings["name"], problems = problems.join("; "), "an added MCP server is left out");
                }
            }
        }
        self.mcp.sync(wanted);
        self.mcp.review().await;
        Ok(())
    }

    /// Returns the model of an agent, if any: the configured endpoint with the agent's own settings.
    #[must_use]
    pub fn model_of(&self, profile: &Profile) -> Option<Arc<dyn Model>> {
        let own =
            profile.model.is_some() || profile.temperature.is_some() || profile.max_output_tokens.is_some();
        let configured = self.config.model.as_ref().filter(|_| own);
        let Some(configured) = configured else {
            return self.model.clone();
        };
        let mut endpoint = configured.clone();
        if let Some(name) = &profile.model {
            endpoint.name.clone_from(name);
        }
        endpoint.temperature = profile.temperature.or(endpoint.temperature);
        let longest = profile.max_output_tokens.and_then(|tokens| u32::try_from(tokens).ok());
        endpoint.max_output_tokens = longest.or(endpoint.max_output_tokens);
        Some(Arc::new(model(&endpoint, self.http.clone(), &self.experience)))
    }

    /// Returns the configured endpoint with the given model name, if an endpoint is configured.
    #[must_use]
    pub fn model_named(&self, name: &str) -> Option<Arc<dyn Model>> {
        let endpoint = ModelEndpoint { name: name.to_owned(), ..self.config.model.clone()? };
        Some(Arc::new(model(&endpoint, self.http.clone(), &self.experience)))
    }

    /// Creates the record of a run by the named model or by the rules analyst.
    #[must_use]
    pub fn record(&self, analyst: &str, outcome: &Outcome, started: Started) -> Run {
        Run {
            id: Uuid::now_v7(),
            analyst: analyst.to_owned(),
            stop_reason: outcome.stop,
            detail: outcome.detail.clone(),
            turns: i32::try_from(outcome.turns).unwrap_or(i32::MAX),
            usage: outcome.usage,
            cost: outcome.cost.map(Money::amount),
            claims: 0,
            claims_verified: 0,
            tool_calls: outcome.calls.clone(),
            started_at: started.at,
            duration_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Stores a run and audits the calls that were blocked because of the content of their arguments.
    ///
    /// # Errors
    /// Fails when the database is unavailable.
    pub async fn store_run(
        transaction: &mut PgConnection,
        work: Work,
        run: &Run,
        recorder: &Recorder,
    ) -> sqlx::Result<()> {
        runs::insert(transaction, work, run).await?;
        let detail = format!("what its arguments hold must not leave; run {}", run.id);
        for call in run.tool_calls.iter().filter(|call| was_kept_back(call)) {
            let event = recorder.event(AuditAction::ToolCall).on("tool", &call.name);
            audit::add(&mut *transaction, &event.outcome(AuditOutcome::Refused).detail(&*detail)).await?;
        }
        Ok(())
    }

    /// Returns the HTTP client for configured services.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the page URL of a report, if a public URL is configured.
    #[must_use]
    pub fn report_url(&self, report: Uuid) -> Option<String> {
        self.config.server.public_url.as_ref().map(|base| format!("{base}/reports/{report}"))
    }
}

/// Builds the shared HTTP client.
///
/// # Errors
/// Fails when the system's root certificates cannot be read.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        // Configured headers carry credentials, so redirects to other origins are not followed.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot set up the HTTP client")
}

/// Creates a model client without sending a request. `experience` holds the detected capabilities of the endpoint.
#[must_use]
pub fn model(endpoint: &ModelEndpoint, http: reqwest::Client, experience: &CapabilityCache) -> OpenAi {
    OpenAi::new(endpoint.clone(), http, experience.of(&endpoint.name))
}
