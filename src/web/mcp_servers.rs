//! MCP servers page: status and tools; servers can be added, removed and reconnected, and tools that the policy allows can
//! be tried.

use super::error::PageError;
use super::extract::PageForm;
use super::forms::{self, FormFields, Kind, RejectedForm, field};
use super::logs::{LIMIT, overloaded};
use super::page::PageContext;
use super::schema_form;
use super::value::value;
use crate::api::{self, Problem, missing};
use crate::app::App;
use crate::audit::Recorder;
use crate::db::audit;
use crate::domain::policy::{AccessDecision, CallContext, Decision};
use crate::domain::{Actor, AuditAction, Caller, Definition};
use crate::evidence::redact::Redactor;
use crate::evidence::untrusted::hidden;
use crate::mcp::{ToolCaller, ToolListed};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use std::sync::Arc;

/// Fields of the form, as in the API.
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
/// Maximum length of a displayed result, in bytes.
const MAX_RESULT: usize = 100_000;

pub(super) async fn list(page: PageContext) -> Result<Html<String>, PageError> {
    listed(&page, None).await
}

async fn listed(page: &PageContext, refused: Option<RejectedForm>) -> Result<Html<String>, PageError> {
    let servers = api::mcp_servers::list(State(Arc::clone(&page.app))).await.0;
    let values = context! {
        servers => value(&servers),
        commands => page.app.config.added.commands.clone(),
        secrets => page.app.config.added.secrets.clone(),
        refused => refused.map(value),
    };
    page.show("/mcp-servers", "servers.html", values).await
}

pub(super) async fn add(
    page: PageContext,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &FIELDS);
    match api::mcp_servers::add(State(Arc::clone(&page.app)), caller, Ok(body)).await {
        Ok(_) => Ok(Redirect::to(&format!("/mcp-servers/{}", field(&sent, "name"))).into_response()),
        Err(problem) if matches!(problem.status, 400 | 409 | 422) => {
            Ok(listed(&page, Some(RejectedForm::new(sent, problem))).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn show(
    page: PageContext,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Html<String>, PageError> {
    let server = api::mcp_servers::get(State(Arc::clone(&page.app)), Path(name.clone())).await?.0;
    let server_name = name.clone();
    let tools = api::mcp_servers::tools(State(Arc::clone(&page.app)), caller, Path(name)).await?.0;
    let changed = changed(&page.app, &server_name);
    let values = context! { server => value(&server), tools => value(&tools), changed };
    page.show("/mcp-servers", "server.html", values).await
}

/// Returns the tools whose definition waits for an admin: the confirmed and the current definition, with hidden characters
/// spelled out.
fn changed(app: &App, server: &str) -> Vec<Value> {
    let shown = |definition: &Definition| {
        let schema = serde_json::to_string_pretty(&definition.input_schema).unwrap_or_default();
        let texts = (hidden::spelled_out(&definition.description), hidden::spelled_out(&schema));
        context! { access => value(definition.access), reads => definition.reads, description => texts.0, schema => texts.1 }
    };
    let tools = app.mcp.tools_of(server).unwrap_or_default();
    let waiting = tools.iter().filter_map(|tool| Some((tool, tool.unconfirmed.as_ref()?)));
    let waiting = waiting.map(|(tool, change)| {
        let difference = change.before.as_ref().map(|before| before.difference(&change.now));
        context! {
            name => tool.name.clone(), hash => change.hash.clone(), since => value(change.since), difference,
            before => change.before.as_ref().map(shown), now => shown(&change.now),
        }
    });
    waiting.collect()
}

/// Confirms a changed definition by the hash that the page showed.
pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((server, tool)): Path<(String, String)>,
    PageForm(sent): PageForm,
) -> Result<Redirect, PageError> {
    let body = forms::body(&sent, &[("hash", Kind::Text)]);
    let path = format!("/mcp-servers/{server}");
    api::mcp_servers::confirm(State(app), caller, Path((server, tool)), Ok(body)).await?;
    Ok(Redirect::to(&path))
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Redirect, PageError> {
    if field(&sent, "do") == "remove" {
        api::mcp_servers::remove(State(app), caller, Path(name)).await?;
        return Ok(Redirect::to("/mcp-servers"));
    }
    let path = format!("/mcp-servers/{name}");
    api::mcp_servers::reconnect(State(app), caller, Path(name)).await.map(drop)?;
    Ok(Redirect::to(&path))
}

fn listed_tool(app: &App, server: &str, tool: &str) -> Result<ToolListed, Problem> {
    let tools = app.mcp.tools_of(server).ok_or_else(|| missing("MCP server"))?;
    tools.into_iter().find(|known| known.name == tool).ok_or_else(|| missing("tool"))
}

pub(super) async fn tool(
    page: PageContext,
    caller: Caller,
    Path((server, tool)): Path<(String, String)>,
) -> Result<Html<String>, PageError> {
    let listed = listed_tool(&page.app, &server, &tool)?;
    let shown = ToolView { server: &server, tool: &listed, asker: &CallContext::page(caller) };
    tool_page(&page, &shown, &Vec::new(), Value::from(())).await
}

/// Calls a tool with the arguments of a form if the policy allows it. Secrets in the result are redacted, as for a model.
pub(super) async fn try_tool(
    page: PageContext,
    caller: Caller,
    Path((server, tool)): Path<(String, String)>,
    PageForm(sent): PageForm,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
    let listed = listed_tool(app, &server, &tool)?;
    let asker = CallContext::page(caller.clone());
    let standing = app.mcp.evaluate(&asker, &server, &tool).ok_or_else(|| missing("tool"))?;
    if standing.decision != Decision::Allow {
        return Err(Problem::new(StatusCode::FORBIDDEN, standing.reason).into());
    }
    let (schema, _) = standing.offered(&listed.input_schema);
    let (text, failed) = match schema_form::arguments(&schema, &sent) {
        Ok(arguments) => call(app, &caller, &server, &tool, arguments).await,
        Err(problem) => (problem, true),
    };
    let redacted = app.blocking.run_checked(LIMIT, move |deadline| {
        let mut text = Redactor::new().redact_within(&text, deadline)?;
        let (size, end) = (text.len(), text.floor_char_boundary(MAX_RESULT));
        text.truncate(end);
        Ok((text, size, end))
    });
    let (text, size, end) = redacted.await.map_err(overloaded)?;
    let came = context! { text, failed, size, cut => size > end };
    tool_page(&page, &ToolView { server: &server, tool: &listed, asker: &asker }, &sent, came).await
}

/// Returns the result of a call and whether it failed.
async fn call(
    app: &App,
    caller: &Caller,
    server: &str,
    tool: &str,
    arguments: serde_json::Value,
) -> (String, bool) {
    let recorder = Recorder::new(Actor::service(&caller.request));
    let asked =
        ToolCaller { context: Arc::new(CallContext::page(caller.clone())), recorder: recorder.clone() };
    let came = match app.mcp.authorize(&asked, server, tool, arguments) {
        Ok(AccessDecision::Allowed(permit)) => {
            let cancel = app.shutdown.token().child_token();
            let named = format!("{server} {tool}");
            api::audit::record(app, caller, AuditAction::ToolTry, "tool", &named).await;
            match app.mcp.call(permit, &recorder, cancel).await {
                Ok(result) => (result.text, result.is_error),
                Err(error) => (error.to_string(), true),
            }
        }
        Ok(AccessDecision::Denied(denied)) => (denied.to_string(), true),
        Ok(AccessDecision::NeedsApproval(_)) => ("it needs a person's approval".to_owned(), true),
        Err(error) => (error.to_string(), true),
    };
    audit::flush(&app.pool, &recorder).await;
    came
}

/// Subject and reader of a tool's page.
struct ToolView<'a> {
    server: &'a str,
    tool: &'a ToolListed,
    asker: &'a CallContext,
}

/// Renders the page of a tool: a form made from its schema, and the result of a call, if any.
async fn tool_page(
    page: &PageContext,
    shown: &ToolView<'_>,
    sent: &FormFields,
    came: Value,
) -> Result<Html<String>, PageError> {
    let ToolView { server, tool, asker } = *shown;
    let standing = page.app.mcp.evaluate(asker, server, &tool.name).ok_or_else(|| missing("tool"))?;
    let (schema, words) = standing.offered(&tool.input_schema);
    let values = context! {
        server,
        came,
        words,
        allowed => standing.decision == Decision::Allow,
        reason => standing.reason.clone(),
        rule => standing.rule_name(),
        tool => value(tool),
        inputs => value(schema_form::inputs(&schema, sent)),
        schema => serde_json::to_string_pretty(&tool.input_schema).unwrap_or_default(),
    };
    page.show("/mcp-servers", "tool.html", values).await
}
