//! Login to the pages with an API key or at the issuer, and logout.

use super::error::PageError;
use super::extract::{PageForm, PageQuery};
use super::forms::field;
use super::page::PageContext;
use super::value::value;
use crate::api::Problem;
use crate::api::caller::{COOKIE, RequestOrigin, problem};
use crate::app::App;
use crate::auth::{AuthError, Secret};
use crate::clock;
use crate::db::audit;
use crate::domain::{Actor, AuditAction, AuditEvent, AuditOutcome};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use minijinja::context;
use secrecy::SecretString;
use serde::Deserialize;
use std::sync::Arc;

/// Cookie with the state of a login at the issuer: shows that the login started in this browser.
const STATE: &str = "__Host-regreen-login";

/// Page to open after the login.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginRedirect {
    next: String,
}

/// Parameters with which the issuer redirects back (RFC 6749, section 4.1.2).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginCallback {
    code: String,
    state: String,
    error: String,
}

/// Redirects a request without credentials to the login page.
pub(super) fn to_login(method: &Method, uri: &Uri) -> Response {
    // A form submission cannot be repeated by a redirect.
    let next =
        if *method == Method::GET { uri.path_and_query().map_or("/", |path| path.as_str()) } else { "/" };
    let to = reqwest::Url::parse_with_params("http://x/login", [("next", next)]);
    let to =
        to.map_or_else(|_| "/login".to_owned(), |url| format!("/login?{}", url.query().unwrap_or_default()));
    Redirect::to(&to).into_response()
}

/// Returns the path if it belongs to this server, else `/`: prevents open redirects.
fn own_path(next: &str) -> &str {
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if plain && next.starts_with('/') && !next.starts_with("//") { next } else { "/" }
}

pub(super) async fn show(
    page: PageContext,
    PageQuery(going): PageQuery<LoginRedirect>,
) -> Result<Response, PageError> {
    if !page.app.auth.is_on() {
        return Ok(Redirect::to("/").into_response());
    }
    Ok(form(&page, &going.next, None)?.into_response())
}

fn form(page: &PageContext, next: &str, problem: Option<&Problem>) -> Result<Html<String>, PageError> {
    let values = context! {
        section => "/login",
        waiting => 0,
        next => own_path(next),
        keys => page.app.auth.has_keys(),
        issuer => page.app.auth.has_login(),
        problem => problem.map(value),
    };
    page.render("login.html", values).map(Html)
}

/// Builds a cookie that scripts cannot read and that cross-site subrequests do not send.
fn cookie(name: &'static str, text: String) -> Cookie<'static> {
    Cookie::build((name, text)).path("/").http_only(true).secure(true).same_site(SameSite::Lax).build()
}

fn gone(name: &'static str) -> Cookie<'static> {
    let mut cookie = cookie(name, String::new());
    cookie.make_removal();
    cookie
}

fn inside(jar: CookieJar, secret: &Secret, next: &str) -> Response {
    let jar = jar.add(cookie(COOKIE, secret.expose().to_owned()));
    (jar, Redirect::to(own_path(next))).into_response()
}

pub(super) async fn with_key(
    page: PageContext,
    origin: RequestOrigin,
    jar: CookieJar,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let next = field(&sent, "next").to_owned();
    let key = SecretString::from(field(&sent, "key").to_owned());
    match page.app.auth.log_in(&key).await {
        Ok((caller, secret)) => {
            put_down(&page.app, Actor::new(caller.name, origin.id), AuditOutcome::Done, "with an API key")
                .await;
            Ok(inside(jar, &secret, &next))
        }
        Err(unknown) => {
            let refused = problem(&unknown);
            if matches!(unknown, AuthError::Refused(_)) {
                put_down_refused(&page.app, origin, "with an API key").await;
            }
            Ok((refused.code(), form(&page, &next, Some(&refused))?).into_response())
        }
    }
}

pub(super) async fn send(
    page: PageContext,
    jar: CookieJar,
    PageQuery(going): PageQuery<LoginRedirect>,
) -> Result<Response, PageError> {
    match page.app.auth.begin_login(own_path(&going.next)).await {
        Ok(sent) => {
            let jar = jar.add(cookie(STATE, sent.state.expose().to_owned()));
            Ok((jar, Redirect::to(&sent.url)).into_response())
        }
        Err(unknown) => again(&page, jar, &problem(&unknown)),
    }
}

/// Renders the login page with the problem.
fn again(page: &PageContext, jar: CookieJar, problem: &Problem) -> Result<Response, PageError> {
    Ok((problem.code(), jar.add(gone(STATE)), form(page, "/", Some(problem))?).into_response())
}

pub(super) async fn complete_login(
    page: PageContext,
    origin: RequestOrigin,
    jar: CookieJar,
    PageQuery(back): PageQuery<LoginCallback>,
) -> Result<Response, PageError> {
    let app = &page.app;
    let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let begun_here = jar.get(STATE).is_some_and(|state| state.value() == back.state);
    if !begun_here || back.state.is_empty() {
        return again(
            &page,
            jar,
            &refused("this login was not begun in this browser, or took too long; log in again"),
        );
    }
    if !back.error.is_empty() || back.code.is_empty() {
        put_down_refused(app, origin, "at the issuer").await;
        return again(&page, jar, &refused("the issuer did not log you in; try again, or ask who runs it"));
    }
    match app.auth.complete_login(&back.code, &back.state).await {
        Ok((caller, secret, next)) => {
            put_down(app, Actor::new(caller.name, origin.id), AuditOutcome::Done, "at the issuer").await;
            Ok(inside(jar.add(gone(STATE)), &secret, &next))
        }
        Err(unknown) => {
            put_down_refused(app, origin, "at the issuer").await;
            again(&page, jar, &problem(&unknown))
        }
    }
}

pub(super) async fn out(State(app): State<Arc<App>>, jar: CookieJar) -> Result<Response, PageError> {
    if let Some(known) = jar.get(COOKIE) {
        app.auth.log_out(&SecretString::from(known.value().to_owned())).await?;
    }
    Ok((jar.add(gone(COOKIE)), Redirect::to("/login")).into_response())
}

/// Records a login in the audit log. If this fails, the login still succeeds and the failure is logged.
async fn put_down(app: &App, who: Actor, outcome: AuditOutcome, how: &str) {
    let event = AuditEvent::new(&who, AuditAction::Login, clock::now()).on("session", "");
    if let Err(error) = audit::add(&app.pool, &event.outcome(outcome).detail(how)).await {
        tracing::error!(%error, who = who.name, ?outcome, "a login cannot be put on record");
    }
}

/// Records a refused login: the first ones as rows of their own, further ones as a count.
async fn put_down_refused(app: &App, RequestOrigin { id, address }: RequestOrigin, how: &str) {
    if app.auth.refusals.count(address, clock::now()) {
        let from = address.map_or_else(String::new, |address| format!(", from {address}"));
        put_down(app, Actor::new("unknown", id), AuditOutcome::Refused, &format!("{how}{from}")).await;
    }
}

#[cfg(test)]
mod unit {
    use super::own_path;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for next in ["/", "/incidents?state=open&x=%2F", "/chat/1#end"] {
            assert_eq!(own_path(next), next);
        }
        for next in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "/a\nb",
            "/\t/evil.example",
        ] {
            assert_eq!(own_path(next), "/", "{next:?}");
        }
    }
}
