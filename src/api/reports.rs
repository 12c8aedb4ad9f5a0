//! `/api/reports`: reports and their results.

use super::problem::{FieldError, Problem};
use crate::app::App;
use crate::db::evidence::{Owner, Text};
use crate::db::reports::Filter;
use crate::db::{self};
use crate::domain::{
    Caller, EvidenceKind, EvidenceSummary, Principal, Report, ReportStatus, Role, Run, Step, StepName,
};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// How a list is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those that are this far.
    #[param(inline, value_type = Option<ReportStatus>)]
    status: Option<String>,
    /// The same as `status`, as pages call it.
    #[param(inline, value_type = Option<ReportStatus>)]
    state: Option<String>,
    /// Kubernetes namespace.
    namespace: Option<String>,
    /// Only reports of this pipeline.
    pipeline: Option<String>,
    /// Only reports of this incident.
    incident_id: Option<Uuid>,
    /// The `next` of the page before.
    before: Option<Uuid>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

/// One page of reports, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportPage {
    /// The reports.
    reports: Vec<Report>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// A report with everything that is known about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportDetail {
    #[serde(flatten)]
    report: Report,
    /// Steps that were taken; for reporters without what could not be had.
    steps: Vec<Step>,
    /// Evidence; the text of each is at `/api/reports/{id}/evidence/{label}`.
    evidence: Vec<EvidenceSummary>,
    /// Runs of the agent with every tool call; none for reporters, who see no results of tools either.
    runs: Vec<Run>,
}

/// Reports, newest first.
#[utoipa::path(get, operation_id = "list_reports", path = "/api/reports", tag = "reports", params(ListQuery),
    responses((status = 200, body = ReportPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ReportPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = page_size(query.limit)?;
    let status = asked_status(query.status.as_deref(), query.state.as_deref())?;
    let filter = Filter {
        status,
        namespace: query.namespace.as_deref(),
        pipeline: query.pipeline.as_deref(),
        incident: query.incident_id,
        before: query.before,
        ..Filter::default()
    };
    let (reports, next) = readable_list(&app, &caller, filter, limit).await?;
    Ok(Json(ReportPage { reports, next }))
}

/// Returns a page of the reports that the caller may read, redacted for the caller, and the start of the next page.
pub(crate) async fn readable_list(
    app: &App,
    caller: &Caller,
    filter: Filter<'_>,
    limit: i64,
) -> Result<(Vec<Report>, Option<Uuid>), Problem> {
    let reporter = caller.role == Role::Reporter;
    let own = reporter.then_some(caller.name.as_str());
    let filter = Filter { within: caller.namespaces.as_deref(), caller: own, ..filter };
    let mut reports = db::reports::list(&app.pool, &filter, limit + 1).await?;
    let next = cut(&mut reports, limit, |report| report.id);
    if reporter {
        reports = reports.into_iter().map(for_reporters).collect();
    }
    Ok((reports, next))
}

/// One report: status, steps, evidence, runs.
#[utoipa::path(get, operation_id = "get_report", path = "/api/reports/{id}", tag = "reports", params(("id" = Uuid, Path)),
    responses((status = 200, body = ReportDetail), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ReportDetail>, Problem> {
    detail(&app, &caller, known_id(&id)?).await.map(Json)
}

/// Returns the details of a report that the caller may read.
pub(crate) async fn detail(app: &App, caller: &Caller, id: Uuid) -> Result<ReportDetail, Problem> {
    let report = readable(app, caller, id).await?;
    let steps = db::reports::steps(&app.pool, id).await?;
    let evidence = db::evidence::list(&app.pool, Owner::Report(id), &Principal::nobody()).await?;
    if caller.role == Role::Reporter {
        return Ok(own(report, steps, evidence));
    }
    let runs = db::runs::of_report(&app.pool, id).await?;
    Ok(ReportDetail { report, steps, evidence, runs })
}

/// Removes what reporters may not read: runs, tool results, the reason of a failure and why evidence is missing.
fn own(report: Report, mut steps: Vec<Step>, mut evidence: Vec<EvidenceSummary>) -> ReportDetail {
    evidence.retain(|piece| piece.kind != EvidenceKind::ToolResult);
    for step in steps.iter_mut().filter(|step| step.name == StepName::Collect.as_str()) {
        let lines: i64 = evidence.iter().map(|piece| i64::from(piece.lines)).sum();
        let plural = if evidence.len() == 1 { "" } else { "s" };
        step.detail = format!("{} piece{plural} of evidence, {lines} lines", evidence.len());
    }
    ReportDetail { report: for_reporters(report), steps, evidence, runs: Vec::new() }
}

/// Replaces the reason of a failure, which may repeat messages of tool servers.
fn for_reporters(report: Report) -> Report {
    let error = report.error.as_ref().map(|_| failed_for_reporters(report.id));
    Report { error, ..report }
}

/// Returns the text that reporters see instead of the reason of a failure.
pub(super) fn failed_for_reporters(id: Uuid) -> String {
    format!(
        "it could not be investigated; a viewer can read why at /reports/{id}. If the pod may be gone, send its log with the report"
    )
}

/// Returns the report if the caller may read it: reporters only read their own. Otherwise the report counts as not found.
async fn readable(app: &App, caller: &Caller, id: Uuid) -> Result<Report, Problem> {
    let report = db::reports::get(&app.pool, id).await?;
    let readable = |report: &Report| {
        caller.may_touch(&report.failure.namespace)
            && (caller.role > Role::Reporter || report.caller == caller.name)
    };
    report.filter(readable).ok_or_else(|| missing("report"))
}

/// The whole redacted text of a piece of evidence.
#[utoipa::path(get, operation_id = "get_report_evidence", path = "/api/reports/{id}/evidence/{label}", tag = "reports",
    params(("id" = Uuid, Path), ("label" = String, Path, description = "E1, E2, …")),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 404, body = Problem),
        (status = 410, body = Problem, description = "Past `retention.evidence`")))]
pub async fn evidence(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, label)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let id = known_id(&id)?;
    let position = position(&label)?;
    readable(&app, &caller, id).await?;
    if caller.role == Role::Reporter {
        let all = db::evidence::list(&app.pool, Owner::Report(id), &Principal::nobody()).await?;
        let label = format!("E{position}");
        let is_own = all.iter().any(|piece| piece.label == label && piece.kind != EvidenceKind::ToolResult);
        if !is_own {
            return Err(missing("evidence"));
        }
    }
    let text = kept_text(&app, Owner::Report(id), position, &Principal::nobody()).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// Returns the text of a piece of evidence, if it is still stored and the reader may see it.
pub(crate) async fn kept_text(
    app: &App,
    owner: Owner,
    position: i32,
    reader: &Principal,
) -> Result<String, Problem> {
    let text = db::evidence::text(&app.pool, owner, position, reader).await?;
    match text.ok_or_else(|| missing("evidence"))? {
        Text::Kept(text) => Ok(text),
        Text::Pruned(at) => {
            let at = at.format("%Y-%m-%d");
            let detail = format!("it is no longer kept: it was past `retention.evidence` on {at}");
            Err(Problem::new(StatusCode::GONE, detail))
        }
        Text::Withheld(owner) => Err(withheld(&owner)),
    }
}

/// Returns the problem for content that is visible to its owner alone.
pub(crate) fn withheld(owner: &str) -> Problem {
    let detail = format!("this is visible to {owner} alone: a tool told it to their own access");
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Parses an id. An invalid id is not found, like an unknown one.
pub(crate) fn known_id(text: &str) -> Result<Uuid, Problem> {
    text.parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, format!("`{}` is not an id", text.escape_debug())))
}

/// Returns the position that a label such as `E3` names.
pub(crate) fn position(label: &str) -> Result<i32, Problem> {
    label.trim_start_matches(['E', 'e']).parse().map_err(|_| missing("evidence"))
}

/// Truncates a list with one extra item to the page size. Returns the `before` of the next page, if there is one.
pub(crate) fn cut<T, I>(list: &mut Vec<T>, limit: i64, id: fn(&T) -> I) -> Option<I> {
    let more = list.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        list.pop();
    }
    list.last().filter(|_| more).map(id)
}

pub(crate) fn missing(what: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
}

pub(crate) fn bad_query(text: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

/// Returns the requested status; `state` is an alias.
pub(super) fn asked_status<'a>(
    status: Option<&'a str>,
    state: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    if let (Some(status), Some(state)) = (status, state)
        && status != state
    {
        let problem = "is the same as `status`, and says something else; give one of them".to_owned();
        return Err(Problem::fields(vec![FieldError { field: "state".to_owned(), problem }]));
    }
    Ok(status.or(state))
}

/// Returns the number of items to skip.
pub(super) fn offset(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(0) {
        offset @ 0.. => Ok(offset),
        offset => {
            let problem = format!("has to be 0 or more, not {offset}");
            Err(Problem::fields(vec![FieldError { field: "offset".to_owned(), problem }]))
        }
    }
}

/// Returns the requested page size, 1 to 200; the default is 50.
pub(super) fn page_size(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(50) {
        limit @ 1..=200 => Ok(limit),
        limit => {
            let problem = format!("has to be 1 to 200, not {limit}");
            Err(Problem::fields(vec![FieldError { field: "limit".to_owned(), problem }]))
        }
    }
}
