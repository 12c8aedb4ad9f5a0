//! Errors of pages and of the scripts on them.

use crate::api::Problem;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// A problem shown as a page.
#[derive(Debug)]
pub(super) struct PageError(pub(super) Problem);

impl<T: Into<Problem>> From<T> for PageError {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        // The text of the page states it.
        response.headers_mut().remove(header::RETRY_AFTER);
        response
    }
}

/// A problem returned to a script in the API's format.
#[derive(Debug)]
pub(super) struct ScriptError(Problem);

impl<T: Into<Problem>> From<T> for ScriptError {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for ScriptError {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        // Keeps the problem from being converted to a page.
        response.extensions_mut().remove::<Problem>();
        response
    }
}
