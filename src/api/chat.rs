//! `/api/chat`: questions, answered as a whole or as a stream.

use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{Problem, RETRY_AFTER};
use super::reports::{known_id, missing};
use crate::app::App;
use crate::chat::{self, Ask, AskError, StartedTurn};
use crate::db::events::{self, Appended};
use crate::db::runs;
use crate::db::turns::{self, TurnState};
use crate::domain::{
    Approval, Caller, ConversationMessage, Done, Event, Principal, StreamEvent, ToolCallRecord, Usage,
};
use crate::events::AnswerStream;
use crate::evidence::redact;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

const FIELDS: FieldFilter =
    FieldFilter::Of(&["message", "conversation_id", "agent_id", "incident_id", "author"]);
/// Maximum length of a question, in bytes.
const MAX_QUESTION: usize = 100_000;
/// Polling interval for the events of another replica, if no notification arrives.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Number of further polls for the final event after a turn has ended.
const LAST_LOOKS: u32 = 3;
const RUN: HeaderName = HeaderName::from_static("regreen-run");
const CONVERSATION: HeaderName = HeaderName::from_static("regreen-conversation");

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct Question {
    /// What is asked.
    message: String,
    /// In which conversation; a new one when left out.
    conversation_id: Option<Uuid>,
    /// To which agent; the conversation's, or the shipped one, when left out.
    agent_id: Option<Uuid>,
    /// About which incident: in its own conversation, when none is named.
    incident_id: Option<Uuid>,
    /// Who asks; `user` when left out. Taken only where nobody has to show who they are.
    author: Option<String>,
}

/// An event of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamEvent)]
pub struct SentEvent {
    /// For `Last-Event-ID`.
    id: Option<String>,
    /// `message.start`, `text.delta`, `tool.started`, `approval.required`, `tool.finished`, `usage`, `done` or `failed`.
    event: Option<String>,
    /// JSON.
    data: String,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatAnswer {
    /// The conversation.
    conversation_id: Uuid,
    /// The run that made it.
    run: Uuid,
    /// Why the run ended: `answered`, `cancelled`, `turns`, …
    stop_reason: String,
    /// The answer, with its citations.
    message: ConversationMessage,
    /// Every tool call.
    tool_calls: Vec<ToolCallRecord>,
    /// Calls that it asked for and that wait for a person.
    approvals: Vec<Approval>,
    /// Tokens used.
    usage: Usage,
}

/// Starts an answer to a question.
pub(crate) async fn begin(
    app: &Arc<App>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<StartedTurn, Problem> {
    let question = question(caller, Fields::of_body(app, body, FIELDS).await?)?;
    chat::begin(app, question).await.map_err(refused)
}

/// Parses the question.
fn question(caller: Caller, mut fields: Fields) -> Result<Ask, Problem> {
    let message = fields.required("message", Shape::Text);
    if message.len() > MAX_QUESTION {
        fields.error("message", format!("has to be at most {MAX_QUESTION} bytes"));
    }
    let (conversation, agent, incident) =
        (fields.id("conversation_id"), fields.id("agent_id"), fields.id("incident_id"));
    let author = redact::plain(&caller.named(fields.optional("author", Shape::Line(100))).name);
    fields.finish()?;
    Ok(Ask { message, conversation, agent, incident, caller, author, ..Ask::default() })
}

/// Maps the reason why a question is not answered to a problem.
fn refused(refusal: AskError) -> Problem {
    match refusal {
        AskError::Missing(_) => Problem::new(StatusCode::NOT_FOUND, refusal.to_string()),
        AskError::Busy => Problem::new(StatusCode::CONFLICT, refusal.to_string()),
        AskError::Full => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()).retry_after(RETRY_AFTER)
        }
        AskError::Stopping => Problem::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()),
        AskError::Database(error) => error.into(),
    }
}

/// Asks and waits for the whole answer.
#[utoipa::path(post, operation_id = "ask", path = "/api/chat", tag = "chat", request_body = Question,
    responses((status = 200, body = ChatAnswer), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "The conversation is being answered already"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 500, body = Problem), (status = 503, body = Problem)))]
pub async fn ask(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChatAnswer>, Problem> {
    let reader = Principal::from(&caller);
    let StartedTurn { turn, conversation, answer } = begin(&app, caller, body).await?;
    let mut events = Box::pin(answer.read(0, abandoned(&app)));
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    let failed = |detail: &str| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
    let Done { stop_reason, message, approvals, usage, .. } =
        match last.map(|last: StreamEvent| Arc::unwrap_or_clone(last.event)) {
            Some(Event::Done(done)) => *done,
            Some(Event::Failed { detail, .. }) => return Err(failed(&detail)),
            _ => return Err(failed("there is no answer; the log has more")),
        };
    let message = message.ok_or_else(|| failed("there is no answer; the log has more"))?;
    let made = runs::of_turns(&app.pool, &[turn], &reader).await?;
    let tool_calls = made.into_iter().flat_map(|(_, run)| run.tool_calls);
    Ok(Json(ChatAnswer {
        conversation_id: conversation,
        run: turn,
        stop_reason: stop_reason.as_str().to_owned(),
        message,
        tool_calls: tool_calls.collect(),
        approvals,
        usage: usage.unwrap_or_default(),
    }))
}

/// Asks and streams the answer as it is made (server-sent events): `message.start`, `text.delta`, `tool.started`,
/// `approval.required` (a call waits for a person), `tool.finished`, `usage`, and at the end `done` or `failed`; `next_run` in these
/// names the run that has begun since, if decisions were made meanwhile. The headers `Regreen-Run` and `Regreen-Conversation` name the run, whose
/// events can be read again from any of them on.
#[utoipa::path(post, operation_id = "ask_streaming", path = "/api/chat/stream", tag = "chat", request_body = Question,
    responses((status = 200, body = SentEvent, content_type = "text/event-stream"), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let StartedTurn { turn, conversation, answer } = begin(&app, caller, body).await?;
    let events = answer.read(0, abandoned(&app));
    Ok(respond(events, turn, conversation))
}

/// Reads the events of a run again, those after the `Last-Event-ID`, and goes on to its end. Of what is visible to whoever asked
/// alone, others are told that it happened.
#[utoipa::path(get, operation_id = "read_answer_events", path = "/api/chat/{run}/events", tag = "chat",
    params(("run" = Uuid, Path), ("Last-Event-ID" = Option<i32>, Header)),
    responses((status = 200, body = SentEvent, content_type = "text/event-stream"), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let run = known_id(&run)?;
    let turn = turns::get(&app.pool, run).await?.ok_or_else(|| missing("run"))?;
    let events = read(&app, run, last_event(&headers), Principal::from(&caller));
    Ok(respond(events, run, turn.conversation_id))
}

/// Returns the `Last-Event-ID` of a reader that reconnects, or 0.
pub(crate) fn last_event(headers: &HeaderMap) -> i32 {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
}

/// Returns the events of a run after `after`, from this replica, another one or the database, redacted for the reader.
pub(crate) fn read(
    app: &Arc<App>,
    run: Uuid,
    after: i32,
    reader: Principal,
) -> BoxStream<'static, StreamEvent> {
    let events = match app.live.get(run) {
        Some(answer) => answer.read(after, abandoned(app)).boxed(),
        None => elsewhere(Arc::clone(app), run, after).boxed(),
    };
    events.filter_map(move |event| std::future::ready(event.redacted_for(&reader))).boxed()
}

/// Stops an answer; what was written of it is kept.
#[utoipa::path(delete, operation_id = "stop_answer", path = "/api/chat/{run}", tag = "chat", params(("run" = Uuid, Path)),
    responses((status = 202, description = "It ends in a moment"), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "It has ended already"), (status = 503, body = Problem)))]
pub async fn stop(State(app): State<Arc<App>>, Path(run): Path<String>) -> Result<StatusCode, Problem> {
    let run = known_id(&run)?;
    let turn = turns::get(&app.pool, run).await?.ok_or_else(|| missing("run"))?;
    if turn.state != TurnState::Running {
        return Err(Problem::new(StatusCode::CONFLICT, "this run has ended already"));
    }
    stop_now(&app, run).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Stops an answer of this replica, or requests the stop from the replica that runs it.
pub(super) async fn stop_now(app: &App, run: Uuid) -> sqlx::Result<()> {
    match app.live.get(run) {
        Some(answer) => answer.stop.cancel(),
        None => turns::ask_to_stop(&app.pool, run).await?,
    }
    Ok(())
}

/// Returns the action for the departure of the last reader.
pub(super) fn abandoned(app: &App) -> impl FnOnce(&AnswerStream) + Send + 'static {
    let stops = app.config.chat.stop_on_disconnect;
    move |answer| {
        if stops {
            answer.stop.cancel();
        }
    }
}

/// Returns the events of another replica, or stored events.
fn elsewhere(app: Arc<App>, run: Uuid, after: i32) -> impl Stream<Item = StreamEvent> + Send {
    // Subscribe before the first read, so that no event is missed.
    let subscription = app.notifier.subscribe(run);
    futures::stream::unfold(
        (app, subscription, after, false),
        move |(app, mut subscription, after, over)| async move {
            if over {
                return None;
            }
            let mut looks = 0;
            loop {
                let turn = turns::get(&app.pool, run).await.ok()?;
                let Appended { events: fresh, last } = events::after(&app.pool, run, after).await.ok()?;
                if let Some(last) = last {
                    let over = fresh.last().is_some_and(|last| last.event.ends());
                    return Some((futures::stream::iter(fresh), (app, subscription, last, over)));
                }
                let running = turn.as_ref().is_some_and(|turn| turn.answered);
                // The end of a turn is stored before its last events.
                looks = if running { 0 } else { looks + 1 };
                let ends = turn.as_ref().is_some_and(|turn| turn.state != TurnState::Running);
                if !running && has_ended(&app, run, after).await {
                    return None;
                }
                if !running && (!ends || looks > LAST_LOOKS) {
                    let detail = "The answer broke off: the process that made it ended.".to_owned();
                    let lost = Event::Failed { run, detail, next_run: None };
                    let after = after.saturating_add(1);
                    let lost = vec![StreamEvent::new(after, lost, None)];
                    return Some((futures::stream::iter(lost), (app, subscription, after, true)));
                }
                let _ = timeout(LOOK_EVERY, subscription.wait()).await;
            }
        },
    )
    .flatten()
}

/// Returns whether this event of a reader is the final one.
async fn has_ended(app: &App, run: Uuid, after: i32) -> bool {
    let known = events::after(&app.pool, run, after.saturating_sub(1)).await.map(|found| found.events);
    known.is_ok_and(|known| known.first().is_some_and(|event| event.id == after && event.event.ends()))
}

fn respond(
    events: impl Stream<Item = StreamEvent> + Send + 'static,
    run: Uuid,
    conversation: Uuid,
) -> Response {
    let events = events.map(|event| {
        let sent = sse::Event::default().id(event.id.to_string()).event(event.event.kind());
        Ok::<_, Infallible>(sent.data(&*event.data))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    let headers = response.headers_mut();
    for (name, id) in [(RUN, run), (CONVERSATION, conversation)] {
        if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
            headers.insert(name, value);
        }
    }
    unbuffered(response)
}

/// Returns an event stream that proxies do not buffer.
pub(crate) fn unbuffered(stream: impl IntoResponse) -> Response {
    let mut response = stream.into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
