//! Who calls: found out once for a request, judged at its route, and handed to its handler.

use super::limits;
use super::problem::Problem;
use crate::app::App;
use crate::auth::{self, Credentials, Unknown};
use crate::domain::{Caller, Role};
use crate::evidence::redact;
use crate::telemetry;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::CookieJar;
use futures::Stream;
use secrecy::SecretString;
use std::sync::Arc;

/// The pages' cookie: the prefix has browsers keep it to this host, and to encrypted connections.
pub(crate) const COOKIE: &str = "__Host-regreen";

/// Longest id of a request that goes on record.
const MAX_REQUEST_ID: usize = 128;

/// The id of a request; empty where a client's does not look like one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self(if id.len() <= MAX_REQUEST_ID { id.to_owned() } else { String::new() })
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// Lines of the log name the request that they belong to.
pub(super) async fn named(request: Request, next: Next) -> Response {
    let RequestId(id) = RequestId::of(request.headers());
    telemetry::named(id, next.run(request)).await
}

/// What was found out about who calls.
#[derive(Clone)]
struct Entered(Result<Caller, Unknown>);

tokio::task_local! {
    /// Who a page is made for: every page says so at its top. What they may do is judged at the route, never by this.
    static SEEN_BY: Arc<Caller>;
}

/// Whoever the page in the making is for, if somebody had to say who they are.
pub(crate) fn seen_by() -> Option<Arc<Caller>> {
    SEEN_BY.try_with(Arc::clone).ok()
}

/// What a stream tells after its request was answered is made for whoever asked for it.
pub(crate) fn seen_by_the_same<S: Stream>(stream: S) -> impl Stream<Item = S::Item> {
    let seen_by = seen_by();
    let mut stream = Box::pin(stream);
    futures::stream::poll_fn(move |cx| match &seen_by {
        Some(caller) => SEEN_BY.sync_scope(Arc::clone(caller), || stream.as_mut().poll_next(cx)),
        None => stream.as_mut().poll_next(cx),
    })
}

/// Finds out who calls.
pub(super) async fn enter(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Open to everybody, and asked for often.
    let open = !limits::counts(path);
    let entered = match credentials(request.headers()) {
        _ if open => Err(Unknown::Silent("say who you are")),
        Ok(credentials) => {
            let address = request.extensions().get::<limits::Key>().and_then(limits::Key::address);
            app.auth.caller(&Credentials { address, ..credentials }).await
        }
        Err(refused) if app.auth.is_on() => Err(refused),
        Err(_) => Ok(Caller::anyone()),
    };
    let RequestId(id) = RequestId::of(request.headers());
    let entered = entered.map(|caller| Caller { request: id, ..caller });
    request.extensions_mut().insert(Entered(entered.clone()));
    match entered {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            SEEN_BY.scope(Arc::new(caller), next.run(request)).await
        }
        Err(_) => next.run(request).await,
    }
}

fn credentials(headers: &HeaderMap) -> Result<Credentials, Unknown> {
    let refused = |why: &str| Unknown::Refused(why.to_owned());
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

/// In which way a refusal is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Telling {
    /// As a problem.
    Problem,
    /// As OpenAI's clients know it.
    OpenAi,
    /// As a page; whoever did not say who they are is sent to log in.
    Page,
}

/// Of what viewers may read, what is narrowed to the namespaces that a caller is bound to. Everything else is about all of them.
const NARROWED: [&str; 3] = ["/api/incidents", "/api/incidents/{id}", "/api/search"];

/// Whether what a route tells is kept to the namespaces of a caller who is bound to some.
fn is_narrowed(role: Role, path: Option<&str>) -> bool {
    role == Role::Reporter || path.is_some_and(|path| NARROWED.contains(&path))
}

/// Lets a request to its handler when whoever calls may do what it does.
pub(super) async fn judge(role: Role, telling: Telling, request: Request, next: Next) -> Response {
    let entered = request.extensions().get::<Entered>().cloned();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let narrowed = is_narrowed(role, path);
    match entered {
        Some(Entered(Ok(caller))) if caller.role >= role && (caller.namespaces.is_none() || narrowed) => {
            next.run(request).await
        }
        Some(Entered(Ok(caller))) if caller.role >= role => {
            let detail = format!("{} is bound to namespaces, and this tells of all of them", caller.name);
            tell(Problem::new(StatusCode::FORBIDDEN, detail), telling)
        }
        Some(Entered(Ok(caller))) => {
            let detail = format!(
                "{} {} may do this; {} is {} {}",
                article(role),
                role.as_str(),
                caller.name,
                article(caller.role).to_lowercase(),
                caller.role.as_str()
            );
            tell(Problem::new(StatusCode::FORBIDDEN, detail), telling)
        }
        Some(Entered(Err(unknown))) => turned_away(&unknown, telling, &request),
        None => tell(nobody_asked(), telling),
    }
}

fn article(role: Role) -> &'static str {
    if matches!(role, Role::Operator | Role::Admin) { "An" } else { "A" }
}

/// What somebody is told who did not show who they are.
pub(crate) fn problem(unknown: &Unknown) -> Problem {
    let status = match unknown {
        Unknown::Silent(_) | Unknown::Refused(_) => StatusCode::UNAUTHORIZED,
        Unknown::NoRole(_) => StatusCode::FORBIDDEN,
        Unknown::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Unknown::Away(_) | Unknown::Database => StatusCode::SERVICE_UNAVAILABLE,
    };
    let problem = Problem::new(status, unknown.to_string());
    match unknown {
        Unknown::TooMany(wait) => problem.retry_after(auth::seconds(*wait)),
        _ if status == StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(5),
        _ => problem,
    }
}

fn turned_away(unknown: &Unknown, telling: Telling, request: &Request) -> Response {
    if let Unknown::Refused(why) = unknown {
        tracing::info!(why, path = redact::plain(request.uri().path()), "a caller is refused");
    }
    let wants_page = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"));
    if let (Unknown::Silent(_), Telling::Page, true) = (unknown, telling, wants_page) {
        return crate::web::to_login(request.method(), request.uri());
    }
    let problem = problem(unknown);
    let silent = problem.code() == StatusCode::UNAUTHORIZED;
    let mut response = tell(problem, telling);
    if silent {
        // RFC 6750, section 3.
        let challenge = match unknown {
            Unknown::Refused(_) => "Bearer realm=\"regreen\", error=\"invalid_token\"",
            _ => "Bearer realm=\"regreen\"",
        };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
        .headers_mut()
        .insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"));
    response
}

/// A refusal in that way.
pub(super) fn tell(problem: Problem, telling: Telling) -> Response {
    let wait = problem.wait();
    let mut response = match telling {
        Telling::Problem => problem.into_response(),
        Telling::OpenAi => super::openai::refusal(&problem),
        Telling::Page => crate::web::trouble(problem),
    };
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
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
