//! Approvals: calls that change something and wait for a person, and what became of earlier ones.

use super::asked::Posted;
use super::forms::{self, Kind, field};
use super::page::{self, Trouble, value};
use crate::app::App;
use crate::clock;
use crate::db::approvals::{self, Filter};
use crate::domain::{Approval, ApprovalState, Caller};
use crate::evidence::untrusted::hidden;
use crate::http::{self, known_id, missing};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use std::sync::Arc;
use uuid::Uuid;

/// Decided ones on the page.
const DECIDED: i64 = 50;
/// Waiting ones on the page.
const WAITING: i64 = 100;

/// A call as a card shows it, with its arguments as they are sent.
pub(super) fn card(approval: &Approval) -> Value {
    // What a person reads is what is sent.
    let shown = serde_json::to_string_pretty(&approval.arguments).unwrap_or_default();
    let shown = hidden::spelled_out(&shown);
    context! { shown, ..value(approval) }
}

/// The calls of a conversation that wait for a decision, or for that of others, in the order they were asked for.
pub(super) async fn waiting_in(app: &App, conversation: Uuid) -> sqlx::Result<Vec<Value>> {
    let filter = Filter { conversation: Some(conversation), ..Filter::default() };
    let mut waiting = approvals::list(&app.pool, &filter, clock::now(), WAITING).await?;
    waiting.retain(|call| matches!(call.state, ApprovalState::Pending | ApprovalState::Approved));
    Ok(waiting.iter().rev().map(card).collect())
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Html<String>, Trouble> {
    let (now, state) = (clock::now(), Some(ApprovalState::Pending));
    let waiting = approvals::list(&app.pool, &Filter { state, ..Filter::default() }, now, WAITING).await?;
    let mut decided = approvals::list(&app.pool, &Filter::default(), now, DECIDED + WAITING).await?;
    decided.retain(|approval| approval.state != ApprovalState::Pending);
    let values = context! {
        pending => waiting.iter().rev().map(card).collect::<Vec<_>>(),
        decided => value(&decided),
    };
    page::show(&app, "/approvals", "approvals.html", values).await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Html<String>, Trouble> {
    detail(&app, known_id(&id)?, None).await
}

async fn detail(app: &App, id: Uuid, problem: Option<http::Problem>) -> Result<Html<String>, Trouble> {
    let approval = approvals::get(&app.pool, id, clock::now()).await?.ok_or_else(|| missing("approval"))?;
    let values = context! { call => card(&approval), problem => problem.map(value) };
    page::show(app, "/approvals", "approval.html", values).await
}

pub(super) async fn decide(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Posted(sent): Posted,
) -> Result<Response, Trouble> {
    let body = forms::body(&sent, &["decision", "note", "author"].map(|name| (name, Kind::Text)));
    match http::approvals::decide(State(Arc::clone(&app)), caller, Path(id.clone()), Ok(body)).await {
        Ok(_) => {
            let conversation = match field(&sent, "from") {
                "list" => return Ok(Redirect::to("/approvals").into_response()),
                _ => approvals::get(&app.pool, known_id(&id)?, clock::now()).await?,
            };
            let conversation = conversation.ok_or_else(|| missing("approval"))?.conversation_id;
            Ok(Redirect::to(&format!("/chat/{conversation}#end")).into_response())
        }
        Err(problem) if matches!(problem.status, 409 | 422) => {
            let status = problem.code();
            Ok((status, detail(&app, known_id(&id)?, Some(problem)).await?).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
