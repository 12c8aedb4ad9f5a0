//! Authenticates the caller once per request; authorization is decided at the route.

use crate::api::RouteRules;
use crate::api::caller::{Authenticated, COOKIE, RequestId};
use crate::api::client::Key;
use crate::app::App;
use crate::auth::{AuthError, Credentials};
use crate::domain::Caller;
use crate::telemetry;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use axum_extra::extract::CookieJar;
use secrecy::SecretString;
use std::sync::Arc;

/// Adds the authentication result to the request.
pub(super) async fn authenticate(
    State((app, rules)): State<(Arc<App>, Arc<RouteRules>)>,
    mut request: Request,
    next: Next,
) -> Response {
    // Uncounted routes are public and requested often, so they are not authenticated.
    let open = rules.rate(&request).is_none();
    let entered = match credentials(request.headers()) {
        _ if open => Err(AuthError::Silent("say who you are")),
        Ok(credentials) => {
            let address = request.extensions().get::<Key>().and_then(Key::address);
            app.auth.caller(&Credentials { address, ..credentials }).await
        }
        Err(refused) if app.auth.is_on() => Err(refused),
        Err(_) => Ok(Caller::anyone()),
    };
    let RequestId(id) = RequestId::of(request.headers());
    let entered = entered.map(|caller| Caller { request: id, ..caller });
    request.extensions_mut().insert(Authenticated(entered.clone()));
    if let Ok(caller) = entered {
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

fn credentials(headers: &HeaderMap) -> Result<Credentials, AuthError> {
    let refused = |why: &str| AuthError::Refused(why.to_owned());
    let bearer = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let text = value.to_str().map_err(|_| refused("the `Authorization` header cannot be read"))?;
            let (scheme, token) = text.trim().split_once(' ').unwrap_or((text, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(refused("the `Authorization` header has to be `Bearer` and a key or token"));
            }
            Some(SecretString::from(token.trim().to_owned()))
        }
    };
    let cookie = CookieJar::from_headers(headers).get(COOKIE).map(|cookie| cookie.value().to_owned());
    Ok(Credentials { bearer, cookie: cookie.map(SecretString::from), address: None })
}

/// Adds the request id to the log lines of the request.
pub(super) async fn named(request: Request, next: Next) -> Response {
    let RequestId(id) = RequestId::of(request.headers());
    telemetry::named(id, next.run(request)).await
}
