//! `/api/conversations`: conversations about incidents and other questions.

use super::fields::{Fields, Shape, time};
use super::json::FieldFilter;
use super::problem::Problem;
use super::reports::{bad_query, cut, kept_text, known_id, missing, page_size, position};
use super::search::limit;
use crate::app::App;
use crate::clock;
use crate::db::approvals;
use crate::db::audit;
use crate::db::conversations::{self, Filter};
use crate::db::evidence::{self, Owner};
use crate::db::runs;
use crate::domain::{
    Approval, AuditAction, AuditEvent, Caller, Conversation, ConversationMessage, EvidenceSummary, Principal,
    Role, Run,
};
use crate::evidence::redact::Redactor;
use crate::knowledge::MessageHit;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Maximum number of approvals shown with a conversation, latest first.
const MAX_APPROVALS: i64 = 1_000;

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// In words.
    q: String,
    /// 1 to 50 conversations; 10 when left out.
    limit: Option<usize>,
}

/// Messages that were found.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessagesFound {
    /// Best first, one per conversation.
    messages: Vec<MessageHit>,
}

/// Conversations in which something like this was said, each by its best message.
#[utoipa::path(get, operation_id = "search_conversations", path = "/api/conversations/search", tag = "conversations", params(SearchQuery),
    responses((status = 200, body = MessagesFound), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn search(
    State(app): State<Arc<App>>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<MessagesFound>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = limit(&query.q, query.limit)?;
    Ok(Json(MessagesFound { messages: app.knowledge.said_before(&query.q, limit).await? }))
}

/// How a list is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only with this agent.
    agent_id: Option<Uuid>,
    /// Only about this incident.
    incident_id: Option<Uuid>,
    /// Only with a word since then (RFC 3339).
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Only with no word after (RFC 3339).
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// Only with these words in title or messages.
    text: Option<String>,
    /// The `next` of the page before.
    before: Option<Uuid>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

/// One page of conversations, the one that was last spoken in first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationPage {
    /// The conversations.
    conversations: Vec<Conversation>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// A conversation with everything that was said in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationDetail {
    #[serde(flatten)]
    conversation: Conversation,
    /// Messages, oldest first.
    #[serde(rename = "history")]
    messages: Vec<ConversationMessage>,
    /// Runs that answered, with every tool call.
    runs: Vec<TurnRun>,
    /// What tools told it; the text of each is at `/api/conversations/{id}/evidence/{label}`.
    evidence: Vec<EvidenceSummary>,
    /// Calls that change something and what was decided about them, oldest first; `run` of each is the run of the message that asked.
    approvals: Vec<Approval>,
}

/// A run and the turn it answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct TurnRun {
    /// As messages name it.
    run: Uuid,
    /// What it did.
    made: Run,
}

/// Conversations.
#[utoipa::path(get, operation_id = "list_conversations", path = "/api/conversations", tag = "conversations", params(ListQuery),
    responses((status = 200, body = ConversationPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ConversationPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = page_size(query.limit)?;
    let filter = Filter {
        agent: query.agent_id,
        incident: query.incident_id,
        since: query.since,
        until: query.until,
        text: query.text.as_deref().map(str::trim).filter(|text| !text.is_empty()),
        before: query.before,
        ..Filter::default()
    };
    let mut conversations = conversations::list(&app.pool, &filter, limit + 1).await?;
    let next = cut(&mut conversations, limit, |conversation| conversation.id);
    Ok(Json(ConversationPage { conversations, next }))
}

async fn detail(app: &App, caller: &Caller, id: &str) -> Result<ConversationDetail, Problem> {
    let (id, reader) = (known_id(id)?, Principal::from(caller));
    let conversation = conversations::get(&app.pool, id).await?.ok_or_else(|| missing("conversation"))?;
    let messages = conversations::messages(&app.pool, id, 0, &reader).await?;
    let runs = runs::of_conversation(&app.pool, id, &reader).await?;
    let runs = runs.into_iter().map(|(run, made)| TurnRun { run, made }).collect();
    let evidence = evidence::list(&app.pool, Owner::Conversation(id), &reader).await?;
    let filter = approvals::Filter { conversation: Some(id), ..approvals::Filter::default() };
    let approvals = approvals::list(&app.pool, &filter, clock::now(), MAX_APPROVALS).await?;
    let approvals = approvals.into_iter().rev().map(|approval| approval.redacted_for(&reader)).collect();
    Ok(ConversationDetail { conversation, messages, runs, evidence, approvals })
}

/// One conversation with its messages, runs and tool calls. What was told to somebody's own access is visible to them alone;
/// for others it is named.
#[utoipa::path(get, operation_id = "get_conversation", path = "/api/conversations/{id}", tag = "conversations", params(("id" = Uuid, Path)),
    responses((status = 200, body = ConversationDetail), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ConversationDetail>, Problem> {
    detail(&app, &caller, &id).await.map(Json)
}

/// A new title.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewTitle {
    /// One line of at most 200 bytes.
    title: String,
}

/// Returns whether a caller may rename and delete a conversation: its creator and administrators.
pub(crate) fn may_change(caller: &Caller, conversation: &Conversation) -> bool {
    caller.role >= Role::Admin || conversation.opened_by.as_ref() == Some(&caller.name)
}

/// Returns the conversation if the caller may change it.
async fn changeable(app: &App, caller: &Caller, id: Uuid) -> Result<Conversation, Problem> {
    let known = conversations::get(&app.pool, id).await?.ok_or_else(|| missing("conversation"))?;
    if may_change(caller, &known) {
        return Ok(known);
    }
    let whose = known.opened_by.as_deref().map_or_else(|| "an incident".to_owned(), |by| format!("{by}'s"));
    let detail =
        format!("this conversation is {whose}: whoever began it may rename or delete it, or an admin");
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Gives a conversation another title: one's own, or as an administrator any.
#[utoipa::path(patch, operation_id = "rename_conversation", path = "/api/conversations/{id}", tag = "conversations", params(("id" = Uuid, Path)), request_body = NewTitle,
    responses((status = 200, body = Conversation), (status = 400, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn rename(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Conversation>, Problem> {
    let id = known_id(&id)?;
    let mut fields = Fields::of_body(&app, body, FieldFilter::Of(&["title"])).await?;
    let title = fields.required("title", Shape::Line(200));
    fields.finish()?;
    changeable(&app, &caller, id).await?;
    if !conversations::rename(&app.pool, id, &Redactor::new().redact(title.trim())).await? {
        return Err(missing("conversation"));
    }
    let conversation = conversations::get(&app.pool, id).await?;
    conversation.map(Json).ok_or_else(|| missing("conversation"))
}

/// Removes a conversation with its messages, runs and evidence: one's own, or as an administrator any.
#[utoipa::path(delete, operation_id = "remove_conversation", path = "/api/conversations/{id}", tag = "conversations", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = known_id(&id)?;
    let running = changeable(&app, &caller, id).await?.running;
    let mut transaction = app.pool.begin().await?;
    if !conversations::remove(&mut *transaction, id).await? {
        return Err(missing("conversation"));
    }
    let event = AuditEvent::new(&caller.actor(), AuditAction::ConversationDelete, clock::now());
    audit::add(&mut *transaction, &event.on("conversation", id)).await?;
    transaction.commit().await?;
    if let Some(run) = running {
        super::chat::stop_now(&app, run).await?;
    }
    tracing::info!(conversation = %id, "a conversation was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Formats of an export.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a parameter, which is checked by its description")]
enum ExportFormat {
    Markdown,
    Json,
}

/// What an export looks like.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `markdown` when left out.
    #[param(inline, value_type = Option<ExportFormat>)]
    format: Option<String>,
}

/// A conversation as a file.
#[utoipa::path(get, operation_id = "export_conversation", path = "/api/conversations/{id}/export", tag = "conversations", params(("id" = Uuid, Path), ExportQuery),
    responses((status = 200, content((String = "text/markdown"), (ConversationDetail = "application/json"))), (status = 404, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let detail = detail(&app, &caller, &id).await?;
    let name = |ending: &str| {
        let name = format!("attachment; filename=\"conversation-{}.{ending}\"", detail.conversation.id);
        [(header::CONTENT_DISPOSITION, name)]
    };
    if query.format.as_deref() == Some("json") {
        return Ok((name("json"), Json(&detail)).into_response());
    }
    let kind = [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")];
    Ok((kind, name("md"), markdown(&detail)).into_response())
}

fn markdown(detail: &ConversationDetail) -> String {
    let mut text = format!("# {}\n", detail.conversation.title);
    for message in &detail.messages {
        let at = message.created_at.format("%Y-%m-%d %H:%M UTC");
        let _ = write!(text, "\n## {} ({at})\n\n{}\n", message.author, message.text.trim());
        for citation in message.citations.iter().filter(|citation| citation.verified) {
            let _ = write!(text, "\n- {} of {}:", citation.mark, citation.title);
            for line in citation.quote.lines() {
                let _ = write!(text, "\n      {line}");
            }
            text.push('\n');
        }
    }
    text
}

/// The whole text of what a tool told a conversation.
#[utoipa::path(get, operation_id = "get_conversation_evidence", path = "/api/conversations/{id}/evidence/{label}", tag = "conversations",
    params(("id" = Uuid, Path), ("label" = String, Path, description = "E1, E2, …")),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 403, body = Problem, description = "It was told to somebody's own access"), (status = 404, body = Problem),
        (status = 410, body = Problem, description = "Past `retention.evidence`"), (status = 503, body = Problem)))]
pub async fn evidence(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, label)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id = known_id(&id)?;
    let position = position(&label)?;
    let text = kept_text(&app, Owner::Conversation(id), position, &Principal::from(&caller)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
