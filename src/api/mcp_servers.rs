//! `/api/mcp-servers`: MCP servers, their status and their tools.

use super::audit::record;
use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{FieldError, Problem};
use super::reports::missing;
use crate::app::App;
use crate::clock;
use crate::config::{ConfigError, process_env};
use crate::db::audit;
use crate::db::definitions::{self, ToolKey};
use crate::db::mcp_servers;
use crate::domain::policy::{CallContext, Decision, Origin};
use crate::domain::{AuditAction, AuditEvent, Caller, ServerKey};
use crate::mcp::{ServerStatus, ToolListed};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerDetail {
    /// How it is: `state` (`connecting`, `connected`, `degraded`, `retrying` with `next_attempt`), `tools`, `latency_ms`, `last_error`.
    #[serde(flatten)]
    status: ServerStatus,
    /// Added over the API; those of the configuration cannot be removed here.
    added: bool,
}

/// All servers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Servers {
    /// Those of the configuration first.
    servers: Vec<ServerDetail>,
}

/// A tool of a server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerTool {
    #[serde(flatten)]
    tool: ToolListed,
    /// What the tool policy says of it.
    policy: Policies,
}

/// What the tool policy says of a tool for the caller, by where it is called.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policies {
    /// By a model in a conversation of the caller's, with an agent that no rule names.
    chat: ToolPolicy,
    /// By a model in an investigation.
    triage: ToolPolicy,
    /// By the caller, on the page that tries a tool.
    page: ToolPolicy,
}

/// What the tool policy says of a tool, before its arguments are known.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolPolicy {
    /// `allow`, `approve` (each call waits for a person) or `deny` (models are not offered it).
    #[schema(example = "allow")]
    decision: Decision,
    /// `rule N` of the file, or `default`.
    rule: String,
    /// Why.
    reason: String,
}

fn policies(app: &App, caller: &Caller, server: &str, tool: &str) -> Option<Policies> {
    let shown = |asker: &CallContext| {
        let standing = app.mcp.evaluate(asker, server, tool)?;
        Some(ToolPolicy { decision: standing.decision, rule: standing.rule_name(), reason: standing.reason })
    };
    Some(Policies {
        chat: shown(&CallContext::chat(caller.clone(), ""))?,
        triage: shown(&CallContext::supposed(Origin::Triage, None, None))?,
        page: shown(&CallContext::page(caller.clone()))?,
    })
}

/// The tools of a server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerTools {
    /// As the server lists them.
    tools: Vec<ServerTool>,
}

/// A server to add: the fields of a `[[mcp]]` table.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read by the configuration")]
pub struct NewServer {
    /// Unique: letters, digits, `_`, `-`.
    name: String,
    /// `streamable-http`, `sse`, `websocket` or `stdio`.
    transport: String,
    /// Endpoint, for all but `stdio`.
    url: Option<String>,
    /// Program and arguments, for `stdio`; the program has to be among `added_servers.commands`.
    command: Option<Vec<String>>,
    /// Headers of every request; values are references (`env:NAME`, `file:/path`) among `added_servers.secrets`.
    headers: Option<BTreeMap<String, String>>,
    /// Environment of the program; references likewise.
    env: Option<BTreeMap<String, String>>,
    /// Globs of tools that are offered; all when left out.
    allow: Option<Vec<String>>,
    /// Globs of tools that are never offered.
    deny: Option<Vec<String>>,
    /// Globs of tools that only read, whatever the server says.
    read: Option<Vec<String>>,
    /// Globs of tools that change something, whatever the server says.
    write: Option<Vec<String>>,
}

fn detail(app: &App, name: &str) -> Result<ServerDetail, Problem> {
    let (status, added) = app.mcp.status_of(name).ok_or_else(|| missing("MCP server"))?;
    Ok(ServerDetail { status, added })
}

/// All MCP servers and how they are.
#[utoipa::path(get, operation_id = "list_mcp_servers", path = "/api/mcp-servers", tag = "mcp servers", responses((status = 200, body = Servers)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<Servers> {
    let names = app.mcp.status().into_iter().map(|status| status.name);
    let servers = names.filter_map(|name| detail(&app, &name).ok()).collect();
    Json(Servers { servers })
}

/// One MCP server.
#[utoipa::path(get, operation_id = "get_mcp_server", path = "/api/mcp-servers/{name}", tag = "mcp servers", params(("name" = String, Path)),
    responses((status = 200, body = ServerDetail), (status = 404, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<ServerDetail>, Problem> {
    detail(&app, &name).map(Json)
}

/// Adds an MCP server. Every replica connects to it at once, and again after a restart.
#[utoipa::path(post, operation_id = "add_mcp_server", path = "/api/mcp-servers", tag = "mcp servers", request_body = NewServer,
    responses((status = 201, body = ServerDetail), (status = 400, body = Problem), (status = 409, body = Problem, description = "The name is taken"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ServerDetail>), Problem> {
    let settings = without_nulls(Fields::of_body(&app, body, FieldFilter::All).await?.into_value()?);
    let server = app.config.added.server(&settings, &process_env).map_err(|mistakes| {
        Problem::fields(mistakes.into_iter().map(|mistake| wrong(&settings, mistake)).collect())
    })?;
    let taken =
        || Problem::new(StatusCode::CONFLICT, format!("there is a server called `{}` already", server.name));
    if app.mcp.status_of(&server.name).is_some() {
        return Err(taken());
    }
    let mut transaction = app.pool.begin().await?;
    if !mcp_servers::add(&mut transaction, &server.name, &settings, clock::now()).await? {
        return Err(taken());
    }
    transaction.commit().await?;
    app.sync_servers().await?;
    record(&app, &caller, AuditAction::McpServerAdd, "mcp_server", &server.name).await;
    tracing::info!(server = server.name, "an MCP server was added");
    detail(&app, &server.name).map(|detail| (StatusCode::CREATED, Json(detail)))
}

/// Removes an MCP server that was added.
#[utoipa::path(delete, operation_id = "remove_mcp_server", path = "/api/mcp-servers/{name}", tag = "mcp servers", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem, description = "It is the configuration's"),
        (status = 503, body = Problem)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    if app.mcp.status_of(&name).is_some_and(|(_, added)| !added) {
        let detail = format!("`{name}` is the configuration's: take it out there");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let mut transaction = app.pool.begin().await?;
    let gone = mcp_servers::remove(&mut transaction, &name).await?;
    transaction.commit().await?;
    app.sync_servers().await?;
    if !gone {
        return Err(missing("MCP server"));
    }
    record(&app, &caller, AuditAction::McpServerDelete, "mcp_server", &name).await;
    tracing::info!(server = name, "an MCP server was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// The tools of a server, with their schemas, whether they change something, and what the tool policy says of them.
#[utoipa::path(get, operation_id = "list_mcp_server_tools", path = "/api/mcp-servers/{name}/tools", tag = "mcp servers", params(("name" = String, Path)),
    responses((status = 200, body = ServerTools), (status = 404, body = Problem)))]
pub async fn tools(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ServerTools>, Problem> {
    let tools = app.mcp.tools_of(&name).ok_or_else(|| missing("MCP server"))?;
    let shown = |tool: ToolListed| {
        // Omit a tool that no longer exists.
        let policy = policies(&app, &caller, &name, &tool.name)?;
        Some(ServerTool { policy, tool })
    };
    Ok(Json(ServerTools { tools: tools.into_iter().filter_map(shown).collect() }))
}

/// Which definition of a tool is confirmed.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct Confirmation {
    /// `unconfirmed.hash` of the tool, as it was looked at.
    hash: String,
}

/// Confirms a tool's definition that changed since it was judged: it is used from now on. Named by its hash, so that what is
/// confirmed is what was looked at.
#[utoipa::path(post, operation_id = "confirm_tool_definition", path = "/api/mcp-servers/{name}/tools/{tool}/confirm", tag = "mcp servers",
    params(("name" = String, Path), ("tool" = String, Path)), request_body = Confirmation,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "Another definition waits, or none"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((name, tool)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let mut fields = Fields::of_body(&app, body, FieldFilter::Of(&["hash"])).await?;
    let hash = fields.required("hash", Shape::Line(64));
    fields.finish()?;
    let address = app.mcp.address_of(&name).ok_or_else(|| missing("MCP server"))?;
    if app.mcp.definition_of(&name, &tool).is_none() {
        return Err(missing("tool"));
    }
    let (now, by) = (clock::now(), caller.name.as_str());
    let mut transaction = app.pool.begin().await?;
    let key = ToolKey { server: ServerKey { name: &name, address: &address }, name: &tool };
    if !definitions::confirm(&mut transaction, key, &hash, by, now).await? {
        let detail = format!(
            "this definition of `{tool}` does not wait for a confirmation any more: it changed again, or was confirmed already; look at it anew"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let event = AuditEvent::new(&caller.actor(), AuditAction::ToolConfirm, now);
    audit::add(&mut *transaction, &event.on("tool", format!("{name} {tool}")).detail(hash)).await?;
    transaction.commit().await?;
    app.mcp.review().await;
    tracing::info!(server = name, tool, "a changed definition of a tool was confirmed");
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the session of a server and connects anew.
#[utoipa::path(post, operation_id = "reconnect_mcp_server", path = "/api/mcp-servers/{name}/reconnect", tag = "mcp servers", params(("name" = String, Path)),
    responses((status = 202, body = ServerDetail), (status = 404, body = Problem)))]
pub async fn reconnect(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<ServerDetail>), Problem> {
    if !app.mcp.reconnect(&name) {
        return Err(missing("MCP server"));
    }
    record(&app, &caller, AuditAction::McpServerReconnect, "mcp_server", &name).await;
    detail(&app, &name).map(|detail| (StatusCode::ACCEPTED, Json(detail)))
}

/// Returns the field of the body that a configuration error concerns, without the server name in it.
fn wrong(settings: &Value, ConfigError { setting, problem }: ConfigError) -> FieldError {
    let server = format!("`mcp` server `{}` ", settings["name"].as_str().unwrap_or_default());
    let field = setting.strip_prefix(&server).unwrap_or(&setting);
    let (field, part) = field.split_once(' ').unwrap_or((field, ""));
    let problem = if part.is_empty() { problem } else { format!("{part} {problem}") };
    FieldError { field: field.to_owned(), problem }
}

/// Removes `null` fields, which count as absent.
fn without_nulls(mut settings: Value) -> Value {
    if let Some(fields) = settings.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    settings
}
