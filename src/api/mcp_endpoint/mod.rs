//! `/mcp`: Regreen as an MCP server (streamable HTTP), for editors and other agents.

mod prompts;
mod resources;
mod triage;

use super::body_limit::BodyLimit;
use super::json;
use super::problem::Problem;
use super::reports;
use crate::app::App;
use crate::db::documents::Realm;
use crate::db::incidents;
use crate::db::reports::leader;
use crate::domain::policy::{AccessDecision, CallContext, Target};
use crate::domain::{Access, Caller, Role};
use crate::knowledge::Query;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams,
    GetPromptResponse, Implementation, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use std::sync::Arc;
use triage::Progress;
use uuid::Uuid;

/// Maximum size of a message. Longer logs can be sent to `/report-failure`.
pub(crate) const LIMIT: BodyLimit = BodyLimit::kib(1024);
/// Maximum number of values in a message, of which the library builds a tree.
const MAX_VALUES: usize = 10_000;
/// Maximum size of an answer of an API handler, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Server name of these tools in the rules of the tool policy.
const OWN_NAME: &str = "regreen";
/// Default and maximum number of search hits.
const HITS: (u64, u64) = (5, 20);

/// Returns the service. Requests are stateless, so any replica can answer them.
pub(crate) fn service(app: &Arc<App>) -> StreamableHttpService<Endpoint, NeverSessionManager> {
    let door = Endpoint { app: Arc::clone(app) };
    let mut config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(LIMIT.bytes(app.config.server.body_limit))
        .with_cancellation_token(app.shutdown.token().clone());
    // Accept any host name unless the server listens on loopback, where the library's check prevents DNS rebinding.
    if !app.config.server.bind.is_loopback() {
        config = config.disable_allowed_hosts();
    }
    StreamableHttpService::new(move || Ok(door.clone()), Arc::default(), config)
}

/// Refuses messages with too many values before a tree is built. The library handles invalid JSON.
pub(crate) async fn limit_values(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let limit = LIMIT.bytes(usize::MAX);
    let Ok(body) = axum::body::to_bytes(body, limit).await else {
        return LIMIT.refusal(usize::MAX).into_response();
    };
    if json::count(&body).0 > MAX_VALUES {
        let detail = format!("the message holds more than {MAX_VALUES} values");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// Handler of MCP requests.
#[derive(Clone)]
pub(crate) struct Endpoint {
    app: Arc<App>,
}

fn tool(
    name: &'static str,
    description: &'static str,
    reads: bool,
    properties: &Value,
    required: &[&str],
) -> Tool {
    let schema = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let schema: JsonObject = schema.as_object().cloned().unwrap_or_default();
    Tool::new(name, description, schema)
        .with_annotations(ToolAnnotations::new().read_only(reads).destructive(false))
}

fn tools() -> Vec<Tool> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": HITS.1, "description": "most hits; 5 when left out"});
    vec![
        tool(
            "triage_failure",
            "Investigates a failed pod of a pipeline: collects its log, events and manifest, finds the cause and files one issue per cause. Waits for the outcome and tells how far it is.",
            false,
            &json!({
                "namespace": text("namespace of the pod"),
                "pod_name": text("name of the pod"),
                "container_name": text("the container that failed, if it is known"),
                "pipeline": text("name of the pipeline"),
                "repository": text("URL of the source"),
                "commit": text("commit that was built"),
                "log": text("the log, if the cluster cannot be asked for it"),
            }),
            &["namespace", "pod_name"],
        )
        .with_raw_output_schema(Arc::new(triage::schema().as_object().cloned().unwrap_or_default())),
        tool(
            "search_incidents",
            "Finds failures of before: what they were, what caused them, what people said of them and what helped.",
            true,
            &json!({"query": text("in words, or lines of a log"), "limit": limit}),
            &["query"],
        ),
        tool(
            "search_runbooks",
            "Finds runbooks, notes and alerts that apply to a problem.",
            true,
            &json!({"query": text("in words, or lines of a log"), "limit": limit}),
            &["query"],
        ),
        tool(
            "get_report",
            "How a failure report went: its steps, its evidence and the conclusion with its cited lines.",
            true,
            &json!({"id": text("id of the report")}),
            &["id"],
        ),
    ]
}

impl ServerHandler for Endpoint {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("regreen", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Regreen finds out why pipelines fail. Search before you report; a report files an issue.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let known = tools().into_iter().find(|tool| tool.name == request.name);
        let Some(known) = known else {
            let message = format!("there is no tool `{}`", request.name.escape_debug());
            return Err(ErrorData::invalid_params(message, None));
        };
        let schema = Value::Object(known.input_schema.as_ref().clone());
        if let Err(error) = jsonschema::validate(&schema, &arguments) {
            return Ok(failed(format!("the arguments do not fit: {error}")).into());
        }
        let caller = caller(&context)?;
        if request.name.starts_with("search_") && caller.role < Role::Viewer {
            return Ok(failed(format!("a viewer may search; {} is a reporter", caller.name)).into());
        }
        let arguments = match self.permitted(&caller, &known, arguments) {
            Ok(arguments) => arguments,
            Err(denied) => return Ok(failed(denied).into()),
        };
        let text = |field: &str| arguments[field].as_str().unwrap_or_default().to_owned();
        let limit = usize::try_from(arguments["limit"].as_u64().unwrap_or(HITS.0).min(HITS.1)).unwrap_or(1);
        let result = match request.name.as_ref() {
            "triage_failure" => self.triage(caller, &arguments, Progress::of(&context)).await,
            "search_incidents" => self.search(&caller, Realm::Incident, &text("query"), limit).await,
            "search_runbooks" => self.search(&caller, Realm::Runbook, &text("query"), limit).await,
            _ => self.report(caller, text("id")).await,
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        self.resources(&caller(&context)?, cursor.as_deref()).await
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = self.resource(&caller(&context)?, &request.uri).await?;
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(prompts::list(&caller(&context)?))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.prompt(&caller(&context)?, request).await.map(GetPromptResponse::from)
    }
}

/// Returns the caller as authenticated before.
fn caller(context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    let caller = parts.and_then(|parts| parts.extensions.get::<Caller>()).cloned();
    caller.ok_or_else(|| ErrorData::internal_error("nobody asked who calls", None))
}

impl Endpoint {
    /// Returns the arguments as permitted by the tool policy, or why the call is not allowed.
    fn permitted(&self, caller: &Caller, tool: &Tool, arguments: Value) -> Result<Value, String> {
        let schema = Value::Object(tool.input_schema.as_ref().clone());
        let reads = tool.annotations.as_ref().and_then(|hints| hints.read_only_hint).unwrap_or(false);
        let access = if reads { Access::Read } else { Access::Write };
        let target = Target::new(OWN_NAME, &tool.name, access, Some(&schema));
        match self.app.mcp.policy().authorize(&CallContext::mcp_client(caller.clone()), &target, arguments) {
            AccessDecision::Allowed(permit) => Ok(permit.into_arguments()),
            AccessDecision::Denied(denied) => Err(denied.to_string()),
            AccessDecision::NeedsApproval(_) => {
                Err("it needs a person's approval, which cannot be asked for here".to_owned())
            }
        }
    }

    async fn search(&self, caller: &Caller, realm: Realm, text: &str, limit: usize) -> CallToolResult {
        let namespaces = caller.namespaces.as_deref();
        let query = Query { text, realms: &[realm], kind: None, applies_to: None, limit, namespaces };
        match self.app.knowledge.search(&query).await {
            Ok(found) => CallToolResult::structured(json!(found)),
            Err(error) => {
                tracing::error!(%error, "the database failed");
                failed("the database is away; try again in a moment".to_owned())
            }
        }
    }

    async fn report(&self, caller: Caller, id: String) -> CallToolResult {
        match self.shown(caller, id).await {
            Ok(shown) => CallToolResult::structured(shown),
            Err(problem) => failed(problem),
        }
    }

    /// Returns a report with its conclusion if the caller may read it; `evidence_of` is the report whose evidence the
    /// conclusion cites.
    async fn shown(&self, caller: Caller, id: String) -> Result<Value, String> {
        let (of, by) = (id.parse::<Uuid>().ok(), caller.clone());
        let detail = reports::get(State(Arc::clone(&self.app)), caller, Path(id)).await;
        let mut shown = json!(detail.map_err(|problem| problem.detail)?.0);
        // Omit tool results, which are long and are stored as evidence.
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("runs");
        }
        let Some(incident) = shown["incident_id"].as_str().and_then(|id| id.parse().ok()) else {
            return Ok(shown);
        };
        // The conclusion quotes the report that led to it, which may belong to another caller.
        let leads = leader(&self.app.pool, incident).await.ok().flatten();
        let is_own = leads.is_some() && leads == of;
        if (is_own || by.role > Role::Reporter)
            && let Ok(Some(incident)) = incidents::get(&self.app.pool, incident).await
            && by.may_touch(&incident.namespace)
        {
            shown["diagnosis"] = json!(incident.diagnosis);
            shown["issue_url"] = json!(incident.issue_url);
            shown["evidence_of"] = json!(leads);
        }
        Ok(shown)
    }
}

fn failed(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// Returns the JSON of a successful response of an API handler, or the error detail.
async fn answered(response: Response) -> Result<Value, String> {
    let good = response.status().is_success();
    let body = axum::body::to_bytes(response.into_body(), MAX_ANSWER).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if good {
        return Ok(value);
    }
    Err(value["detail"].as_str().unwrap_or("it failed; the log has more").to_owned())
}
