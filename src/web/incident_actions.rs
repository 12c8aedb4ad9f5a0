//! Actions of the buttons on an incident's page and on the list.

use super::error::PageError;
use super::extract::PageForm;
use super::incidents::{self, IncidentNotices};
use super::page::PageContext;
use crate::api::incident_actions as api;
use crate::api::{Problem, known_id};
use crate::app::App;
use crate::domain::Caller;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use std::sync::Arc;
use uuid::Uuid;

pub(super) async fn resolve(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let done = api::resolve(State(Arc::clone(&page.app)), caller, Path(id.clone())).await;
    back(&page, &id, done.map(|_| ())).await
}

pub(super) async fn reopen(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let done = api::reopen(State(Arc::clone(&page.app)), caller, Path(id.clone())).await;
    back(&page, &id, done.map(|_| ())).await
}

pub(super) async fn investigate(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let done = api::investigate(State(Arc::clone(&page.app)), caller, Path(id.clone())).await;
    back(&page, &id, done.map(|_| ())).await
}

/// Redirects to the incident, or shows its page with the reason of a conflict.
async fn back(page: &PageContext, id: &str, done: Result<(), Problem>) -> Result<Response, PageError> {
    match done {
        Ok(()) => Ok(Redirect::to(&format!("/incidents/{}", known_id(id)?)).into_response()),
        Err(problem) if problem.status == 409 => {
            let status = problem.code();
            let shown = IncidentNotices { problem: Some(problem), ..IncidentNotices::default() };
            Ok((status, incidents::detail(page, known_id(id)?, shown).await?).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Resolves the incidents selected in the list, which then shows their number.
pub(super) async fn resolve_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Redirect, PageError> {
    let ticked = sent.iter().filter(|(name, _)| name == "id").map(|(_, id)| id.parse().ok());
    let mut ids: Vec<Uuid> = ticked.collect::<Option<_>>().ok_or_else(|| Problem::field("id", "is no id"))?;
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > api::MAX_RESOLVED {
        return Err(Problem::field("id", "is there more often than on a page").into());
    }
    let done = api::resolve_these(&app, &caller, &ids).await?;
    Ok(Redirect::to(&format!("/incidents?resolved={}", done.resolved.len())))
}
