//! `/v1`: the agents as models of an OpenAI-compatible endpoint, for chat clients and SDKs.
//!
//! Clients send the whole history each time. A history that ends with an answer stored for the same user continues that
//! conversation; any other history opens a new conversation. Auxiliary tasks of the client, such as titles, are answered
//! separately: without tools and without a conversation.

mod client;
mod client_task;
mod error;
mod reply;
mod request;

use super::chat::{SentEvent, abandoned};
use super::parse::parsed;
use crate::app::App;
use crate::chat::{self, Ask, SingleCompletion, StartedTurn};
use crate::db::{agents, conversations};
use crate::domain::{Caller, Profile};
use crate::evidence::redact;
use crate::evidence::untrusted::markdown::{self, RenderTarget};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use client::Client;
use reply::{Head, Open};
use request::Completion;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

pub use error::ApiError;
pub(super) use error::convert_problems;
pub(crate) use error::{BASE, OpenAiError, of_problem};

/// An agent, as a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelObject {
    /// Its name.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// When it was added, in seconds since 1970.
    created: i64,
    /// Always `regreen`.
    owned_by: &'static str,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    object: &'static str,
    /// The shipped ones first.
    data: Vec<ModelObject>,
}

impl From<Profile> for ModelObject {
    fn from(agent: Profile) -> Self {
        Self { id: agent.name, object: "model", created: agent.created_at.timestamp(), owned_by: "regreen" }
    }
}

/// The agents, as models.
#[utoipa::path(get, operation_id = "list_models", path = "/v1/models", tag = "openai",
    responses((status = 200, description = "As OpenAI's list of models", body = ModelList), (status = 503, body = OpenAiError)))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelList>, ApiError> {
    let agents = agents::list(&app.pool).await?;
    Ok(Json(ModelList { object: "list", data: agents.into_iter().map(ModelObject::from).collect() }))
}

/// One agent, as a model.
#[utoipa::path(get, operation_id = "get_model", path = "/v1/models/{name}", tag = "openai",
    params(("name" = String, Path, description = "Name of an agent")),
    responses((status = 200, description = "As OpenAI's model", body = ModelObject), (status = 404, body = OpenAiError),
        (status = 503, body = OpenAiError)))]
pub async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    Ok(Json(called(&app, &name).await?.into()))
}

/// A completion by an agent; tools are called here, not by the client.
#[utoipa::path(post, operation_id = "create_chat_completion", path = "/v1/chat/completions", tag = "openai",
    request_body = request::Described,
    responses((status = 200, description = "As OpenAI's chat completion, or its chunks", content((Object = "application/json"), (SentEvent = "text/event-stream"))),
        (status = 400, description = "The body cannot be read, or a parameter cannot be honoured: `param` names it", body = OpenAiError),
        (status = 404, body = OpenAiError), (status = 409, body = OpenAiError), (status = 413, body = OpenAiError),
        (status = 500, body = OpenAiError), (status = 503, body = OpenAiError)))]
pub async fn complete(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| {
        ApiError::new(rejection.status(), "the body could not be read", "bad_request")
    })?;
    let read = parsed(&app.blocking, body, Completion::read).await;
    let request = read.map_err(|busy| ApiError::full(busy.detail))??;
    if let Some(task) = client_task::recognised(&request.messages) {
        return beside(&app, caller, request, task).await;
    }
    request.parameters.for_an_agent()?;
    let Some((question, before)) = request.messages.split_last().filter(|(last, _)| last.role == "user")
    else {
        return Err(ApiError::bad("the last message has to be the user's").about("messages"));
    };
    if question.text().trim().is_empty() {
        return Err(ApiError::bad("the last message says nothing").about("messages"));
    }
    let agent = called(&app, &request.model).await?;
    let client = Client::new(agent.id, &caller, request.user.as_deref());
    let conversation = match before {
        [] => None,
        _ => conversations::of_thread(&app.pool, &client.thread(before, None)).await?,
    };
    let said = request.user.clone().filter(|user| user.len() <= 100 && !user.contains(char::is_control));
    let ask = Ask {
        message: question.text(),
        conversation,
        agent: Some(agent.id),
        incident: None,
        author: redact::plain(&caller.named(said).name),
        sampling: request.parameters.sampling,
        caller,
        before: before.iter().map(|turn| turn.said(&request.model)).collect(),
    };
    let StartedTurn { turn, conversation, answer } = chat::begin(&app, ask).await?;
    let events = answer.read(0, abandoned(&app));
    let (streams, usage) = (request.streams(), request.parameters.include_usage);
    let head = Head { id: turn, model: request.model };
    let open = Open { app, head, conversation, client, messages: request.messages };
    if streams {
        return Ok(open.stream(events, usage));
    }
    open.whole(events).await
}

/// Answers an auxiliary task of a client: with a model if one is available, else from the prompt.
async fn beside(
    app: &App,
    caller: Caller,
    request: Completion,
    task: client_task::Kind,
) -> Result<Response, ApiError> {
    if request.parameters.json && !task.is_json() {
        return Err(request::unsupported(
            "response_format",
            "`response_format`: this prompt asks for a line of text",
        ));
    }
    let profile = called(app, &request.model).await?;
    let mut texts: Vec<String> = request.messages.iter().map(request::Turn::text).collect();
    let prompt = texts.pop().unwrap_or_default();
    let sampling = request.parameters.sampling;
    let plain = SingleCompletion { system: texts, prompt, profile, sampling, caller };
    let written = chat::complete_once(app, plain).await?;
    let harmless = |text: &str| markdown::sanitize(text, &app.config.privacy.links, RenderTarget::Answer);
    let shaped = written.text.as_deref().and_then(|text| task.shaped(text, harmless));
    let mut answer = shaped.unwrap_or_else(|| task.by_code(&written.prompt, harmless));
    let ends = request.parameters.stop.iter().filter_map(|stop| answer.find(stop.as_str()));
    if let Some(end) = ends.min() {
        answer.truncate(end);
    }
    let stream = request.streams().then_some(request.parameters.include_usage);
    let head = Head { id: Uuid::now_v7(), model: request.model };
    Ok(head.answer(&answer, written.usage, stream))
}

/// Returns the agent of this name.
async fn called(app: &App, name: &str) -> Result<Profile, ApiError> {
    let mut known = agents::list(&app.pool).await?;
    if let Some(at) = known.iter().position(|agent| agent.name == name) {
        return Ok(known.swap_remove(at));
    }
    let names: Vec<&str> = known.iter().map(|agent| agent.name.as_str()).collect();
    let message = format!("there is no agent `{}`; there is {}", name.escape_debug(), names.join(", "));
    Err(ApiError::new(StatusCode::NOT_FOUND, message, "model_not_found").about("model"))
}
