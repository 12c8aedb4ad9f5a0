//! Opens a session over the configured transport.

use super::failure::describe;
use super::guard;
use super::http::Connector;
use super::oversize::MAX_MESSAGE;
use super::sse::{SseError, SseWorker};
use super::stdio::ChildTransport;
use super::websocket;
use crate::config::{McpServer, Transport};
use anyhow::{Context as _, anyhow};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rmcp::handler::client::ClientHandler;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::{RoleClient, ServiceExt as _};
use secrecy::ExposeSecret as _;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;

/// Client side of a session: receives tool list changes and refuses requests that servers make of clients.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("regreen", env!("CARGO_PKG_VERSION"));
        // The newest revision that is opened with `initialize`; a server may answer with an older one.
        ClientConfig::new(ClientCapabilities::default(), us)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// A running session.
pub(super) type Session = RunningService<RoleClient, Listener>;

/// Connects and initialises over the configured transport, or over another HTTP transport if the server lacks the configured
/// one.
pub(super) async fn connect(
    config: &McpServer,
    connector: Connector,
    listener: Listener,
) -> anyhow::Result<(Session, Option<Instead>)> {
    let http = if config.guarded { guard::client()? } else { connector.http };
    let connector = Connector { http, ..connector };
    let mut tried = match attempt(config, &config.transport, connector.clone(), listener.clone()).await {
        Ok(session) => return Ok((session, None)),
        Err(Missed::Absent(why)) => vec![format!("{} {why}", config.transport.describe())],
        Err(Missed::Failed(error)) => return Err(error),
    };
    for transport in config.transport.others(!config.guarded) {
        let why = match attempt(config, &transport, connector.clone(), listener.clone()).await {
            Ok(session) => return Ok((session, Some(Instead { why: tried.swap_remove(0), transport }))),
            Err(Missed::Absent(why)) => why,
            Err(Missed::Failed(error)) => format!("failed: {error:#}"),
        };
        tried.push(format!("{} {why}", transport.describe()));
    }
    Err(anyhow!(tried.join("; ")))
}

/// A transport used instead of the configured one, which the server does not offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instead {
    pub(super) transport: Transport,
    /// The server's answer on the configured transport.
    pub(super) why: String,
}

impl Instead {
    /// Note for users: the transport that was found and the setting to change.
    pub(super) fn note(&self) -> String {
        format!(
            "{}; {} is used instead: set `transport` and URL to that",
            self.why,
            self.transport.describe()
        )
    }
}

/// Reason why a transport cannot be used.
enum Missed {
    /// The server does not speak this transport at this URL.
    Absent(String),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Missed {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

async fn attempt(
    config: &McpServer,
    transport: &Transport,
    connector: Connector,
    listener: Listener,
) -> Result<Session, Missed> {
    match transport {
        Transport::Stdio { command } => Ok(stdio(config, command, connector, listener).await?),
        Transport::StreamableHttp { url } => {
            let mut settings = StreamableHttpClientTransportConfig::with_uri(url.as_str());
            settings.custom_headers = headers(config)?
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .collect::<HashMap<_, _>>();
            settings.max_sse_event_size = MAX_MESSAGE;
            // This module rebuilds a lost session itself: the transport would repeat a call that changes something.
            settings.reinit_on_expired_session = false;
            let transport = StreamableHttpClientTransport::with_client(connector, settings);
            listener.serve(transport).await.map_err(|error| match absent(&error) {
                Some(status) => Missed::Absent(format!("answers {status}")),
                None => Missed::Failed(refused(error)),
            })
        }
        Transport::Sse { url } => {
            let url: reqwest::Url = url.parse().context("its URL is wrong")?;
            // A server of another transport may keep a GET open without sending anything.
            let limit = (!url.path().ends_with("/sse")).then_some(config.connect_timeout / 3);
            let worker = SseWorker::open(connector.http, url, headers(config)?, limit).await;
            let worker = worker.map_err(|error| match error {
                SseError::Status(status @ (400 | 404 | 405 | 406 | 410 | 415)) => {
                    Missed::Absent(format!("answers HTTP {status}"))
                }
                SseError::NoStream(why) => Missed::Absent(format!("is not there: {why}")),
                error => Missed::Failed(anyhow!(describe(&error))),
            })?;
            Ok(listener.serve(worker).await.map_err(refused)?)
        }
        Transport::WebSocket { url } => {
            let ends = websocket::open(url, headers(config)?, config.guarded).await;
            // The error may contain the URL, which may hold a secret.
            let ends = ends.map_err(|error| anyhow!(describe(error.as_ref())))?;
            Ok(listener.serve(ends).await.map_err(refused)?)
        }
    }
}

/// Returns the status with which a server rejects this transport at its URL.
fn absent(error: &ClientInitializeError) -> Option<String> {
    let ClientInitializeError::TransportError { error, .. } = error else { return None };
    let said = match error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>()? {
        StreamableHttpError::HttpStatus(error) => format!("HTTP {}", error.status),
        StreamableHttpError::UnexpectedServerResponse(words) => words.get(..8)?.to_owned(),
        _ => return None,
    };
    ["HTTP 404", "HTTP 405", "HTTP 410"].contains(&said.as_str()).then_some(said)
}

async fn stdio(
    config: &McpServer,
    command: &[String],
    connector: Connector,
    listener: Listener,
) -> anyhow::Result<Session> {
    let (program, arguments) = command.split_first().context("its command is empty")?;
    let mut child = tokio::process::Command::new(program);
    child.args(arguments).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = crate::config::process_env(name) {
            child.env(name, value);
        }
    }
    for (name, value) in &config.env {
        child.env(name, value.expose_secret());
    }
    let started = ChildTransport::start(child, connector.blocking);
    let (transport, stderr) = started.with_context(|| format!("cannot start `{program}`"))?;
    let name = config.name.clone();
    let drain = async move {
        let Some(stderr) = stderr else { return };
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(server = name, bytes = line.len(), "the MCP server wrote to its standard error");
        }
    };
    let session = listener.serve(transport);
    // Drain standard error while the child starts, or a child that writes much blocks.
    let mut drain = Box::pin(drain);
    let session = tokio::select! {
        session = session => session.map_err(refused)?,
        () = &mut drain => anyhow::bail!("it ended before it was initialised"),
    };
    detach(drain);
    Ok(session)
}

/// Leaves out the received message, which rmcp's error contains in full and which does not belong in a status.
fn refused(error: ClientInitializeError) -> anyhow::Error {
    match error {
        ClientInitializeError::TransportError { error, .. } => anyhow!(describe(error.error.as_ref())),
        ClientInitializeError::ConnectionClosed(_) => {
            anyhow!("the server closed the connection before it was initialised")
        }
        ClientInitializeError::JsonRpcError(error) => {
            anyhow!("`initialize` was answered with error {}: {}", error.code.0, error.message)
        }
        ClientInitializeError::ExpectedInitResponse(_) | ClientInitializeError::ExpectedInitResult(_) => {
            anyhow!("`initialize` was answered with something else: is this an MCP server?")
        }
        other => anyhow!(describe(&other)),
    }
}

fn headers(config: &McpServer) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name: HeaderName = name.parse().with_context(|| format!("`{name}` is not a header name"))?;
        let mut value = HeaderValue::from_str(value.expose_secret())
            .with_context(|| format!("the value of `{name}` cannot be a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Spawns a task that ends by itself: the reader of a child's standard error ends with the child.
#[expect(clippy::disallowed_methods, reason = "ends with the child, which ends with its session")]
fn detach(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
