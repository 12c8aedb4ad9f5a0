//! Who calls: found out once for a request, judged at its route, and handed to its handler.

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

/// The pages' cookie: the prefix has browsers keep it to this host, and to encrypted connections.
pub(crate) const COOKIE: &str = "__Host-regreen";

/// Longest id of a request that goes on record.
const MAX_REQUEST_ID: usize = 128;

/// The id of a request; empty where a client's does not look like one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// As the request's headers name it.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self(if id.len() <= MAX_REQUEST_ID { id.to_owned() } else { String::new() })
    }
}

/// Which request, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct RequestOrigin {
    /// Its id.
    pub(crate) id: String,
    /// The address, as far as it is known.
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

/// What was found out about who calls.
#[derive(Clone)]
pub(crate) struct Authenticated(pub(crate) Result<Caller, AuthError>);

/// Marks the answer to somebody who did not say who they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginRequired;

/// Of what viewers may read, what is narrowed to the namespaces that a caller is bound to. Everything else is about all of them.
const NARROWED: [&str; 3] = ["/api/incidents", "/api/incidents/{id}", "/api/search"];

/// Whether what a route tells is kept to the namespaces of a caller who is bound to some.
fn is_narrowed(role: Role, path: Option<&str>) -> bool {
    role == Role::Reporter || path.is_some_and(|path| NARROWED.contains(&path))
}

/// Lets a request to its handler when whoever calls may do what it does.
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

/// What somebody is told who did not show who they are.
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
