//! API keys page: list, creation and revocation.

use super::error::PageError;
use super::extract::PageForm;
use super::forms::{self, Kind, RejectedForm};
use super::page::PageContext;
use super::value::value;
use crate::api;
use crate::app::App;
use crate::clock;
use crate::domain::{Caller, Role};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use std::sync::Arc;

/// Fields of the form.
const FIELDS: [(&str, Kind); 4] =
    [("name", Kind::Text), ("role", Kind::Text), ("namespaces", Kind::Lines), ("expires_in", Kind::Text)];

pub(super) async fn list(page: PageContext) -> Result<Html<String>, PageError> {
    listed(&page, None, None).await
}

async fn listed(
    page: &PageContext,
    made: Option<minijinja::Value>,
    refused: Option<RejectedForm>,
) -> Result<Html<String>, PageError> {
    let keys = api::keys::list(State(Arc::clone(&page.app))).await?.0;
    let values = context! {
        keys => value(&keys.keys),
        now => value(clock::now()),
        roles => value(Role::NAMES),
        taken => page.app.auth.has_keys(),
        made,
        refused => refused.map(value),
    };
    page.show("/keys", "keys.html", values).await
}

/// Creates a key. The response page is the only place that shows the secret, which is not stored.
pub(super) async fn create(
    page: PageContext,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let body = forms::body(&sent, &FIELDS);
    match api::keys::create(State(Arc::clone(&page.app)), caller, Ok(body)).await {
        Ok((_, made)) => Ok(listed(&page, Some(value(&made.0)), None).await?.into_response()),
        Err(problem) if matches!(problem.status, 409 | 422) => {
            let status = problem.code();
            let html = listed(&page, None, Some(RejectedForm::new(sent, problem))).await?;
            Ok((status, html).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Redirect, PageError> {
    api::keys::revoke(State(app), caller, Path(id)).await?;
    Ok(Redirect::to("/keys"))
}
