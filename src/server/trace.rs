//! Creates a span for each request, under the caller's trace, and counts the request.

use crate::metrics::metrics;
use crate::telemetry::trace::{KeyValue, Span, SpanKind, TRACEPARENT, parent};
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;

/// Traces a request by its route template, except health probes and metrics.
pub(super) async fn traced(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = path.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    if route.starts_with("/health") || route == "/metrics" {
        return next.run(request).await;
    }
    let told = request.headers().get(TRACEPARENT).and_then(|told| told.to_str().ok());
    let method = known(request.method());
    let attributes =
        vec![KeyValue::new("http.request.method", method), KeyValue::new("http.route", route.clone())];
    let span = Span::begin_under(&parent(told), format!("{method} {route}"), SpanKind::Server, attributes);
    let response = span.of(next.run(request)).await;
    span.set("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.fail("server_error");
    }
    response
}

/// Counts a request by its route template, since the path is arbitrary input.
pub(super) async fn count(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let (method, begun) = (known(request.method()), Instant::now());
    let response = next.run(request).await;
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    metrics().request(route, method, response.status().as_u16(), begun.elapsed());
    response
}

/// Maps a method to a fixed set of labels, since a method may be any token.
pub(super) fn known(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
