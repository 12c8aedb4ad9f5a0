//! MCP servers: how they are, what they offer; one can be added, removed, connected anew, and its reading tools tried.

use super::asked::Posted;
use super::forms::{self, Kind, Refused, Sent, field};
use super::page::{self, Trouble, value};
use super::schema_form;
use crate::app::App;
use crate::domain::Access;
use crate::evidence::redact::Redactor;
use crate::http::{self, Problem, missing};
use crate::mcp::ToolListed;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use std::sync::Arc;

/// The fields of the form, as the API takes them.
const FIELDS: [(&str, Kind); 10] = [
    ("name", Kind::Text),
    ("transport", Kind::Text),
    ("url", Kind::Text),
    ("command", Kind::Lines),
    ("headers", Kind::Pairs),
    ("env", Kind::Pairs),
    ("allow", Kind::Lines),
    ("deny", Kind::Lines),
    ("read", Kind::Lines),
    ("write", Kind::Lines),
];
/// Most of a result that is shown, in bytes.
const MAX_RESULT: usize = 100_000;

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Html<String>, Trouble> {
    listed(&app, None).await
}

async fn listed(app: &Arc<App>, refused: Option<Refused>) -> Result<Html<String>, Trouble> {
    let servers = http::mcp_servers::list(State(Arc::clone(app))).await.0;
    let values = context! {
        servers => value(&servers),
        commands => app.config.added.commands.clone(),
        secrets => app.config.added.secrets.clone(),
        refused => refused.map(value),
    };
    page::show(app, "/mcp-servers", "servers.html", values).await
}

pub(super) async fn add(State(app): State<Arc<App>>, Posted(sent): Posted) -> Result<Response, Trouble> {
    let body = forms::body(&sent, &FIELDS);
    match http::mcp_servers::add(State(Arc::clone(&app)), Ok(body)).await {
        Ok(_) => Ok(Redirect::to(&format!("/mcp-servers/{}", field(&sent, "name"))).into_response()),
        Err(problem) if matches!(problem.status, 400 | 409 | 422) => {
            Ok(listed(&app, Some(Refused::new(sent, problem))).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Html<String>, Trouble> {
    let server = http::mcp_servers::get(State(Arc::clone(&app)), Path(name.clone())).await?.0;
    let tools = http::mcp_servers::tools(State(Arc::clone(&app)), Path(name)).await?.0;
    let values = context! { server => value(&server), tools => value(&tools) };
    page::show(&app, "/mcp-servers", "server.html", values).await
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Posted(sent): Posted,
) -> Result<Redirect, Trouble> {
    if field(&sent, "do") == "remove" {
        http::mcp_servers::remove(State(app), Path(name)).await?;
        return Ok(Redirect::to("/mcp-servers"));
    }
    let path = format!("/mcp-servers/{name}");
    http::mcp_servers::reconnect(State(app), Path(name)).await.map(drop)?;
    Ok(Redirect::to(&path))
}

fn listed_tool(app: &App, server: &str, tool: &str) -> Result<ToolListed, Problem> {
    let tools = app.mcp.tools_of(server).ok_or_else(|| missing("MCP server"))?;
    tools.into_iter().find(|known| known.name == tool).ok_or_else(|| missing("tool"))
}

pub(super) async fn tool(
    State(app): State<Arc<App>>,
    Path((server, tool)): Path<(String, String)>,
) -> Result<Html<String>, Trouble> {
    let listed = listed_tool(&app, &server, &tool)?;
    tool_page(&app, &server, &listed, &Vec::new(), Value::from(())).await
}

/// Calls a reading tool with the arguments of a form. What comes back has its secrets taken out, as for a model.
pub(super) async fn try_tool(
    State(app): State<Arc<App>>,
    Path((server, tool)): Path<(String, String)>,
    Posted(sent): Posted,
) -> Result<Html<String>, Trouble> {
    let listed = listed_tool(&app, &server, &tool)?;
    if listed.access != Access::Read {
        let detail =
            "this tool changes something: a model may ask for it in a chat, and a person allows it there";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).into());
    }
    let (text, failed) = match schema_form::arguments(&listed.input_schema, &sent) {
        Ok(arguments) => {
            let cancel = app.shutdown.token().child_token();
            http::audit::record(&app, http::audit::NOBODY, "tool.try", ("tool", &format!("{server} {tool}")))
                .await;
            match app.mcp.call(&server, &tool, arguments, cancel).await {
                Ok(result) => (result.text, result.is_error),
                Err(error) => (error.to_string(), true),
            }
        }
        Err(problem) => (problem, true),
    };
    let mut text = Redactor::new().redact(&text);
    let size = text.len();
    let end = text.floor_char_boundary(MAX_RESULT);
    text.truncate(end);
    let came = context! { text, failed, size, cut => size > end };
    tool_page(&app, &server, &listed, &sent, came).await
}

/// A tool with the form made from its schema, and what came back of a call, if it was called.
async fn tool_page(
    app: &App,
    server: &str,
    tool: &ToolListed,
    sent: &Sent,
    came: Value,
) -> Result<Html<String>, Trouble> {
    let values = context! {
        server,
        came,
        tool => value(tool),
        inputs => value(schema_form::inputs(&tool.input_schema, sent)),
        schema => serde_json::to_string_pretty(&tool.input_schema).unwrap_or_default(),
    };
    page::show(app, "/mcp-servers", "tool.html", values).await
}
