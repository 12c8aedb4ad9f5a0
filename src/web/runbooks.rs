//! Runbooks pages: search, view and add documents, and the progress of the search index.

use super::error::PageError;
use super::extract::{PageForm, PageQuery, some};
use super::forms::{self, Kind, RejectedForm, field};
use super::page::PageContext;
use super::value::value;
use crate::api::{self, known_id, missing};
use crate::app::App;
use crate::db::documents::{self, Realm};
use crate::db::embeddings;
use crate::domain::Caller;
use crate::knowledge::Query as Search;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Number of documents per page, and of search hits.
const PAGE: i64 = 50;
const HITS: usize = 10;
/// Maximum offset of a page.
const MAX_OFFSET: i64 = 1_000_000;

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct RunbookQuery {
    #[serde(default)]
    q: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    offset: i64,
}

pub(super) async fn list(
    page: PageContext,
    PageQuery(asked): PageQuery<RunbookQuery>,
) -> Result<Html<String>, PageError> {
    listed(&page, &asked, None).await
}

async fn listed(
    page: &PageContext,
    asked: &RunbookQuery,
    refused: Option<RejectedForm>,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
    let kind = some(&asked.kind);
    let offset = asked.offset.clamp(0, MAX_OFFSET);
    let mut found = None;
    if let Some(text) = some(&asked.q) {
        let realms = &[Realm::Runbook];
        let search = Search { text, realms, kind, applies_to: None, limit: HITS, namespaces: None };
        found = Some(app.knowledge.search(&search).await?);
    }
    let mut all = documents::list(&app.pool, kind, offset, PAGE + 1).await?;
    let more = i64::try_from(all.len()).unwrap_or(i64::MAX) > PAGE;
    all.truncate(usize::try_from(PAGE).unwrap_or_default());
    let all: Vec<api::documents::Document> = all.into_iter().map(Into::into).collect();
    let mut spaces = Vec::new();
    for space in embeddings::spaces(&app.pool).await? {
        let missing = embeddings::count_missing(&app.pool, space.id).await?;
        spaces.push(context! { model => space.model, provider => space.provider, missing });
    }
    let values = context! {
        asked => value(asked),
        found => found.map(value),
        documents => value(&all),
        next => more.then_some(offset + PAGE),
        spaces,
        refused => refused.map(value),
    };
    page.show("/runbooks", "runbooks.html", values).await
}

pub(super) async fn add(
    page: PageContext,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &[("path", Kind::Text), ("content", Kind::Text)]);
    match api::documents::add(State(Arc::clone(&page.app)), caller, Ok(body)).await {
        Ok(_) => Ok(Redirect::to("/runbooks").into_response()),
        Err(problem) if problem.status == 422 => {
            let html =
                listed(&page, &RunbookQuery::default(), Some(RejectedForm::new(sent, problem))).await?;
            Ok(html.into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn show(page: PageContext, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    let (listed, text) =
        documents::get(&page.app.pool, known_id(&id)?).await?.ok_or_else(|| missing("document"))?;
    let values = context! { document => value(api::documents::Document::from(listed)), text };
    page.show("/runbooks", "runbook.html", values).await
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Redirect, PageError> {
    if field(&sent, "do") == "delete" {
        api::documents::remove(State(app), caller, Path(id)).await?;
    }
    Ok(Redirect::to("/runbooks"))
}
