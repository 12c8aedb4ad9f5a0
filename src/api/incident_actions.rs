//! Actions on incidents: resolve, reopen, investigate again, and resolve many at once.

use super::fields::Fields;
use super::json::FieldFilter;
use super::problem::Problem;
use super::reports::{known_id, missing};
use super::retry::queued;
use crate::app::App;
use crate::db::incidents;
use crate::domain::{Caller, Incident, IncidentStatus, Report, Verdict};
use crate::knowledge::{NewResolution, Reopened};
use crate::triage;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

const FIELDS: FieldFilter = FieldFilter::Of(&["ids"]);
/// Maximum number of incidents resolved in one request.
pub(crate) const MAX_RESOLVED: usize = 200;

/// Which incidents are solved.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field to name what is wrong")]
pub struct ResolveMany {
    /// 1 to 200 ids.
    ids: Vec<Uuid>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ResolvedMany {
    /// Those that are resolved now.
    pub resolved: Vec<Uuid>,
    /// Those that were resolved before, or that there are not.
    pub skipped: Vec<Uuid>,
}

/// Returns the incident if the caller may access it.
async fn known(app: &App, caller: &Caller, id: Uuid) -> Result<Incident, Problem> {
    let incident = incidents::get(&app.pool, id).await?;
    incident.filter(|incident| caller.may_touch(&incident.namespace)).ok_or_else(|| missing("incident"))
}

async fn close(app: &App, caller: &Caller, id: Uuid) -> Result<(), Problem> {
    let said = NewResolution::only(Verdict::Closed, caller.actor(), "person");
    app.knowledge.resolve(id, said).await?.map(|_| ()).ok_or_else(|| missing("incident"))
}

/// Resolve an incident: the next report of its cause opens another one, which links this one. Its issue stays as it is.
#[utoipa::path(post, operation_id = "resolve_incident", path = "/api/incidents/{id}/resolve", tag = "incidents", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The incident, resolved", body = Incident),
        (status = 404, description = "There is no such incident", body = Problem),
        (status = 409, description = "It is resolved already", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn resolve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Incident>, Problem> {
    let id = known_id(&id)?;
    if known(&app, &caller, id).await?.status == IncidentStatus::Resolved {
        return Err(Problem::new(StatusCode::CONFLICT, "the incident is resolved already"));
    }
    close(&app, &caller, id).await?;
    known(&app, &caller, id).await.map(Json)
}

/// Open a resolved incident again: reports of its cause are counted there.
#[utoipa::path(post, operation_id = "reopen_incident", path = "/api/incidents/{id}/reopen", tag = "incidents", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The incident, open", body = Incident),
        (status = 404, description = "There is no such incident", body = Problem),
        (status = 409, description = "It is open, was merged, or its cause has another open incident", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn reopen(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Incident>, Problem> {
    let id = known_id(&id)?;
    known(&app, &caller, id).await?;
    match app.knowledge.reopen(id, caller.actor()).await? {
        Reopened::Open(incident) => Ok(Json(*incident)),
        Reopened::Missing => Err(missing("incident")),
        Reopened::IsOpen => Err(Problem::new(StatusCode::CONFLICT, "the incident is open")),
        Reopened::Merged(into) => {
            let detail = format!("the incident was merged into {into}; split its reports off there");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Reopened::CameBack(other) => {
            let detail = format!("the cause came back and has an incident that is open: {other}");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}

/// Investigate an incident once more, on the evidence that is kept of it. Its conclusion stands until there is another one.
#[utoipa::path(post, operation_id = "investigate_incident", path = "/api/incidents/{id}/investigate", tag = "incidents", params(("id" = Uuid, Path)),
    responses(
        (status = 202, description = "The report that is investigated", body = Report),
        (status = 404, description = "There is no such incident", body = Problem),
        (status = 409, description = "It is resolved, is being investigated, or its evidence is no longer kept", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn investigate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Report>), Problem> {
    let id = known_id(&id)?;
    known(&app, &caller, id).await?;
    queued(triage::investigate_again(&app.pool, id, &caller.actor()).await?, "incident")
}

/// Resolve many incidents. Those that are resolved already are skipped.
#[utoipa::path(post, operation_id = "resolve_incidents", path = "/api/incidents/resolve", tag = "incidents", request_body = ResolveMany,
    responses(
        (status = 200, description = "Which were resolved", body = ResolvedMany),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 422, description = "A field is wrong", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn resolve_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ResolvedMany>, Problem> {
    let mut fields = Fields::of_body(&app, body, FIELDS).await?;
    let given = fields.lines("ids", MAX_RESOLVED).unwrap_or_default();
    let mut ids: Vec<Uuid> = given.iter().filter_map(|id| id.parse().ok()).collect();
    if ids.len() < given.len() {
        fields.error("ids", "has something that is not an id");
    } else if ids.is_empty() {
        fields.error("ids", "is required: the ids of the incidents to resolve");
    }
    fields.finish()?;
    ids.sort_unstable();
    ids.dedup();
    resolve_these(&app, &caller, &ids).await.map(Json)
}

/// Resolves the open incidents among these; reports the others as skipped.
pub(crate) async fn resolve_these(app: &App, caller: &Caller, ids: &[Uuid]) -> Result<ResolvedMany, Problem> {
    let mut all = ResolvedMany::default();
    for id in ids {
        let known = incidents::get(&app.pool, *id).await?;
        let open = |incident: &Incident| {
            incident.status == IncidentStatus::Open && caller.may_touch(&incident.namespace)
        };
        if known.as_ref().is_some_and(open) {
            close(app, caller, *id).await?;
            all.resolved.push(*id);
        } else {
            all.skipped.push(*id);
        }
    }
    Ok(all)
}
