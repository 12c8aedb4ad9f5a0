//! Agents page: built-in agents can be viewed and copied, others changed.

use super::error::PageError;
use super::extract::PageForm;
use super::forms::{self, Kind, RejectedForm, field};
use super::page::PageContext;
use super::value::value;
use crate::api::{self, known_id, missing};
use crate::db::agents;
use crate::domain::{Caller, Profile, Prompt};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Fields of the form, as in the API.
const FIELDS: [(&str, Kind); 10] = [
    ("name", Kind::Text),
    ("description", Kind::Text),
    ("prompt_file", Kind::Text),
    ("prompt", Kind::Text),
    ("model", Kind::Text),
    ("temperature", Kind::Number),
    ("max_output_tokens", Kind::Number),
    ("tools", Kind::Lines),
    ("turns", Kind::Number),
    ("total_tokens", Kind::Number),
];

pub(super) async fn list(page: PageContext) -> Result<Html<String>, PageError> {
    listed(&page, None).await
}

async fn listed(page: &PageContext, refused: Option<RejectedForm>) -> Result<Html<String>, PageError> {
    let all = agents::list(&page.app.pool).await?;
    let values = context! { agents => value(&all), refused => refused.map(value) };
    page.show("/agents", "agents.html", values).await
}

pub(super) async fn add(
    page: PageContext,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &FIELDS);
    match api::agents::add(State(Arc::clone(&page.app)), caller, Ok(body)).await {
        Ok((_, added)) => Ok(Redirect::to(&format!("/agents/{}", added.id)).into_response()),
        Err(problem) if matches!(problem.status, 409 | 422) => {
            Ok(listed(&page, Some(RejectedForm::new(sent, problem))).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn show(page: PageContext, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    detail(&page, &id, None).await
}

async fn detail(
    page: &PageContext,
    id: &str,
    refused: Option<RejectedForm>,
) -> Result<Html<String>, PageError> {
    let agent = agents::get(&page.app.pool, known_id(id)?).await?.ok_or_else(|| missing("agent"))?;
    let sent = refused.as_ref().map_or_else(|| fields(&agent), |refused| refused.sent.clone());
    let text = match &agent.prompt {
        Prompt::File(name) => page.app.prompts.source(name),
        Prompt::Text(_) => None,
    };
    let values =
        context! { agent => value(&agent), sent => value(sent), text, refused => refused.map(value) };
    page.show("/agents", "agent.html", values).await
}

/// Converts an agent to the values of the form.
fn fields(agent: &Profile) -> Map<String, Value> {
    let (file, text) = match &agent.prompt {
        Prompt::File(name) => (Some(name), None),
        Prompt::Text(text) => (None, Some(text)),
    };
    let fields = json!({
        "name": agent.name,
        "description": agent.description,
        "prompt_file": file,
        "prompt": text,
        "model": agent.model,
        "temperature": agent.temperature.map(|heat| heat.to_string()),
        "max_output_tokens": agent.max_output_tokens,
        "tools": agent.tools.join("\n"),
        "turns": agent.turns,
        "total_tokens": agent.total_tokens,
    });
    fields.as_object().cloned().unwrap_or_default()
}

pub(super) async fn change(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    if field(&sent, "do") == "delete" {
        api::agents::remove(State(page.app), caller, Path(id)).await?;
        return Ok(Redirect::to("/agents").into_response());
    }
    let body = forms::body(&sent, &FIELDS);
    match api::agents::change(State(Arc::clone(&page.app)), caller, Path(id.clone()), Ok(body)).await {
        Ok(_) => Ok(Redirect::to(&format!("/agents/{id}")).into_response()),
        Err(problem) if matches!(problem.status, 409 | 422) => {
            Ok(detail(&page, &id, Some(RejectedForm::new(sent, problem))).await?.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
