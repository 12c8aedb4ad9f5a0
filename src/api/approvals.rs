//! `/api/approvals`: tool calls that change something and need approval by a person.

use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::Problem;
use super::reports::{bad_query, cut, known_id, missing, page_size, withheld};
use crate::app::App;
use crate::chat::{self, ApprovalChoice, Decision, DecisionError, SignedLink};
use crate::clock;
use crate::db::approvals::{self, Filter};
use crate::db::audit;
use crate::domain::{Approval, ApprovalState, AuditAction, AuditEvent, Caller, Principal};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const FIELDS: FieldFilter = FieldFilter::Of(&["decision", "note", "author"]);
/// Maximum length of a note, in bytes.
const MAX_NOTE: usize = 4_000;
/// Maximum length of a name for which a link is made, in characters.
const MAX_NAME: usize = 100;

/// How a list is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only in this state.
    #[param(inline)]
    state: Option<ApprovalState>,
    /// Only of this conversation.
    conversation_id: Option<Uuid>,
    /// The `next` of the page before.
    before: Option<Uuid>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

/// One page of calls, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalPage {
    /// The calls.
    approvals: Vec<Approval>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// What a person says of a call.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewDecision {
    /// `approve` or `deny`.
    #[schema(example = "approve")]
    decision: String,
    /// What else there is to say; the model reads it too.
    note: Option<String>,
    /// Who decides; `user` when left out. Taken only where nobody has to show who they are.
    author: Option<String>,
}

/// A call that was decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionMade {
    /// The call.
    approval: Approval,
    /// The run that began with it; its events are at `/api/chat/{run}/events`. Absent when others of the conversation wait
    /// still, or an answer is being made: its end names the next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
}

/// Calls that wait for a person's approval, and what became of earlier ones.
#[utoipa::path(get, operation_id = "list_approvals", path = "/api/approvals", tag = "approvals", params(ListQuery),
    responses((status = 200, body = ApprovalPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ApprovalPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = page_size(query.limit)?;
    let filter = Filter {
        state: query.state,
        conversation: query.conversation_id,
        before: query.before,
        ..Filter::default()
    };
    let mut approvals = approvals::list(&app.pool, &filter, clock::now(), limit + 1).await?;
    let (next, reader) = (cut(&mut approvals, limit, |approval| approval.id), Principal::from(&caller));
    let approvals = approvals.into_iter().map(|approval| approval.redacted_for(&reader)).collect();
    Ok(Json(ApprovalPage { approvals, next }))
}

/// One call, with everything that is sent when it is approved.
#[utoipa::path(get, operation_id = "get_approval", path = "/api/approvals/{id}", tag = "approvals", params(("id" = Uuid, Path)),
    responses((status = 200, body = Approval), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Approval>, Problem> {
    let approval = approvals::get(&app.pool, known_id(&id)?, clock::now()).await?;
    let approval = approval.map(|approval| Json(approval.redacted_for(&Principal::from(&caller))));
    approval.ok_or_else(|| missing("approval"))
}

/// Approves or denies a call. When nothing else of the conversation waits, it goes on at once: what was approved is carried
/// out, each call once, and the model reads what came of it. With `chat.four_eyes` whoever asked for a call does not approve it.
#[utoipa::path(post, operation_id = "decide_approval", path = "/api/approvals/{id}", tag = "approvals", params(("id" = Uuid, Path)), request_body = NewDecision,
    responses((status = 200, body = DecisionMade), (status = 400, body = Problem),
        (status = 403, body = Problem, description = "Somebody else has to decide it"), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "It was decided already, or has expired"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn decide(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DecisionMade>, Problem> {
    let id = known_id(&id)?;
    let decision = decision(&caller, Fields::of_body(&app, body, FIELDS).await?)?;
    match chat::decide(&app, id, decision).await {
        Ok(decided) => {
            let approval = decided.approval.redacted_for(&Principal::from(&caller));
            Ok(Json(DecisionMade { approval, run: decided.turn }))
        }
        Err(refused) => Err(not_decided(refused)),
    }
}

/// Maps the reason why a decision was refused to a problem.
pub(crate) fn not_decided(refused: DecisionError) -> Problem {
    match refused {
        DecisionError::Missing => missing("approval"),
        DecisionError::Over(_) => Problem::new(StatusCode::CONFLICT, refused.to_string()),
        DecisionError::NotTheirs(why) => Problem::new(StatusCode::FORBIDDEN, why),
        DecisionError::Database(error) => error.into(),
    }
}

/// For whom links are made.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LinksQuery {
    /// Who gets them, as it stands on record when one is used; the caller when left out.
    #[serde(rename = "for")]
    issued_to: Option<String>,
}

/// Links that decide a call without a login.
#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    /// Shows the call with a button that approves it.
    approve: String,
    /// Shows the call with a button that denies it.
    deny: String,
    /// For whom they were made.
    issued_to: String,
    /// Until when they are good.
    expires_at: DateTime<Utc>,
}

/// Signed links that decide a call, for mail and messengers: whoever has one may decide, so they go to those who may. With
/// `chat.four_eyes` a link approves for an operator alone who is logged in and did not ask for the call. Needs `chat.link_secret` and
/// `server.public_url`.
#[utoipa::path(get, operation_id = "make_approval_links", path = "/api/approvals/{id}/links", tag = "approvals", params(("id" = Uuid, Path), LinksQuery),
    responses((status = 200, body = Links),
        (status = 403, body = Problem, description = "What it sends is visible to one person alone"), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "It was decided already, or has expired"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn links(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    query: Result<Query<LinksQuery>, QueryRejection>,
) -> Result<Json<Links>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let issued_to =
        query.issued_to.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| caller.name.clone());
    if issued_to.chars().count() > MAX_NAME || issued_to.chars().any(char::is_control) {
        return Err(bad_query(&format!("for: has to be one line of at most {MAX_NAME} characters")));
    }
    let approval = approvals::get(&app.pool, known_id(&id)?, clock::now()).await?;
    let approval = approval.ok_or_else(|| missing("approval"))?;
    if approval.state != ApprovalState::Pending {
        return Err(Problem::new(StatusCode::CONFLICT, DecisionError::Over(Box::new(approval)).to_string()));
    }
    if let Some(owner) = &approval.visible_to {
        return Err(withheld(owner));
    }
    let link =
        |choice| SignedLink::new(choice, &approval, &caller.name, &issued_to).url(&app.config, &approval);
    let (Some(approve), Some(deny)) = (link(ApprovalChoice::Approve), link(ApprovalChoice::Deny)) else {
        let detail = "links are not made: `chat.link_secret` and `server.public_url` have to be set";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let event = AuditEvent::new(&caller.actor(), AuditAction::ApprovalLink, clock::now());
    let event = event.on("approval", &id).detail(format!("issued to {issued_to}"));
    audit::add(&app.pool, &event).await?;
    Ok(Json(Links { approve, deny, issued_to, expires_at: approval.expires_at }))
}

fn decision(caller: &Caller, mut fields: Fields) -> Result<Decision, Problem> {
    let choice = match fields.required("decision", Shape::Line(20)).as_str() {
        "approve" => ApprovalChoice::Approve,
        // A missing decision was already reported as an error.
        "deny" | "" => ApprovalChoice::Deny,
        _ => {
            fields.error("decision", "has to be approve or deny");
            ApprovalChoice::Deny
        }
    };
    let note = fields.optional("note", Shape::Text);
    if note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) {
        fields.error("note", format!("is longer than {MAX_NOTE} bytes"));
    }
    let author = caller.named(fields.optional("author", Shape::Line(100)));
    fields.finish()?;
    Ok(Decision { choice, author, caller: Some(caller.clone()), note, link: None })
}
