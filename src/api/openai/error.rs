//! Errors in the format of the OpenAI API.

use crate::api::problem::RETRY_AFTER;
use crate::api::problem::{Problem, with_body};
use crate::chat::AskError;
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Base path of the OpenAI routes.
pub(crate) const BASE: &str = "/v1/";

/// Error code: no capacity for another answer.
const FULL: &str = "overloaded";

/// An error in the API's own form.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenAiError {
    /// What went wrong.
    error: Described,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetail)]
struct Described {
    /// In words, with what to do.
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field of the request that is wrong, if it is one.
    param: Option<String>,
    /// What it is, for programs.
    code: &'static str,
}

/// An error response of the OpenAI API.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    code: &'static str,
    param: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>, code: &'static str) -> Self {
        Self { status, message: message.into(), code, param: None }
    }

    /// Returns a 400 error: the request cannot be read.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, "bad_request")
    }

    /// Returns a 503 error: there is no capacity.
    pub(super) fn full(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message, FULL)
    }

    /// Returns the parameter that the error concerns.
    #[cfg(test)]
    pub(super) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Sets the parameter that the error concerns.
    pub(super) fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, message, code, param } = self;
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let body = OpenAiError { error: Described { message, kind, param, code } };
        let mut response = (status, Json(body)).into_response();
        if code == FULL {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        response
    }
}

/// Converts each problem of a route to an OpenAI error.
pub(in crate::api) async fn convert_problems(request: Request, next: Next) -> Response {
    of_problem(next.run(request).await)
}

/// Converts a problem response to an OpenAI error with the same status and headers. Other responses are unchanged.
pub(crate) fn of_problem(response: Response) -> Response {
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    let error = ApiError::from(problem);
    with_body(response, error.into_response())
}

impl From<&Problem> for ApiError {
    fn from(problem: &Problem) -> Self {
        let code = match problem.status {
            401 => "invalid_api_key",
            403 => "insufficient_permissions",
            400 | 413 => "bad_request",
            422 => "invalid_parameter",
            429 => "rate_limit_exceeded",
            _ => "unavailable",
        };
        let param = problem.errors.first().map(|error| error.field.clone());
        Self { status: problem.code(), message: problem.detail.clone(), code, param }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database is away; try again in a moment",
            "unavailable",
        )
    }
}

impl From<AskError> for ApiError {
    fn from(refusal: AskError) -> Self {
        let message = refusal.to_string();
        match refusal {
            AskError::Missing(_) => Self::new(StatusCode::NOT_FOUND, message, "not_found"),
            AskError::Busy => Self::new(StatusCode::CONFLICT, message, "busy"),
            AskError::Full => Self::full(message),
            AskError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, message, "unavailable"),
            AskError::Database(error) => error.into(),
        }
    }
}
