//! Health endpoints: liveness, readiness and details.

use crate::app::App;
use crate::mcp::ServerStatus;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The state of the service and of what it depends on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `degraded` (works, but something is missing) or `unavailable`.
    status: &'static str,
    /// Program version.
    version: &'static str,
    /// `ok`, or what is wrong.
    database: String,
    /// The model, or the built-in analyst.
    model: String,
    /// MCP servers.
    mcp_servers: Vec<ServerStatus>,
}

/// Whether reports can be taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ok`, `degraded` or `unavailable`.
    status: &'static str,
    /// `ok`, or what is wrong.
    database: String,
}

/// Whether the service works.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brief {
    /// `healthy`, or `unhealthy`: reports cannot be taken.
    status: &'static str,
}

/// Whether the service works, in a word and for everybody.
#[utoipa::path(get, operation_id = "get_health_in_brief", path = "/health", tag = "health", responses((status = 200, body = Brief), (status = 503, body = Brief)))]
pub async fn brief(State(app): State<Arc<App>>) -> Response {
    let code = code(state(&app).await.status);
    let status = if code == StatusCode::OK { "healthy" } else { "unhealthy" };
    (code, Json(Brief { status })).into_response()
}

/// The service and its dependencies.
#[utoipa::path(get, operation_id = "get_health", path = "/api/health", tag = "health", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn health(State(app): State<Arc<App>>) -> Response {
    state(&app).await.into_response()
}

/// Whether the process answers.
#[utoipa::path(get, operation_id = "get_liveness", path = "/health/live", tag = "health", responses((status = 200, body = String)))]
pub async fn live() -> &'static str {
    "alive"
}

/// Whether reports can be taken: the database answers and no stop is under way.
#[utoipa::path(get, operation_id = "get_readiness", path = "/health/ready", tag = "health", responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    // Public, so it does not reveal which systems this server is connected to.
    let Health { status, database, .. } = state(&app).await;
    (code(status), Json(Ready { status, database })).into_response()
}

impl IntoResponse for Health {
    fn into_response(self) -> Response {
        (code(self.status), Json(self)).into_response()
    }
}

fn code(status: &str) -> StatusCode {
    if status == "unavailable" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn state(app: &App) -> Health {
    let database = match crate::db::with_timeout(crate::db::ping(&app.pool)).await {
        Ok(()) => "ok".to_owned(),
        Err(_) => "away: reports cannot be taken".to_owned(),
    };
    let mcp_servers = app.mcp.status();
    let stopping = app.shutdown.is_leaving();
    let all_connected = mcp_servers.iter().all(ServerStatus::is_connected);
    let status = match (database == "ok" && !stopping, all_connected) {
        (false, _) => "unavailable",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let model =
        app.model.as_ref().map_or_else(|| "rules (built in)".to_owned(), |model| model.name().to_owned());
    Health { status, version: env!("CARGO_PKG_VERSION"), database, model, mcp_servers }
}
