//! A small MCP server over both HTTP transports: the older HTTP+SSE (2024-11-05) and streamable HTTP.
//!
//! The tools are data ([`Offer`]). `protocol` answers JSON-RPC, `legacy` and `streamable` are the transports, and
//! `loopback` restricts access. Any MCP client can connect.

mod legacy;
mod loopback;
mod protocol;
mod streamable;
#[cfg(test)]
mod tests;

use crate::shutdown::Shutdown;
use anyhow::Context as _;
use axum::Router;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Implementation of a tool; an `Err` becomes a failed tool result.
pub(super) type Run = Box<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// Effect of a tool, used for its annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Read-only.
    Reads,
    /// Adds something.
    Adds,
    /// Deletes or overwrites something.
    Destroys,
}

/// A tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) effect: Effect,
    /// JSON Schema of the arguments, validated before `run`.
    pub(super) schema: Value,
    pub(super) run: Run,
}

/// Name and tools of a server.
pub(super) struct Offer {
    pub(super) name: &'static str,
    pub(super) tools: Vec<Tool>,
}

struct Shared {
    offer: Offer,
    streams: legacy::Streams,
    sessions: streamable::Sessions,
    stop: CancellationToken,
}

/// Binds a free loopback port.
///
/// # Errors
/// Fails when no port is free.
pub(super) async fn bind() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no loopback port can be bound")?;
    let address = listener.local_addr().context("the bound port has no address")?;
    Ok((listener, address))
}

/// Serves the tools (`/sse` with `/messages`, and `/mcp`) and additional pages until `shutdown` fires.
pub(super) fn serve(listener: TcpListener, offer: Offer, pages: Router, shutdown: &Shutdown) {
    let stop = shutdown.token().clone();
    let name = offer.name;
    let shared = Shared { offer, streams: Arc::default(), sessions: Arc::default(), stop: stop.clone() };
    let router = Router::new()
        .route("/sse", get(legacy::open_stream))
        .route("/messages", post(legacy::take_message))
        .route("/mcp", post(streamable::take_message).delete(streamable::end_session))
        .with_state(Arc::new(shared))
        .merge(pages)
        // Applies to all routes, including the pages.
        .layer(axum::middleware::from_fn(loopback::only));
    let listener = listener.tap_io(|stream| {
        // Otherwise small responses wait for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    shutdown.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "{name} ended");
        }
    });
}
