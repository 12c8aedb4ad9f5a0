//! Errors as problem details (RFC 9457). Internal error texts are not exposed; details that a caller can act on are.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Seconds after which a question may be asked again when there was no capacity.
pub(super) const RETRY_AFTER: u32 = 5;

/// A field of the request and what is wrong with it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FieldError {
    /// Name of the field.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says the kind.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What went wrong and what to do.
    pub detail: String,
    /// Wrong fields of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The report it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_id: Option<Uuid>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    /// Returns a problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            report_id: None,
            retry_after: None,
        }
    }

    /// Returns a 422 problem with the invalid fields.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail =
            errors.iter().map(|error| format!("`{}` {}", error.field, error.problem)).collect::<Vec<_>>();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail.join("; ")) }
    }

    /// Returns a 422 problem with one invalid field.
    #[must_use]
    pub fn field(field: &str, problem: &str) -> Self {
        Self::fields(vec![FieldError { field: field.to_owned(), problem: problem.to_owned() }])
    }

    /// Returns the status.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Sets the seconds after which a retry is useful.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns a response whose format is negotiated later, for errors that occur outside a route.
    pub(crate) fn negotiable(self) -> Response {
        let mut response = self.into_response();
        response.extensions_mut().insert(Negotiable);
        response
    }

    /// Sets the report that the problem concerns.
    #[must_use]
    pub fn about(mut self, report: Uuid) -> Self {
        self.report_id = Some(report);
        self
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        let refused = match &error {
            sqlx::Error::Database(error) => !crate::db::is_away(error.code().as_deref()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
            _ => false,
        };
        if refused {
            tracing::error!(%error, "the database refused a statement");
            return Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "an internal error; the request id leads to it in the log",
            );
        }
        tracing::error!(%error, "the database is away");
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database is away; try again in a moment");
        problem.retry_after = Some(5);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code();
        let retry_after = self.retry_after;
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Used by layers that convert the problem to another format.
        response.extensions_mut().insert(self);
        response
    }
}

/// Marks a problem response whose format depends on the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Negotiable;

/// Replaces the body of a response and the headers that describe it. The status and other headers stay.
pub(crate) fn with_body(response: Response, other: Response) -> Response {
    let (mut head, _) = response.into_parts();
    let (other, body) = other.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(other.headers);
    Response::from_parts(head, body)
}
