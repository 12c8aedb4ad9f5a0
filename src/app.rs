//! The shared parts, built once from the configuration and handed to every edge.

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

/// What the edges and use cases share.
pub struct App {
    /// Settings.
    pub config: Config,
    /// Database.
    pub pool: PgPool,
    /// Who calls.
    pub auth: Auth,
    /// MCP servers.
    pub mcp: Registry,
    /// The configured model, if any.
    pub model: Option<Arc<dyn Model>>,
    /// What is known of the model's endpoint.
    experience: CapabilityCache,
    /// Runbooks and past failures.
    pub knowledge: Arc<Knowledge>,
    /// Texts.
    pub prompts: Prompts,
    /// Stopping: no new work from here on.
    pub shutdown: Shutdown,
    /// Fires when the grace of a stop is over: what still runs is handed back.
    pub drain: CancellationToken,
    /// MCP connections; closed last, because what still runs needs them.
    pub connections: Shutdown,
    /// Wakes whoever waits for something to happen, here or on another replica.
    pub notifier: Arc<StreamNotifier>,
    /// Answers in the making.
    pub live: Live,
    /// How much is taken on at a time.
    pub admission: AdmissionControl,
    /// What models used, and may use.
    pub ledger: Arc<Ledger>,
    /// Compiled schemas of tools' arguments.
    pub schemas: Schemas,
    /// Threads for what takes more than a few milliseconds.
    pub blocking: BlockingPool,
    http: reqwest::Client,
    syncing: tokio::sync::Mutex<()>,
}

/// A database, and the private server behind it when it is one.
pub struct Connected {
    /// The pool.
    pub pool: PgPool,
    /// To be stopped last.
    pub private: Option<PrivatePostgres>,
    /// Which one it is, in words and without a secret.
    pub place: String,
    migrations: Migrations,
}

impl Connected {
    /// Brings the schema up to date.
    ///
    /// # Errors
    /// Those of [`Migrations::run`].
    pub async fn migrate(&self) -> anyhow::Result<()> {
        self.migrations.run(&self.pool).await
    }
}

/// Connects to the configured database, or starts the private one.
///
/// # Errors
/// The URL or the folder of migrations is wrong, or the private server does not start.
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

/// Where a configured database is: its name and its server.
fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("the database `{name}` at {}", socket.display()),
        None => format!("the database `{name}` at {}:{}", options.get_host(), options.get_port()),
    }
}

/// How to connect to the configured database; `None` means the private one.
///
/// # Errors
/// The URL is wrong.
pub fn database(config: &Config) -> anyhow::Result<Option<PgConnectOptions>> {
    let parse = |url: &SecretString| url.expose_secret().parse();
    let options = config.database.url.as_ref().map(parse).transpose();
    options.map_err(|_| anyhow::anyhow!("`database.url` is not a PostgreSQL URL"))
}

impl App {
    /// Builds everything on a migrated database. MCP servers begin to connect; nothing waits for them.
    ///
    /// # Errors
    /// A prompt, a signature or the model's settings are wrong.
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

    /// Makes the added MCP servers those that are stored. One whose settings do not hold any more, such as a secret that is
    /// gone, is left out and said so.
    ///
    /// # Errors
    /// The database is away.
    pub async fn sync_servers(&self) -> sqlx::Result<()> {
        // One after the other: an older list must not undo a newer one.
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

    /// The model an agent thinks with, if there is one: the configured endpoint with the agent's own settings.
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

    /// The configured endpoint asked for a model of that name, if there is an endpoint.
    #[must_use]
    pub fn model_named(&self, name: &str) -> Option<Arc<dyn Model>> {
        let endpoint = ModelEndpoint { name: name.to_owned(), ..self.config.model.clone()? };
        Some(Arc::new(model(&endpoint, self.http.clone(), &self.experience)))
    }

    /// A run for the record, by a model of that name or the rules analyst.
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

    /// Stores a run, and puts the calls on record that were kept back for what their arguments held.
    ///
    /// # Errors
    /// The database is away.
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

    /// The client for services that the configuration names.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Where people see a report, when a public URL is configured.
    #[must_use]
    pub fn report_url(&self, report: Uuid) -> Option<String> {
        self.config.server.public_url.as_ref().map(|base| format!("{base}/reports/{report}"))
    }
}

/// The one HTTP client.
///
/// # Errors
/// The system's trust roots cannot be read.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        // Configured headers carry credentials: they go to the configured origin and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot set up the HTTP client")
}

/// An endpoint as a model; nothing is sent yet. `experience` is what is known of the endpoint.
#[must_use]
pub fn model(endpoint: &ModelEndpoint, http: reqwest::Client, experience: &CapabilityCache) -> OpenAi {
    OpenAi::new(endpoint.clone(), http, experience.of(&endpoint.name))
}
