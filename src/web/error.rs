//! What goes wrong where a page is made, and where its scripts ask for more.

use crate::api::Problem;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// A problem that is told on a page.
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
        // The page's text says it to people.
        response.headers_mut().remove(header::RETRY_AFTER);
        response
    }
}

/// A problem that is told to a script, as the API tells it.
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
        // It does not become a page.
        response.extensions_mut().remove::<Problem>();
        response
    }
}
