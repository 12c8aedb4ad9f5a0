//! Opens a session over the configured transport.

use super::failure::describe;
use super::guard;
use super::http::Connector;
use super::oversize::MAX_MESSAGE;
use super::sse::SseWorker;
use super::stdio::ChildTransport;
use super::websocket;
use crate::config::{McpServer, Transport};
use anyhow::{Context as _, anyhow};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rmcp::handler::client::ClientHandler;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use secrecy::ExposeSecret as _;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;

/// Our side of a session: hears when the list of tools changes, refuses what servers ask of clients.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("regreen", env!("CARGO_PKG_VERSION"));
        // The newest revision that is opened by `initialize`; servers answer with an older one if they have to.
        ClientConfig::new(ClientCapabilities::default(), us)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// A running session.
pub(super) type Session = RunningService<RoleClient, Listener>;

/// Connects and initialises.
pub(super) async fn connect(
    config: &McpServer,
    connector: Connector,
    listener: Listener,
) -> anyhow::Result<Session> {
    let http = if config.guarded { guard::client()? } else { connector.http };
    let connector = Connector { http, ..connector };
    match &config.transport {
        Transport::Stdio { command } => stdio(config, command, connector, listener).await,
        Transport::StreamableHttp { url } => {
            let mut settings = StreamableHttpClientTransportConfig::with_uri(url.as_str());
            settings.custom_headers = headers(config)?
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)))
                .collect::<HashMap<_, _>>();
            settings.max_sse_event_size = MAX_MESSAGE;
            // A lost session is ours to rebuild: the transport would send a mutating call a second time.
            settings.reinit_on_expired_session = false;
            let transport = StreamableHttpClientTransport::with_client(connector, settings);
            listener.serve(transport).await.map_err(refused)
        }
        Transport::Sse { url } => {
            let url = url.parse().context("its URL is wrong")?;
            let worker = SseWorker { http: connector.http, url, headers: headers(config)? };
            listener.serve(worker).await.map_err(refused)
        }
        Transport::WebSocket { url } => {
            let ends = websocket::open(url, headers(config)?, config.guarded).await;
            // Its words may name the URL, which may hold a secret.
            let ends = ends.map_err(|error| anyhow!(describe(error.as_ref())))?;
            listener.serve(ends).await.map_err(refused)
        }
    }
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
    // The pipe has to be read while the child starts, or a chatty one blocks.
    let mut drain = Box::pin(drain);
    let session = tokio::select! {
        session = session => session.map_err(refused)?,
        () = &mut drain => anyhow::bail!("it ended before it was initialised"),
    };
    super::server::detach(drain);
    Ok(session)
}

/// rmcp's words hold the whole message it received, which has no place in a status.
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
