//! Reports pages: the list, the details of a report, and retry of a failed one.

use super::error::PageError;
use super::extract::{PageForm, PageQuery, some};
use super::forms::field;
use super::incidents::work;
use super::page::PageContext;
use super::value::value;
use crate::api::{self, Problem, known_id, missing};
use crate::db::reports::{self, Filter};
use crate::domain::{Caller, ReportStatus};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Number of reports per page.
const PAGE: i64 = 50;
/// States offered as a filter.
const STATES: [ReportStatus; 5] = [
    ReportStatus::Failed,
    ReportStatus::Queued,
    ReportStatus::Running,
    ReportStatus::Waiting,
    ReportStatus::Done,
];

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct ReportListQuery {
    #[serde(default, alias = "state")]
    status: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    pipeline: String,
    before: Option<Uuid>,
}

pub(super) async fn list(
    page: PageContext,
    PageQuery(asked): PageQuery<ReportListQuery>,
) -> Result<Html<String>, PageError> {
    let filter = Filter {
        status: some(&asked.status),
        namespace: some(&asked.namespace),
        pipeline: some(&asked.pipeline),
        before: asked.before,
        ..Filter::default()
    };
    let mut found = reports::list(&page.app.pool, &filter, PAGE + 1).await?;
    let next = api::cut(&mut found, PAGE, |report| report.id);
    let narrowed =
        [&asked.status, &asked.namespace, &asked.pipeline].iter().any(|text| !text.trim().is_empty());
    let values = context! {
        asked => value(&asked),
        reports => value(&found),
        next => value(next),
        states => STATES.map(ReportStatus::as_str).to_vec(),
        failed => reports::failed(&page.app.pool).await?,
        narrowed,
    };
    page.show("/reports", "reports.html", values).await
}

/// Renders a report with its progress and details.
pub(super) async fn show(page: PageContext, Path(id): Path<String>) -> Result<Html<String>, PageError> {
    detail(&page, known_id(&id)?, None).await
}

async fn detail(page: &PageContext, id: Uuid, problem: Option<Problem>) -> Result<Html<String>, PageError> {
    let report = reports::get(&page.app.pool, id).await?.ok_or_else(|| missing("report"))?;
    let values = context! {
        report => value(&report),
        work => work(&page.app, &report).await?,
        problem => problem.map(value),
    };
    page.show("/reports", "report.html", values).await
}

pub(super) async fn retry(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    match api::retry::retry(State(Arc::clone(&page.app)), caller, Path(id.clone())).await {
        Ok(_) if field(&sent, "from") == "list" => Ok(Redirect::to("/reports?status=failed").into_response()),
        Ok((_, report)) => Ok(Redirect::to(&format!("/reports/{}", report.id)).into_response()),
        Err(problem) if problem.status == 409 => {
            let status = problem.code();
            Ok((status, detail(&page, known_id(&id)?, Some(problem)).await?).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}
