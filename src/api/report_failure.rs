//! `POST /report-failure`: receives reports of pipelines. Responses are compatible with the agent that it replaces.

use super::bodies::BodyMemoryGuard;
use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::Problem;
use super::report_wait::ReportWait;
use super::reports::failed_for_reporters;
use crate::app::{App, Incoming};
use crate::db::{self, reports};
use crate::domain::{Caller, Failure, Report, ReportStatus, Role};
use crate::triage::{Intake, IntakeError, Submission, intake};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Seconds after which a report may be sent again when the queue was full.
const RETRY_AFTER: u32 = 30;

/// Fields of a report.
const FIELDS: FieldFilter = FieldFilter::Of(&[
    "namespace",
    "pod_name",
    "container_name",
    "pipeline",
    "task",
    "run",
    "run_url",
    "last_good_run",
    "repository",
    "commit",
    "log",
    "good_log",
]);

/// What a pipeline sends.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReportFailureRequest {
    #[serde(flatten)]
    failure: Failure,
    /// A log, for failures whose pod is gone.
    log: Option<String>,
    /// The log of the last good run of the same job: what it says too counts less.
    good_log: Option<String>,
}

/// What it gets.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportFailureResponse {
    /// `success`, or `accepted` with 202.
    #[schema(example = "success")]
    pub status: &'static str,
    /// What came of it.
    #[schema(example = "Issue created: https://gitea.example/platform/failures/issues/7")]
    pub result: String,
    /// The report's id.
    pub report_id: Uuid,
}

/// Report a failed pod.
///
/// Waits for the outcome; with `Prefer: respond-async`, or when it takes longer than the server waits, answers 202 with the report's URL.
#[utoipa::path(
    post, operation_id = "report_failure", path = "/report-failure", tag = "reports", request_body = ReportFailureRequest,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same report"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` answers at once")
    ),
    responses(
        (status = 200, description = "Done", body = ReportFailureResponse),
        (status = 202, description = "Accepted; look at Location", body = ReportFailureResponse),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 403, description = "Not a namespace of the caller's", body = Problem),
        (status = 409, description = "The key was used for another request", body = Problem),
        (status = 413, description = "Body too large", body = Problem),
        (status = 422, description = "A field is wrong", body = Problem),
        (status = 502, description = "The report failed", body = Problem),
        (status = 503, description = "The database is away, or too many reports wait; see Retry-After", body = Problem)
    )
)]
pub async fn report_failure(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    held: Option<Extension<BodyMemoryGuard>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let submission = submission(&headers, Fields::of_body(&app, body, FIELDS).await?)?;
    let role = caller.role;
    let id = match take_from(&app, caller, submission).await? {
        Intake::Accepted(id) | Intake::Repeated(id) => id,
        Intake::KeyReused(id) => {
            let detail = "this `Idempotency-Key` was used for another request; send a new key";
            return Err(Problem::new(StatusCode::CONFLICT, detail).about(id));
        }
    };
    // Release the body's memory before waiting for the outcome.
    if let Some(Extension(held)) = held {
        held.release();
    }
    if prefers_async(&headers) {
        return Ok(accepted(id, true));
    }
    // A waiting connection uses memory; beyond the limit, clients get the outcome at the URL.
    let Some(_place) = app.admission.wait() else { return Ok(accepted(id, false)) };
    let mut wait = ReportWait::begin(&app, id);
    loop {
        let report = db::with_timeout(reports::get(&app.pool, id)).await?;
        let Some(report) = report else {
            return Err(Problem::new(StatusCode::NOT_FOUND, "the report was deleted meanwhile").about(id));
        };
        if report.status.is_final() {
            return outcome(&report, role);
        }
        if !wait.next().await {
            return Ok(accepted(id, false));
        }
    }
}

/// Stores a report from a form, with the same fields and rules. The same key identifies the same form, sent again.
pub(crate) async fn of_form(
    app: &App,
    caller: Caller,
    values: Map<String, Value>,
    key: &str,
) -> Result<Intake, Problem> {
    let key = HeaderValue::from_str(key).ok().filter(|key| !key.is_empty());
    let key = key.map(|key| (HeaderName::from_static("idempotency-key"), key));
    let submission = submission(&HeaderMap::from_iter(key), Fields::of(values))?;
    take_from(app, caller, submission).await
}

/// Stores a report if the caller may report failures of its namespace.
async fn take_from(app: &App, caller: Caller, submission: Submission) -> Result<Intake, Problem> {
    let namespace = &submission.failure.namespace;
    if !caller.may_touch(namespace) {
        let detail = format!("{} may not report failures of the namespace `{namespace}`", caller.name);
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    take(app, Submission { caller: caller.actor(), ..submission }).await
}

/// Stores a report if the queue has room.
pub(super) async fn take(app: &App, submission: Submission) -> Result<Intake, Problem> {
    let incoming = room(app, &submission).await?;
    let taken = intake(&app.pool, &app.blocking, submission, app.config.privacy.clone()).await?;
    if let Some(incoming) = incoming {
        incoming.over(matches!(taken, Intake::Accepted(_)));
    }
    Ok(taken)
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Database(error) => error.into(),
            IntakeError::Blocking(error) => {
                tracing::error!(%error, "a report's texts could not be prepared");
                let detail =
                    format!("the report was not stored: preparing its texts failed, {error}; send it again");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
            }
        }
    }
}

/// Reserves a place in the queue, or refuses if it is full. Returns `None` for a report that was already accepted with this
/// key.
async fn room<'a>(app: &'a App, submission: &Submission) -> Result<Option<Incoming<'a>>, Problem> {
    if let Some(incoming) = app.admission.report(&app.pool).await? {
        return Ok(Some(incoming));
    }
    if let Some(key) = &submission.idempotency_key
        && db::with_timeout(reports::by_key(&app.pool, &submission.caller.name, key)).await?.is_some()
    {
        return Ok(None);
    }
    let limit = app.config.limits.max_waiting;
    let detail =
        format!("{limit} reports wait already, as many as `queue.max_waiting` allows; send it again later");
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER))
}

fn submission(headers: &HeaderMap, mut fields: Fields) -> Result<Submission, Problem> {
    let failure = Failure {
        namespace: fields.required("namespace", Shape::Label),
        pod_name: fields.required("pod_name", Shape::Subdomain),
        container_name: fields.optional("container_name", Shape::Label),
        pipeline: fields.optional("pipeline", Shape::Line(253)),
        task: fields.optional("task", Shape::Line(253)),
        run: fields.optional("run", Shape::Line(253)),
        run_url: fields.optional("run_url", Shape::Url),
        last_good_run: fields.optional("last_good_run", Shape::Url),
        repository: fields.optional("repository", Shape::Line(500)),
        commit: fields.optional("commit", Shape::Line(100)),
    };
    let log = fields.optional("log", Shape::Text);
    let good_log = fields.optional("good_log", Shape::Text);
    let key = headers.get("idempotency-key").map(HeaderValue::to_str);
    let idempotency_key = match key {
        None => None,
        Some(Ok(key)) if (1..=255).contains(&key.trim().len()) => Some(key.trim().to_owned()),
        Some(_) => {
            fields.error("Idempotency-Key", "has to be 1 to 255 visible ASCII characters");
            None
        }
    };
    fields.finish()?;
    Ok(Submission { failure, log, good_log, idempotency_key, ..Submission::default() })
}

/// Returns whether the client sent `Prefer: respond-async` (RFC 7240).
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|part| part.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async"))
}

fn accepted(id: Uuid, asked: bool) -> Response {
    let location = format!("/api/reports/{id}");
    let result = format!("Report accepted; its outcome will be at {location}");
    let body = Json(ReportFailureResponse { status: "accepted", result, report_id: id });
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    if asked {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    response
}

pub(super) fn outcome(report: &Report, role: Role) -> Result<Response, Problem> {
    match report.status {
        ReportStatus::Done => {
            let result = report.result.clone().unwrap_or_default();
            Ok(Json(ReportFailureResponse { status: "success", result, report_id: report.id })
                .into_response())
        }
        _ => {
            let reason = report.error.clone().filter(|_| role > Role::Reporter);
            let reason = reason.unwrap_or_else(|| failed_for_reporters(report.id));
            Err(Problem::new(StatusCode::BAD_GATEWAY, format!("the report failed: {reason}"))
                .about(report.id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_read_as_the_rfc_writes_it() {
        let headers = |value: &str| {
            HeaderMap::from_iter([("prefer".parse().unwrap(), HeaderValue::from_str(value).unwrap())])
        };
        assert!(prefers_async(&headers("wait=10, Respond-Async")));
        assert!(prefers_async(&headers("respond-async; foo=bar")));
        assert!(!prefers_async(&headers("return=minimal")));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let body =
            br#"{"namespace": "Not OK", "pod_name": 5, "run_url": "javascript:alert(1)", "surprise": 1}"#;
        let fields = Fields::parse(body, FIELDS).unwrap_or_else(|problem| panic!("{problem:?}"));
        let problem = submission(&HeaderMap::new(), fields).unwrap_err();
        assert_eq!(problem.status, 422);
        let named: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(named, ["namespace", "pod_name", "run_url"]);
    }
}
