//! Caller of a request: authenticated once per request, authorized at the route and passed to the handler.

use super::client::ClientAddress;
use super::problem::Problem;
use crate::auth::{self, AuthError};
use crate::domain::{Caller, Role};
use crate::evidence::redact;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Session cookie of the pages: the prefix restricts it to this host and to encrypted connections.
pub(crate) const COOKIE: &str = "__Host-regreen";

/// Maximum length of a request id that is recorded.
const MAX_REQUEST_ID: usize = 128;

/// Id of a request; empty if the header is missing or invalid.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// Reads the id from the headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self(if id.len() <= MAX_REQUEST_ID { id.to_owned() } else { String::new() })
    }
}

/// Id and client address of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestOrigin {
    pub(crate) id: String,
    /// Client address, if known.
    pub(crate) address: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for RequestOrigin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let RequestId(id) = RequestId::of(&parts.headers);
        let address = parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address);
        Ok(Self { id, address })
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// Result of the authentication.
#[derive(Clone)]
pub(crate) struct Authenticated(pub(crate) Result<Caller, AuthError>);

/// Marks the response to a request without credentials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginRequired;

/// Viewer routes that limit their result to the namespaces of the caller. All other viewer routes cover all namespaces.
const NARROWED: [&str; 3] = ["/api/incidents", "/api/incidents/{id}", "/api/search"];

/// Returns whether a route limits its result to the namespaces of the caller.
fn is_narrowed(role: Role, path: Option<&str>) -> bool {
    role == Role::Reporter || path.is_some_and(|path| NARROWED.contains(&path))
}

/// Passes a request to its handler if the caller has the required role.
pub(crate) async fn authorize(role: Role, request: Request, next: Next) -> Response {
    let entered = request.extensions().get::<Authenticated>().cloned();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let narrowed = is_narrowed(role, path);
    match entered {
        Some(Authenticated(Ok(caller)))
            if caller.role >= role && (caller.namespaces.is_none() || narrowed) =>
        {
            next.run(request).await
        }
        Some(Authenticated(Ok(caller))) if caller.role >= role => {
            let detail = format!("{} is bound to namespaces, and this tells of all of them", caller.name);
            Problem::new(StatusCode::FORBIDDEN, detail).into_response()
        }
        Some(Authenticated(Ok(caller))) => {
            let detail = format!(
                "{} {} may do this; {} is {} {}",
                article(role),
                role.as_str(),
                caller.name,
                article(caller.role).to_lowercase(),
                caller.role.as_str()
            );
            Problem::new(StatusCode::FORBIDDEN, detail).into_response()
        }
        Some(Authenticated(Err(unknown))) => turned_away(&unknown, request.uri().path()),
        None => nobody_asked().into_response(),
    }
}

fn article(role: Role) -> &'static str {
    if matches!(role, Role::Operator | Role::Admin) { "An" } else { "A" }
}

/// Maps an authentication error to a problem.
pub(crate) fn problem(unknown: &AuthError) -> Problem {
    let status = match unknown {
        AuthError::Silent(_) | AuthError::Refused(_) => StatusCode::UNAUTHORIZED,
        AuthError::NoRole(_) => StatusCode::FORBIDDEN,
        AuthError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        AuthError::Away(_) | AuthError::Database => StatusCode::SERVICE_UNAVAILABLE,
    };
    let problem = Problem::new(status, unknown.to_string());
    match unknown {
        AuthError::TooMany(wait) => problem.retry_after(auth::seconds(*wait)),
        _ if status == StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(5),
        _ => problem,
    }
}

fn turned_away(unknown: &AuthError, path: &str) -> Response {
    let mut response = problem(unknown).into_response();
    // RFC 6750, section 3.
    let challenge = match unknown {
        AuthError::Silent(_) => {
            response.extensions_mut().insert(LoginRequired);
            Some("Bearer realm=\"regreen\"")
        }
        AuthError::Refused(why) => {
            tracing::info!(why, path = redact::plain(path), "a caller is refused");
            Some("Bearer realm=\"regreen\", error=\"invalid_token\"")
        }
        _ => None,
    };
    let headers = response.headers_mut();
    if let Some(challenge) = challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn nobody_asked() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody asked who calls")
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(nobody_asked)
    }
}
