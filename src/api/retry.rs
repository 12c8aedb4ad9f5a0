//! `POST /api/reports/{id}/retry`: retries a failed report.

use super::problem::Problem;
use super::reports::{known_id, missing};
use crate::app::App;
use crate::db::reports;
use crate::domain::{Caller, Report};
use crate::triage::{self, RequeueOutcome};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::sync::Arc;

/// Try a failed report again. What was collected for it stays; all else is done anew.
#[utoipa::path(post, operation_id = "retry_report", path = "/api/reports/{id}/retry", tag = "reports", params(("id" = Uuid, Path)),
    responses(
        (status = 202, description = "It is in the queue again", body = Report),
        (status = 404, description = "There is no such report", body = Problem),
        (status = 409, description = "It did not fail", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Report>), Problem> {
    let id = known_id(&id)?;
    let known = reports::get(&app.pool, id).await?;
    if !known.is_some_and(|report| caller.may_touch(&report.failure.namespace)) {
        return Err(missing("report"));
    }
    queued(triage::retry(&app.pool, id, &caller.actor()).await?, "report")
}

/// Converts the outcome of a retry to a response.
pub(super) fn queued(again: RequeueOutcome, what: &str) -> Result<(StatusCode, Json<Report>), Problem> {
    match again {
        RequeueOutcome::Queued(report) => Ok((StatusCode::ACCEPTED, Json(*report))),
        RequeueOutcome::Missing => Err(missing(what)),
        RequeueOutcome::Refused(why) => Err(Problem::new(StatusCode::CONFLICT, why)),
    }
}
