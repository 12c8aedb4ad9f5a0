//! Home page of reporters and of callers limited to some namespaces: their reports, and how to report. Callers with access
//! to everything get the overview instead.

use super::error::PageError;
use super::extract::{PageQuery, some};
use super::page::PageContext;
use super::value::value;
use super::{overview, reports};
use crate::api::{self, known_id};
use crate::app::App;
use crate::db::reports::Filter;
use crate::domain::{Caller, ReportStatus, Role};
use axum::Extension;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::Html;
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Number of reports per page.
const PAGE: i64 = 50;

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct OwnReportsQuery {
    #[serde(default)]
    status: String,
    before: Option<Uuid>,
}

/// Renders the home page.
pub(super) async fn home(
    page: PageContext,
    caller: Caller,
    counted: Extension<Arc<overview::Counted>>,
    headers: HeaderMap,
    PageQuery(asked): PageQuery<OwnReportsQuery>,
) -> Result<Html<String>, PageError> {
    if caller.reads_all() {
        return overview::show(page, counted).await;
    }
    let app = &page.app;
    let status = some(&asked.status).filter(|status| ReportStatus::NAMES.contains(status));
    let filter = Filter { status, before: asked.before, ..Filter::default() };
    let (reports, next) = api::readable_list(app, &caller, filter, PAGE).await?;
    let (command, curl) = commands(app, &caller, &headers);
    let values = context! {
        command,
        curl,
        asked => value(&asked),
        statuses => value(ReportStatus::NAMES),
        reports => value(&reports),
        next => value(next),
        reporter => caller.role == Role::Reporter,
        namespaces => value(&caller.namespaces),
        guarded => app.auth.is_on(),
    };
    page.show("/", "own.html", values).await
}

/// Returns the commands for reporting from a terminal: with `regreen`, and with curl.
fn commands(app: &App, caller: &Caller, headers: &HeaderMap) -> (String, String) {
    let server = address(app, headers);
    let bound = caller.namespaces.as_deref().and_then(|all| all.first());
    let namespace = bound.map_or("NAMESPACE", String::as_str);
    let key = if app.auth.is_on() { "  -H \"authorization: Bearer $REGREEN_TOKEN\" \\\n" } else { "" };
    let command = format!(
        "regreen report --server {server} \\\n  --namespace {namespace} --pod POD --pipeline PIPELINE --task TASK"
    );
    let curl = format!(
        "curl -sS {server}/report-failure \\\n{key}  -H 'content-type: application/json' \\\n  \
         -d '{{\"namespace\": \"{namespace}\", \"pod_name\": \"POD\", \"pipeline\": \"PIPELINE\", \"task\": \"TASK\"}}'"
    );
    (command, curl)
}

/// Returns the URL of this server as seen by the client.
fn address(app: &App, headers: &HeaderMap) -> String {
    if let Some(url) = &app.config.server.public_url {
        return url.clone();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("127.0.0.1:8000"))
}

/// Renders a report as far as the caller may read it.
pub(super) async fn report(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    if caller.reads_all() {
        return reports::show(page, Path(id)).await;
    }
    let detail = api::detail(&page.app, &caller, known_id(&id)?).await?;
    let values = context! { detail => value(&detail) };
    page.show("/", "own-report.html", values).await
}
