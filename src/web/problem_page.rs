//! Shows problems of page requests as an error page or as a redirect to the login page.

use super::login::to_login;
use super::page::Page;
use crate::api::caller::LoginRequired;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

/// Returns whether the client accepts HTML.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

/// Converts each problem of a page route to an error page. Redirects requests without credentials to the login page.
pub(super) async fn render_problems(page: Page, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let takes_page = accepts_html(request.headers());
    let response = next.run(request).await;
    if takes_page && response.extensions().get::<LoginRequired>().is_some() {
        return to_login(&method, &uri);
    }
    page.of_problem(response)
}
