//! Logging in to the pages: with an API key, or at the issuer; and out again.

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

/// What a browser brings back from the issuer: the login was begun in it.
const STATE: &str = "__Host-regreen-login";

/// Where somebody wanted to go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginRedirect {
    next: String,
}

/// What the issuer sends somebody back with (RFC 6749, 4.1.2).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginCallback {
    code: String,
    state: String,
    error: String,
}

/// Sends somebody who did not say who they are to log in.
pub(super) fn to_login(method: &Method, uri: &Uri) -> Response {
    // What a form was to do is not done by going there again.
    let next =
        if *method == Method::GET { uri.path_and_query().map_or("/", |path| path.as_str()) } else { "/" };
    let to = reqwest::Url::parse_with_params("http://x/login", [("next", next)]);
    let to =
        to.map_or_else(|_| "/login".to_owned(), |url| format!("/login?{}", url.query().unwrap_or_default()));
    Redirect::to(&to).into_response()
}

/// A path of this server, whatever was asked for: nobody is sent elsewhere by a link to here.
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

/// A cookie that scripts cannot read and that other sites' requests do not carry.
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

/// The login page with what went wrong.
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

/// Puts a login on record. Somebody who cannot be put on record is logged in all the same; the log says so then.
async fn put_down(app: &App, who: Actor, outcome: AuditOutcome, how: &str) {
    let event = AuditEvent::new(&who, AuditAction::Login, clock::now()).on("session", "");
    if let Err(error) = audit::add(&app.pool, &event.outcome(outcome).detail(how)).await {
        tracing::error!(%error, who = who.name, ?outcome, "a login cannot be put on record");
    }
}

/// Puts a login that was refused on record: a row while there are few of them, then a number.
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
