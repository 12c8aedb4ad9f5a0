//! `POST /api/incidents/{id}/merge` and `/split`: corrections of incidents by people.

use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{FieldError, Problem};
use super::reports::{known_id, missing};
use crate::app::App;
use crate::db::merges::IncidentMerge;
use crate::domain::{Caller, Incident};
use crate::triage::{self, MergeError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum number of reports moved at once.
const MAX_REPORTS: usize = 100;

/// Where an incident goes on.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field to name what is wrong")]
pub struct MergeRequest {
    /// The open incident, of the same namespace, that goes on.
    into: Uuid,
}

/// The incident that goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct MergeResponse {
    #[serde(flatten)]
    incident: Incident,
    /// What became of the issue of the other one; absent when it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Issue 7 says where it goes on.")]
    merged_issue: Option<String>,
}

/// Which reports are of another cause.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field to name what is wrong")]
pub struct SplitRequest {
    /// Ids of 1 to 100 reports of the incident, of one namespace.
    reports: Vec<Uuid>,
}

/// Merge an incident into another one of the same cause.
///
/// The other one has the reports of both from then on, and the next report of either cause is counted there. The issue of the merged one gets a
/// comment that says where it goes on; if the other one has no issue, it takes this one over.
#[utoipa::path(post, operation_id = "merge_incident", path = "/api/incidents/{id}/merge", tag = "incidents", params(("id" = Uuid, Path)),
    request_body = MergeRequest,
    responses(
        (status = 200, description = "The incident that goes on", body = MergeResponse),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 403, description = "The incidents have reports of namespaces that are not the caller's", body = Problem),
        (status = 404, description = "There is no such incident", body = Problem),
        (status = 409, description = "One is resolved, merged or being investigated, or they are of two namespaces", body = Problem),
        (status = 422, description = "A field is wrong", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn merge(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<MergeResponse>, Problem> {
    let id = known_id(&id)?;
    let mut fields = Fields::of_body(&app, body, FieldFilter::Of(&["into"])).await?;
    let into = fields.required("into", Shape::Line(100)).parse::<Uuid>().ok();
    if into.is_none() {
        fields.error("into", "has to be the id of an incident");
    }
    fields.finish()?;
    let merge = IncidentMerge { from: id, into: into.unwrap_or_default() };
    let merged = triage::merge(&app, &caller, merge).await?;
    Ok(Json(MergeResponse { incident: merged.incident, merged_issue: merged.issue }))
}

/// Split reports of another cause off an incident.
///
/// They get an incident of their own, which is investigated from the evidence that is stored. The next report like them is placed there.
#[utoipa::path(post, operation_id = "split_incident", path = "/api/incidents/{id}/split", tag = "incidents", params(("id" = Uuid, Path)),
    request_body = SplitRequest,
    responses(
        (status = 201, description = "The incident of these reports", body = Incident),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 403, description = "The incident has reports of namespaces that are not the caller's", body = Problem),
        (status = 404, description = "There is no such incident", body = Problem),
        (status = 409, description = "It is resolved or being investigated, or nothing tells these reports from the others", body = Problem),
        (status = 422, description = "A field is wrong", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn split(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Incident>), Problem> {
    let id = known_id(&id)?;
    let mut fields = Fields::of_body(&app, body, FieldFilter::Of(&["reports"])).await?;
    let named = fields.lines("reports", MAX_REPORTS).unwrap_or_default();
    let mut reports: Vec<Uuid> = named.iter().filter_map(|id| id.parse().ok()).collect();
    if reports.is_empty() || reports.len() != named.len() {
        fields.error("reports", "has to be a list of ids of reports");
    }
    fields.finish()?;
    reports.sort_unstable();
    reports.dedup();
    let new = triage::split(&app, &caller, id, &reports).await?;
    Ok((StatusCode::CREATED, Json(new)))
}

impl From<MergeError> for Problem {
    fn from(error: MergeError) -> Self {
        let field = |name: &str, problem: &str| {
            Self::fields(vec![FieldError { field: name.to_owned(), problem: problem.to_owned() }])
        };
        match error {
            MergeError::Missing("into") => field("into", "is not an incident that can be found"),
            MergeError::Missing("reports") => field("reports", "has to name reports of this incident"),
            MergeError::Missing(what) => missing(what),
            MergeError::Refused(why) => Self::new(StatusCode::CONFLICT, why),
            MergeError::Forbidden(why) => Self::new(StatusCode::FORBIDDEN, why),
            MergeError::Database(error) => error.into(),
            MergeError::Blocking(error) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the evidence of the reports could not be worked through: {error}; try again"),
            ),
        }
    }
}
