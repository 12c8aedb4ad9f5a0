//! `/v1`: the agents as models of an OpenAI-compatible endpoint, for chat clients and SDKs.
//!
//! Clients send the whole history each time. A history that ends as a stored answer to the same person did goes on in that
//! conversation; any other one opens a conversation with what it brings.

use super::bodies::parsed;
use super::chat::{RETRY_AFTER, StreamEvent, abandoned};
use super::json::Words;
use super::problem::Problem;
use crate::app::App;
use crate::chat::{self, Ask, Begun, Refusal};
use crate::db::{agents, conversations};
use crate::domain::{Caller, Usage};
use crate::live::Happened;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest history, in bytes.
const MAX_HISTORY: usize = 1_000_000;
/// Most messages of a history.
const MAX_MESSAGES: usize = 10_000;

/// A request for a completion; other fields of the API are accepted and ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Completion {
    /// Name of an agent.
    model: String,
    /// The history; the last message is the user's.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Turn>,
    /// As server-sent events.
    #[serde(default)]
    stream: bool,
    /// With `include_usage`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    stream_options: Option<StreamOptions>,
    /// Who asks. Histories of different users of one caller are told apart.
    #[serde(default)]
    user: Option<String>,
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// One message of the history.
#[derive(Debug, Deserialize)]
pub struct Turn {
    role: String,
    #[serde(default)]
    content: Words,
}

impl Turn {
    /// Its text.
    fn text(&self) -> String {
        // The database's texts cannot hold a NUL.
        self.content.0.replace('\0', "\u{fffd}")
    }

    /// As a message of a conversation.
    fn said(&self, model: &str) -> (&'static str, String, String) {
        match self.role.as_str() {
            "assistant" => ("assistant", model.to_owned(), self.text()),
            "system" | "developer" => ("user", "client".to_owned(), self.text()),
            _ => ("user", "user".to_owned(), self.text()),
        }
    }
}

/// There is no room for another answer.
const FULL: &str = "overloaded";

/// An error in the API's own form.
pub struct ApiError(StatusCode, String, &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self(status, message, code) = self;
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        let mut response = (status, Json(body)).into_response();
        if code == FULL {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        response
    }
}

/// A refusal as OpenAI's clients know it.
pub(super) fn refusal(problem: &Problem) -> Response {
    let code = match problem.status {
        401 => "invalid_api_key",
        403 => "insufficient_permissions",
        400 | 413 => "bad_request",
        429 => "rate_limit_exceeded",
        _ => "unavailable",
    };
    ApiError(problem.code(), problem.detail.clone(), code).into_response()
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database is away; try again in a moment".into(),
            "unavailable",
        )
    }
}

/// The agents, as models.
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    responses((status = 200, description = "As OpenAI's list of models", body = Object), (status = 503, body = Object)))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let agents = agents::list(&app.pool).await?;
    let model = |agent: crate::domain::Profile| json!({"id": agent.name, "object": "model", "created": agent.created_at.timestamp(), "owned_by": "regreen"});
    Ok(Json(json!({"object": "list", "data": agents.into_iter().map(model).collect::<Vec<_>>()})))
}

/// A completion by an agent; tools are called here, not by the client.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = Completion,
    responses((status = 200, description = "As OpenAI's chat completion, or its chunks", content((Object = "application/json"), (StreamEvent = "text/event-stream"))),
        (status = 400, body = Object), (status = 404, body = Object), (status = 409, body = Object), (status = 413, body = Object),
        (status = 500, body = Object), (status = 503, body = Object)))]
pub async fn complete(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let bad = |message: String| ApiError(StatusCode::BAD_REQUEST, message, "bad_request");
    let body = body.map_err(|rejection| {
        ApiError(rejection.status(), "the body could not be read".into(), "bad_request")
    })?;
    let read = |body: &[u8]| serde_json::from_slice::<Completion>(body);
    let request = parsed(&app.blocking, body, read)
        .await
        .map_err(|busy| ApiError(busy.code(), busy.detail, FULL))?
        .map_err(|error| bad(format!("the body is not understood: {error}")))?;
    if request.messages.len() > MAX_MESSAGES {
        return Err(bad(format!("there are more than {MAX_MESSAGES} messages")));
    }
    if request.messages.iter().map(|turn| turn.content.0.len()).sum::<usize>() > MAX_HISTORY {
        return Err(bad(format!("the messages are longer than {MAX_HISTORY} bytes together")));
    }
    let Some((question, before)) = request.messages.split_last().filter(|(last, _)| last.role == "user")
    else {
        return Err(bad("the last message has to be the user's".into()));
    };
    if question.text().trim().is_empty() {
        return Err(bad("the last message says nothing".into()));
    }
    let agent = called(&app, &request.model).await?;
    let client = Client::new(agent.id, &caller, request.user.as_deref());
    let conversation = match before {
        [] => None,
        _ => conversations::of_thread(&app.pool, &client.thread(before, None)).await?,
    };
    let ask = Ask {
        message: question.text(),
        conversation,
        agent: Some(agent.id),
        incident: None,
        author: caller.author(
            request.user.clone().filter(|user| user.len() <= 100 && !user.contains(char::is_control)),
        ),
        caller,
        before: before.iter().map(|turn| turn.said(&request.model)).collect(),
    };
    let Begun { turn, conversation, answer } = chat::begin(&app, ask).await.map_err(refused)?;
    let events = answer.read(0, abandoned(&app));
    let open = Open { app, turn, conversation, client, model: request.model, messages: request.messages };
    if request.stream {
        let usage = request.stream_options.unwrap_or_default().include_usage;
        return Ok(open.stream(events, usage));
    }
    open.whole(events).await
}

/// The agent of this name.
async fn called(app: &App, name: &str) -> Result<crate::domain::Profile, ApiError> {
    let mut known = agents::list(&app.pool).await?;
    if let Some(at) = known.iter().position(|agent| agent.name == name) {
        return Ok(known.swap_remove(at));
    }
    let names: Vec<&str> = known.iter().map(|agent| agent.name.as_str()).collect();
    let message = format!("there is no agent `{}`; there is {}", name.escape_debug(), names.join(", "));
    Err(ApiError(StatusCode::NOT_FOUND, message, "model_not_found"))
}

fn refused(refusal: Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::Missing(_) => ApiError(StatusCode::NOT_FOUND, message, "not_found"),
        Refusal::Busy => ApiError(StatusCode::CONFLICT, message, "busy"),
        Refusal::Full => ApiError(StatusCode::SERVICE_UNAVAILABLE, message, FULL),
        Refusal::Stopping => ApiError(StatusCode::SERVICE_UNAVAILABLE, message, "unavailable"),
        Refusal::Database(error) => error.into(),
    }
}

/// Whose history it is: the agent that is asked, the caller, and whom the caller asks for. The same words of two people are
/// two conversations.
struct Client {
    agent: Uuid,
    caller: String,
    user: Option<String>,
}

impl Client {
    fn new(agent: Uuid, caller: &Caller, user: Option<&str>) -> Self {
        Self { agent, caller: caller.name.clone(), user: user.map(ToOwned::to_owned) }
    }

    /// What a history is recognised by: whose it is, and its messages, with the answer if there is one. Each field goes with
    /// its length, so that none can pass for a part of another.
    fn thread(&self, messages: &[Turn], answer: Option<&str>) -> String {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        field("regreen thread 2");
        field(&self.agent.to_string());
        field(&self.caller);
        // Nobody named is not the same as somebody without a name.
        field(if self.user.is_some() { "user" } else { "" });
        field(self.user.as_deref().unwrap_or_default());
        for turn in messages {
            field(&turn.role);
            field(turn.text().trim());
        }
        if let Some(answer) = answer {
            field("assistant");
            field(answer.trim());
        }
        hex::encode(hash.finalize())
    }
}

/// An answer on its way to a client.
struct Open {
    app: Arc<App>,
    turn: Uuid,
    conversation: Uuid,
    client: Client,
    model: String,
    messages: Vec<Turn>,
}

impl Open {
    fn body(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.turn.simple()), "object": object, "created": crate::clock::now().timestamp(),
            "model": self.model, "choices": choices,
        })
    }

    /// The next request whose history ends with this answer goes on here.
    async fn remember(&self, answer: &str) {
        let thread = self.client.thread(&self.messages, Some(answer));
        if let Err(error) = conversations::set_thread(&self.app.pool, self.conversation, &thread).await {
            tracing::warn!(%error, "the conversation will not be recognised");
        }
    }

    async fn whole(self, events: impl Stream<Item = Happened> + Send) -> Result<Response, ApiError> {
        let mut events = Box::pin(events);
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        let Some(done) = last.filter(|event| &*event.name == "done") else {
            return Err(ApiError(
                StatusCode::INTERNAL_SERVER_ERROR,
                "there is no answer; the log has more".into(),
                "failed",
            ));
        };
        let data: Value = serde_json::from_str(&done.data).unwrap_or_default();
        let text = data["message"]["text"].as_str().unwrap_or_default();
        self.remember(text).await;
        let message = json!({"role": "assistant", "content": text, "refusal": null});
        let choices =
            json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": reason(&data)}]);
        let mut body = self.body("chat.completion", &choices);
        body["usage"] = usage(&data["usage"]);
        Ok(Json(body).into_response())
    }

    fn stream(self, events: impl Stream<Item = Happened> + Send + 'static, with_usage: bool) -> Response {
        let begin = self.chunk(&json!({"role": "assistant", "content": ""}), &Value::Null);
        let state = (self, String::new(), Box::pin(events), false);
        let chunks = futures::stream::unfold(state, move |(open, mut sent, mut events, over)| async move {
            if over {
                return None;
            }
            loop {
                let event = events.next().await?;
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                match &*event.name {
                    // What was sent cannot be taken back: what comes instead stands below it.
                    "message.start" if !sent.is_empty() => {
                        sent.push_str("\n\n");
                        let chunk = open.chunk(&json!({"content": "\n\n"}), &Value::Null);
                        return Some((vec![chunk], (open, sent, events, false)));
                    }
                    "text.delta" => {
                        let text = data["text"].as_str().unwrap_or_default();
                        sent.push_str(text);
                        let chunk = open.chunk(&json!({"content": text}), &Value::Null);
                        return Some((vec![chunk], (open, sent, events, false)));
                    }
                    "done" => {
                        open.remember(&sent).await;
                        let mut chunks = vec![open.chunk(&json!({}), &json!(reason(&data)))];
                        if with_usage {
                            let mut last = open.body("chat.completion.chunk", &json!([]));
                            last["usage"] = usage(&data["usage"]);
                            chunks.push(last);
                        }
                        return Some((chunks, (open, sent, events, true)));
                    }
                    "failed" => {
                        let error = json!({"error": {"message": data["detail"], "type": "server_error", "param": null, "code": "failed"}});
                        return Some((vec![error], (open, sent, events, true)));
                    }
                    _ => {}
                }
            }
        });
        let chunks = futures::stream::iter([vec![begin]]).chain(chunks).flat_map(futures::stream::iter);
        let end = futures::stream::iter([Event::default().data("[DONE]")]);
        let events = chunks.map(|chunk| Event::default().data(chunk.to_string())).chain(end);
        Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
    }

    fn chunk(&self, delta: &Value, reason: &Value) -> Value {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        self.body("chat.completion.chunk", &choices)
    }
}

fn reason(data: &Value) -> &'static str {
    if data["stop_reason"] == "answered" { "stop" } else { "length" }
}

fn usage(data: &Value) -> Value {
    let usage: Usage = serde_json::from_value(data.clone()).unwrap_or_default();
    json!({"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": usage.total()})
}
