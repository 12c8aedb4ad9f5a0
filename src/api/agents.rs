//! `/api/agents`: the agents that answer in conversations.

use super::audit::record;
use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{FieldError, Problem};
use super::reports::{known_id, missing};
use crate::app::App;
use crate::chat;
use crate::clock;
use crate::db::agents;
use crate::domain::{AuditAction, Caller, Profile, Prompt};
use crate::evidence::redact::Redactor;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Fields of an agent's settings.
const FIELDS: FieldFilter = FieldFilter::Of(&[
    "name",
    "description",
    "prompt_file",
    "prompt",
    "model",
    "temperature",
    "max_output_tokens",
    "tools",
    "turns",
    "total_tokens",
]);
/// Maximum number of tool globs per agent.
const MAX_GLOBS: usize = 100;
/// Maximum length of a prompt, in bytes.
const MAX_PROMPT: usize = 50_000;

/// All agents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agents {
    /// The shipped ones first.
    agents: Vec<Profile>,
}

/// An agent's settings; those that are left out of a change stay, `null` takes the configured value.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct Settings {
    /// Unique, one line of at most 100 bytes.
    name: Option<String>,
    /// What it is for.
    description: Option<String>,
    /// A file of `prompts/` whose name begins with `agent-`.
    prompt_file: Option<String>,
    /// Its instructions, a minijinja template with `name` and `description`; in place of a file.
    prompt: Option<String>,
    /// Another model of the configured endpoint.
    model: Option<String>,
    /// 0 to 2.
    temperature: Option<f32>,
    /// Longest answer in tokens.
    max_output_tokens: Option<i32>,
    /// Tools it may call, as globs over their names; empty for all. Calls of those that change something wait for a person's approval.
    tools: Option<Vec<String>>,
    /// Completions of one answer, 1 to 100.
    turns: Option<i32>,
    /// Tokens of one answer.
    total_tokens: Option<i64>,
}

/// All agents.
#[utoipa::path(get, operation_id = "list_agents", path = "/api/agents", tag = "agents",
    responses((status = 200, body = Agents), (status = 503, body = Problem)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Agents>, Problem> {
    Ok(Json(Agents { agents: agents::list(&app.pool).await? }))
}

/// One agent.
#[utoipa::path(get, operation_id = "get_agent", path = "/api/agents/{id}", tag = "agents", params(("id" = Uuid, Path)),
    responses((status = 200, body = Profile), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Profile>, Problem> {
    let agent = agents::get(&app.pool, known_id(&id)?).await?;
    agent.map(Json).ok_or_else(|| missing("agent"))
}

/// Adds an agent. Its prompt is rendered once, so that a mistake shows now.
#[utoipa::path(post, operation_id = "add_agent", path = "/api/agents", tag = "agents", request_body = Settings,
    responses((status = 201, body = Profile), (status = 400, body = Problem), (status = 409, body = Problem, description = "The name is taken"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Profile>), Problem> {
    let now = clock::now();
    let empty = Profile {
        id: Uuid::now_v7(),
        name: String::new(),
        description: String::new(),
        prompt: Prompt::Text(String::new()),
        model: None,
        temperature: None,
        max_output_tokens: None,
        tools: Vec::new(),
        turns: None,
        total_tokens: None,
        built_in: false,
        created_at: now,
        updated_at: now,
    };
    let profile = read(&app, empty, Fields::of_body(&app, body, FIELDS).await?)?;
    put(&app, &caller, profile).await.map(|profile| (StatusCode::CREATED, Json(profile)))
}

/// Changes an agent.
#[utoipa::path(patch, operation_id = "change_agent", path = "/api/agents/{id}", tag = "agents", params(("id" = Uuid, Path)), request_body = Settings,
    responses((status = 200, body = Profile), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "The name is taken, or the agent is a shipped one"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Profile>, Problem> {
    let known = changeable(&app, &id).await?;
    let known = Profile { updated_at: clock::now(), ..known };
    let profile = read(&app, known, Fields::of_body(&app, body, FIELDS).await?)?;
    put(&app, &caller, profile).await.map(Json)
}

/// Removes an agent; its conversations stay and are answered by a shipped one.
#[utoipa::path(delete, operation_id = "remove_agent", path = "/api/agents/{id}", tag = "agents", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem, description = "A shipped one"),
        (status = 503, body = Problem)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let known = changeable(&app, &id).await?;
    if !agents::remove(&app.pool, known.id).await? {
        return Err(missing("agent"));
    }
    record(&app, &caller, AuditAction::AgentDelete, "agent", &known.name).await;
    tracing::info!(agent = known.name, "an agent was removed");
    Ok(StatusCode::NO_CONTENT)
}

async fn changeable(app: &App, id: &str) -> Result<Profile, Problem> {
    let known = agents::get(&app.pool, known_id(id)?).await?.ok_or_else(|| missing("agent"))?;
    if known.built_in {
        let detail =
            format!("`{}` ships with the program and stays as it is; add an agent of your own", known.name);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(known)
}

async fn put(app: &App, caller: &Caller, profile: Profile) -> Result<Profile, Problem> {
    let mut redactor = Redactor::new();
    let mut plain = |text: &str| redactor.redact(text);
    let profile = Profile {
        name: plain(&profile.name),
        description: plain(&profile.description),
        prompt: match profile.prompt {
            Prompt::Text(text) => Prompt::Text(plain(&text)),
            file @ Prompt::File(_) => file,
        },
        model: profile.model.as_deref().map(&mut plain),
        tools: profile.tools.iter().map(|tool| plain(tool)).collect(),
        ..profile
    };
    if !agents::put(&app.pool, &profile).await? {
        let detail = format!("there is another agent called `{}`", profile.name);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    record(app, caller, AuditAction::AgentStore, "agent", &profile.name).await;
    tracing::info!(agent = profile.name, "an agent was stored");
    Ok(profile)
}

/// Applies the settings in the body to an existing profile.
fn read(app: &App, known: Profile, mut fields: Fields) -> Result<Profile, Problem> {
    let mut profile = known;
    if profile.name.is_empty() || fields.has("name") {
        profile.name = fields.required("name", Shape::Line(100)).trim().to_owned();
    }
    if fields.has("description") {
        profile.description = fields.optional("description", Shape::Line(500)).unwrap_or_default();
    }
    let (file, text) =
        (fields.optional("prompt_file", Shape::Line(100)), fields.optional("prompt", Shape::Text));
    match (file, text) {
        (Some(_), Some(_)) => fields.error("prompt", "is given beside `prompt_file`; one of them is enough"),
        (Some(file), None) => profile.prompt = Prompt::File(file),
        (None, Some(text)) if text.len() > MAX_PROMPT => {
            fields.error("prompt", format!("has to be at most {MAX_PROMPT} bytes"));
        }
        (None, Some(text)) => profile.prompt = Prompt::Text(text),
        (None, None) if profile.prompt == Prompt::Text(String::new()) => {
            fields.error("prompt", "or `prompt_file` is required");
        }
        (None, None) => {}
    }
    if fields.has("model") {
        profile.model = fields.optional("model", Shape::Line(200));
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    {
        if fields.has("temperature") {
            profile.temperature = fields.number("temperature", 0.0, 2.0).map(|number| number as f32);
        }
        if fields.has("max_output_tokens") {
            profile.max_output_tokens =
                fields.number("max_output_tokens", 1.0, 1e6).map(|number| number as i32);
        }
        if fields.has("turns") {
            profile.turns = fields.number("turns", 1.0, 100.0).map(|number| number as i32);
        }
        if fields.has("total_tokens") {
            profile.total_tokens = fields.number("total_tokens", 1_000.0, 1e9).map(|number| number as i64);
        }
    }
    if fields.has("tools") {
        profile.tools = fields.lines("tools", MAX_GLOBS).unwrap_or_default();
    }
    fields.finish()?;
    let wrong = |field: &str, error: anyhow::Error| {
        Problem::fields(vec![FieldError { field: field.to_owned(), problem: format!("{error:#}") }])
    };
    chat::check_tools(&profile.tools).map_err(|error| wrong("tools", error))?;
    let field = if matches!(profile.prompt, Prompt::File(_)) { "prompt_file" } else { "prompt" };
    chat::check_prompt(&app.prompts, &profile).map_err(|error| wrong(field, error))?;
    Ok(profile)
}
