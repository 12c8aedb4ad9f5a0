//! Approvals page: tool calls that wait for a decision, and earlier decisions.

use super::error::PageError;
use super::extract::PageForm;
use super::forms::{self, Kind, field};
use super::page::PageContext;
use super::value::value;
use crate::api::{self, known_id, missing};
use crate::app::App;
use crate::clock;
use crate::db::approvals::{self, Filter};
use crate::domain::{Approval, ApprovalState, Caller, Principal};
use crate::evidence::untrusted::hidden;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of decided calls on the page.
const DECIDED: i64 = 50;
/// Maximum number of waiting calls on the page.
const WAITING: i64 = 100;

/// Returns the card of a call for this reader, with the arguments exactly as sent.
pub(super) fn card(app: &App, approval: Approval, caller: &Caller) -> Value {
    let reader = Principal::from(caller);
    let is_theirs = reader.may_read(approval.visible_to.as_deref());
    // Affects only the display; the permission is checked when the decision is made.
    let is_asker = app.config.chat.four_eyes && approval.asked_by == caller.name;
    let approval = approval.redacted_for(&reader);
    // The displayed arguments must be those that are sent, so hidden characters are spelled out.
    let shown = serde_json::to_string_pretty(&approval.arguments).unwrap_or_default();
    let shown = hidden::spelled_out(&shown);
    context! { shown, is_theirs, is_asker, ..value(&approval) }
}

/// Returns the undecided and approved calls of a conversation, in the order in which they were requested.
pub(super) async fn waiting_in(app: &App, conversation: Uuid, caller: &Caller) -> sqlx::Result<Vec<Value>> {
    let filter = Filter { conversation: Some(conversation), ..Filter::default() };
    let mut waiting = approvals::list(&app.pool, &filter, clock::now(), WAITING).await?;
    waiting.retain(|call| matches!(call.state, ApprovalState::Pending | ApprovalState::Approved));
    Ok(waiting.into_iter().rev().map(|call| card(app, call, caller)).collect())
}

pub(super) async fn list(page: PageContext, caller: Caller) -> Result<Html<String>, PageError> {
    let (now, state) = (clock::now(), Some(ApprovalState::Pending));
    let waiting =
        approvals::list(&page.app.pool, &Filter { state, ..Filter::default() }, now, WAITING).await?;
    let mut decided = approvals::list(&page.app.pool, &Filter::default(), now, DECIDED + WAITING).await?;
    decided.retain(|approval| approval.state != ApprovalState::Pending);
    let reader = Principal::from(&caller);
    let values = context! {
        pending => waiting.into_iter().rev().map(|call| card(&page.app, call, &caller)).collect::<Vec<_>>(),
        decided => value(decided.into_iter().map(|call| call.redacted_for(&reader)).collect::<Vec<_>>()),
    };
    page.show("/approvals", "approvals.html", values).await
}

pub(super) async fn show(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    detail(&page, &caller, known_id(&id)?, None).await
}

async fn detail(
    page: &PageContext,
    caller: &Caller,
    id: Uuid,
    problem: Option<api::Problem>,
) -> Result<Html<String>, PageError> {
    let approval =
        approvals::get(&page.app.pool, id, clock::now()).await?.ok_or_else(|| missing("approval"))?;
    let values = context! { call => card(&page.app, approval, caller), problem => problem.map(value) };
    page.show("/approvals", "approval.html", values).await
}

pub(super) async fn decide(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &["decision", "note", "author"].map(|name| (name, Kind::Text)));
    match api::approvals::decide(State(Arc::clone(&page.app)), caller.clone(), Path(id.clone()), Ok(body))
        .await
    {
        Ok(_) => {
            let conversation = match field(&sent, "from") {
                "list" => return Ok(Redirect::to("/approvals").into_response()),
                _ => approvals::get(&page.app.pool, known_id(&id)?, clock::now()).await?,
            };
            let conversation = conversation.ok_or_else(|| missing("approval"))?.conversation_id;
            Ok(Redirect::to(&format!("/chat/{conversation}#end")).into_response())
        }
        Err(problem) if matches!(problem.status, 403 | 409 | 422) => {
            let status = problem.code();
            Ok((status, detail(&page, &caller, known_id(&id)?, Some(problem)).await?).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
