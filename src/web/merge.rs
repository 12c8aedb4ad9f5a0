//! Merging and splitting of incidents on an incident's page.

use super::error::PageError;
use super::extract::PageForm;
use super::forms::{self, FormFields, Kind};
use super::incidents::{self, IncidentNotices};
use super::page::PageContext;
use crate::api::merges as api;
use crate::api::{Problem, known_id};
use crate::domain::Caller;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;
use std::sync::Arc;

pub(super) async fn merge(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &[("into", Kind::Text)]);
    let done = api::merge(State(Arc::clone(&page.app)), caller, Path(id.clone()), Ok(body)).await;
    to(&page, &id, done.map(|_| forms::field(&sent, "into").to_owned())).await
}

pub(super) async fn split(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let done = api::split(State(Arc::clone(&page.app)), caller, Path(id.clone()), Ok(ticked(&sent))).await;
    to(&page, &id, done.map(|(_, new)| new.id.to_string())).await
}

/// Returns the selected reports as a JSON body.
fn ticked(sent: &FormFields) -> Bytes {
    let reports = sent.iter().filter(|(name, _)| name == "reports");
    let reports: Vec<&str> = reports.map(|(_, id)| id.as_str()).collect();
    Bytes::from(json!({ "reports": reports }).to_string())
}

/// Redirects to the resulting incident, or shows the original one with the reason of the refusal.
async fn to(page: &PageContext, id: &str, done: Result<String, Problem>) -> Result<Response, PageError> {
    match done {
        Ok(other) => Ok(Redirect::to(&format!("/incidents/{other}")).into_response()),
        Err(problem) if matches!(problem.status, 409 | 422) => {
            let status = problem.code();
            let shown = IncidentNotices { problem: Some(problem), ..IncidentNotices::default() };
            Ok((status, incidents::detail(page, known_id(id)?, shown).await?).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
