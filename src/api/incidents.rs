//! `/api/incidents`: incidents with their causes and history.

use super::fields::time;
use super::problem::{FieldError, Problem};
use super::reports::{asked_status, bad_query, cut, known_id, missing, offset, page_size};
use crate::app::App;
use crate::db;
use crate::db::incidents::{Filter, Sort};
use crate::db::reports::Filter as ReportFilter;
use crate::domain::{Caller, FailureClass, Incident, IncidentStatus, Report, Resolution};
use crate::triage;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Maximum number of reports shown with an incident.
const REPORTS: i64 = 50;

/// How a list is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those that stand, or that are solved.
    #[param(inline, value_type = Option<IncidentStatus>)]
    status: Option<String>,
    /// The same as `status`, as pages call it.
    #[param(inline, value_type = Option<IncidentStatus>)]
    state: Option<String>,
    /// Only with a cause of this kind.
    #[param(inline, value_type = Option<FailureClass>)]
    class: Option<String>,
    /// Kubernetes namespace.
    namespace: Option<String>,
    /// Only those seen in this pipeline.
    pipeline: Option<String>,
    /// Only those seen at this time (RFC 3339) or later.
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Only those seen before this time.
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// What is first: `last_seen` (seen last), `first_seen` (new) or `occurrences` (seen most often); `last_seen` when left out.
    #[param(inline, value_type = Option<Sort>)]
    sort: Option<String>,
    /// Only those with all these words, or beginnings of words, in title or namespace.
    text: Option<String>,
    /// The `next` of the page before.
    before: Option<Uuid>,
    /// Incidents to skip.
    offset: Option<i64>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

/// Incidents in the order asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentPage {
    /// The incidents.
    incidents: Vec<Incident>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// An incident with its latest reports.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentDetail {
    #[serde(flatten)]
    incident: Incident,
    /// Pipelines it was seen in; none for whoever is bound to namespaces.
    pipelines: Vec<String>,
    /// The last good run, if a report named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_good_run: Option<String>,
    /// What people and the tracker said about it, oldest first.
    resolutions: Vec<Resolution>,
    /// The latest reports placed here, newest first.
    reports: Vec<Report>,
}

/// Incidents, latest seen first where nothing else is asked for.
#[utoipa::path(get, operation_id = "list_incidents", path = "/api/incidents", tag = "incidents", params(ListQuery),
    responses((status = 200, body = IncidentPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<IncidentPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = page_size(query.limit)?;
    let status = asked_status(query.status.as_deref(), query.state.as_deref())?;
    let filter = Filter {
        status,
        class: query.class.as_deref(),
        namespace: query.namespace.as_deref(),
        within: caller.namespaces.as_deref(),
        pipeline: query.pipeline.as_deref(),
        since: query.since,
        until: query.until,
        sort: sort(query.sort.as_deref())?,
        text: query.text.as_deref(),
        before: query.before,
        offset: offset(query.offset)?,
    };
    let mut incidents = db::incidents::list(&app.pool, &filter, limit + 1).await?;
    let next = cut(&mut incidents, limit, |incident| incident.id);
    Ok(Json(IncidentPage { incidents, next }))
}

/// Parses a sort order.
fn sort(name: Option<&str>) -> Result<Sort, Problem> {
    let Some(name) = name else { return Ok(Sort::default()) };
    Sort::parse(name).ok_or_else(|| {
        let known = Sort::NAMES.join(", ");
        let problem = format!("`{name}` is none; it has to be one of {known}");
        Problem::fields(vec![FieldError { field: "sort".to_owned(), problem }])
    })
}

/// One incident: diagnosis, issue, occurrences.
#[utoipa::path(get, operation_id = "get_incident", path = "/api/incidents/{id}", tag = "incidents", params(("id" = Uuid, Path)),
    responses((status = 200, body = IncidentDetail), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<IncidentDetail>, Problem> {
    let id = known_id(&id)?;
    let incident = db::incidents::get(&app.pool, id).await?;
    let incident = incident.filter(|incident| caller.may_touch(&incident.namespace));
    let incident = incident.ok_or_else(|| missing("incident"))?;
    let within = caller.namespaces.as_deref();
    let filter = ReportFilter { incident: Some(id), within, ..ReportFilter::default() };
    let reports = db::reports::list(&app.pool, &filter, REPORTS).await?;
    // These may belong to any namespace of the incident.
    let (pipelines, last_good_run) = match within {
        Some(_) => (Vec::new(), None),
        None => {
            let pipelines = db::incidents::pipelines(&app.pool, id).await?;
            (pipelines, db::incidents::last_good_run(&app.pool, id).await?)
        }
    };
    let resolutions = db::resolutions::of_incident(&app.pool, id).await?;
    Ok(Json(IncidentDetail { incident, pipelines, last_good_run, resolutions, reports }))
}

/// The text of the incident's issue, as it is filed: Markdown.
#[utoipa::path(get, operation_id = "get_incident_issue", path = "/api/incidents/{id}/issue", tag = "incidents", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/markdown"),
        (status = 404, description = "There is no such incident, or it was not investigated yet", body = Problem),
        (status = 503, description = "The database is away, or the text cannot be written now", body = Problem)))]
pub async fn issue(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id = known_id(&id)?;
    let incident = db::incidents::get(&app.pool, id).await?;
    let incident = incident.filter(|incident| caller.may_touch(&incident.namespace));
    let incident = incident.ok_or_else(|| missing("incident"))?;
    let leader = match db::reports::leader(&app.pool, id).await?.filter(|_| incident.diagnosis.is_some()) {
        Some(leader) => db::reports::get(&app.pool, leader).await?,
        None => None,
    };
    let leader = leader.ok_or_else(|| missing("text: the incident was not investigated yet"))?;
    let text = triage::issue_text(&app, &leader, &incident).await;
    let text = text.map_err(|why| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(5))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text))
}
