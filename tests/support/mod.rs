//! Test harness: a whole service with its own database and fake external systems.

pub mod apis;
pub mod browser;
pub mod chaos;
pub mod collector;
pub mod database;
pub mod fake_embeddings;
pub mod fake_mcp;
pub mod fake_model;
pub mod github;
pub mod issuer;
pub mod lab_cluster;
pub mod late_tracker;
pub mod obedient_model;
pub mod pipelines;
pub mod postgres;
pub mod real_servers;
pub mod replica;
pub mod sse;
pub mod webdriver;
pub mod wire;

pub use database::fresh_database;

use regreen::audit::Recorder;
use regreen::cli::serve::{Roles, Service, start};
use regreen::config::Config;
use regreen::demo::samples::{Sample, sample};
use regreen::demo::{cluster, forge};
use regreen::domain::Actor;
use regreen::domain::policy::AccessDecision;
use regreen::mcp::{CallError, CallResult, ToolCaller};
use regreen::shutdown::Shutdown;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Timeout of all waits; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running service.
pub struct TestApp {
    pub base: String,
    pub http: reqwest::Client,
    pub forge: Option<forge::Forge>,
    pub database: String,
    service: Option<Service>,
    shutdown: Shutdown,
    stand_ins: Shutdown,
}

/// Settings of a service under test.
pub struct Setup {
    env: BTreeMap<String, String>,
    file: String,
    stand_ins: Shutdown,
    forge: Option<forge::Forge>,
}

impl Setup {
    /// A service without a cluster and a forge.
    pub async fn bare() -> Self {
        Self::on(&database::ready_database().await)
    }

    /// A service on an empty database.
    pub async fn unmigrated() -> Self {
        Self::on(&fresh_database().await)
    }

    fn on(database: &str) -> Self {
        let mut env = BTreeMap::new();
        for (name, value) in [
            ("DATABASE_URL", database),
            ("REGREEN_PORT", "0"),
            ("REGREEN_MODEL_BACKOFF", "1ms"),
            ("REGREEN_QUEUE_HEARTBEAT", "1s"),
            ("REGREEN_QUEUE_LEASE", "4s"),
            ("REGREEN_DATABASE_MAX_CONNECTIONS", "10"),
            ("REGREEN_SHUTDOWN_GRACE", "1s"),
        ] {
            env.insert(name.to_owned(), value.to_owned());
        }
        Self { env, file: String::new(), stand_ins: Shutdown::new(), forge: None }
    }

    /// A service with the simulated cluster and forge.
    pub async fn whole() -> Self {
        let mut setup = Self::bare().await;
        let cluster = cluster::start(&setup.stand_ins).await.unwrap();
        let forge = forge::start(&setup.stand_ins).await.unwrap();
        let url = forge.mcp_url.clone();
        setup.forge = Some(forge);
        setup
            .set("MCP_OPENSHIFT_URL", &cluster)
            .set("MCP_GITEA_URL", &url)
            .set("GITEA_OWNER", "platform")
            .set("GITEA_REPO", "failures")
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn file(mut self, toml: &str) -> Self {
        self.file.push_str(toml);
        self
    }

    pub fn model(self, model: &fake_model::FakeModel) -> Self {
        // Its scripts contain no answers to capability detection.
        self.set("REGREEN_MODEL_TOOL_CALLS", "native")
            .set("REGREEN_MODEL_URL", &model.url)
            .set("REGREEN_MODEL", "fake")
            .set("REGREEN_MODEL_API_KEY", "key-1")
    }

    pub fn config(&self) -> Config {
        Config::from_layers(&self.file.parse().unwrap(), &|name| self.env.get(name).cloned()).unwrap()
    }

    /// Returns the settings as environment variables, for a separate process.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Returns the settings of the file.
    pub fn toml(&self) -> &str {
        &self.file
    }

    pub fn forge(&self) -> &forge::Forge {
        self.forge.as_ref().unwrap()
    }

    pub async fn start(self) -> TestApp {
        let app = self.start_unsettled().await;
        app.service.as_ref().unwrap().app.mcp.wait_for_first_attempts().await;
        app
    }

    pub async fn start_unsettled(self) -> TestApp {
        let shutdown = Shutdown::new();
        let service = start(self.config(), Roles::Both, shutdown.clone()).await.unwrap();
        TestApp {
            base: format!("http://{}", service.address.unwrap()),
            http: http_without_tls().build().unwrap(),
            forge: self.forge,
            database: self.env["DATABASE_URL"].clone(),
            service: Some(service),
            shutdown,
            stand_ins: self.stand_ins,
        }
    }
}

/// An HTTP response with its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl TestApp {
    pub fn mcp(&self) -> &regreen::mcp::Registry {
        &self.service.as_ref().unwrap().app.mcp
    }

    pub fn app(&self) -> &std::sync::Arc<regreen::app::App> {
        &self.service.as_ref().unwrap().app
    }

    /// Calls a tool like the service does.
    pub async fn call(
        &self,
        (server, tool): (&str, &str),
        arguments: Value,
        cancel: CancellationToken,
    ) -> Result<CallResult, CallError> {
        let recorder = Recorder::new(Actor::service("test"));
        match self.mcp().authorize(&ToolCaller::service(&recorder), server, tool, arguments)? {
            AccessDecision::Allowed(permit) => self.mcp().call(permit, &recorder, cancel).await,
            other => panic!("{server} {tool}: {other:?}"),
        }
    }

    pub async fn report(&self, slug: &str) -> Answer {
        let Sample { namespace, pod, .. } = sample(slug).unwrap();
        self.post(&json!({"namespace": namespace, "pod_name": pod}), &[]).await
    }

    pub async fn post(&self, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("{}/report-failure", self.base)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::read(request).await
    }

    pub async fn send(&self, path: &str, body: &Value) -> Answer {
        Self::read(self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    /// Sends a request with another method than GET or POST.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: &Value) -> Answer {
        Self::read(self.http.request(method, format!("{}{path}", self.base)).json(body)).await
    }

    /// Opens an event stream.
    pub async fn events(&self, request: reqwest::RequestBuilder) -> sse::Events {
        sse::Events::open(request).await
    }

    /// Returns the hits of a search.
    pub async fn search(&self, query: &str, more: &str) -> Vec<Value> {
        let query: String =
            reqwest::Url::parse_with_params("http://x/", [("q", query)]).unwrap().query().unwrap().to_owned();
        let answer = self.get(&format!("/api/search?{query}{more}")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body["hits"].as_array().unwrap().clone()
    }

    /// Waits until the built-in runbooks are stored and embedded.
    pub async fn read_up(self) -> Self {
        eventually("the runbooks have their vectors", async || {
            let found = self.get("/api/search?q=ImagePullBackOff").await.body;
            (found["hits"][0].is_object() && found["without_vectors"].is_null()).then_some(())
        })
        .await;
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        Self::read(self.http.get(format!("{}{path}", self.base))).await
    }

    pub async fn read(request: reqwest::RequestBuilder) -> Answer {
        Self::try_read(request).await.expect("an answer")
    }

    /// Returns the response if it arrives completely.
    pub async fn try_read(request: reqwest::RequestBuilder) -> Option<Answer> {
        let response = request.timeout(PATIENCE).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    pub async fn pool(&self) -> PgPool {
        pool(&self.database).await
    }

    pub fn issues(&self) -> Vec<Value> {
        self.forge.as_ref().unwrap().issues()
    }

    /// Stops the service like a signal does.
    pub async fn stop(mut self) {
        self.shutdown.token().cancel();
        self.service.take().unwrap().stop().await.unwrap();
        self.stand_ins.finish(Duration::from_secs(5)).await;
    }
}

/// Builds a client for loopback servers. Skips loading root certificates, which takes longer than most requests.
pub fn http_without_tls() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_certs_only([])
}

pub async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect(url).await.unwrap()
}

/// Returns whether there are elements and all match.
pub fn every<T>(all: impl IntoIterator<Item = T>, is_so: impl FnMut(T) -> bool) -> bool {
    let mut all = all.into_iter().peekable();
    all.peek().is_some() && all.all(is_so)
}

/// Waits until a condition holds.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// Waits with another timeout, for conditions that take longer on a busy host.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
