//! Restricts access to programs on this host and prevents DNS rebinding by web pages.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Rejects a request whose `Host` or `Origin` is not loopback.
pub(super) async fn only(request: Request, next: Next) -> Response {
    if is_local(&request) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this server is for programs on the same machine").into_response()
    }
}

fn is_local(request: &Request) -> bool {
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = match (text(header::HOST), request.uri().authority()) {
        (Some(host), _) => host.parse::<Authority>().is_ok_and(|authority| is_loopback(authority.host())),
        (None, Some(authority)) => is_loopback(authority.host()),
        (None, None) => false,
    };
    // An opaque origin (`null`) has no host and is rejected too.
    let origin = text(header::ORIGIN)
        .is_none_or(|origin| origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback)));
    host && origin
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}
