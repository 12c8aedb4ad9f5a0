//! What goes wrong on the way to a page, told to people: the page of the problem, or the one to log in.

use super::login::to_login;
use super::page::Page;
use crate::api::caller::LoginRequired;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

/// Whether whoever asks takes a page.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

/// Tells each problem of a page's route on a page. Whoever did not say who they are is sent to log in.
pub(super) async fn render_problems(page: Page, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let takes_page = accepts_html(request.headers());
    let response = next.run(request).await;
    if takes_page && response.extensions().get::<LoginRequired>().is_some() {
        return to_login(&method, &uri);
    }
    page.of_problem(response)
}
