//! HTTP server: router with all layers, authentication, rate limits, listening and graceful shutdown.

mod authenticate;
mod limits;
mod listen;
mod metrics_listener;
mod progress;
mod trace;

pub use listen::{Limits, serve};
pub use metrics_listener::metrics_router;

use crate::api::caller::authorize;
use crate::api::problem::Negotiable;
use crate::api::{self, Problem, RouteRules, RouteTerms, Rule, bodies, mcp_endpoint, openai};
use crate::app::App;
use crate::domain::Role;
use crate::evidence::redact;
use crate::web;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::SwaggerUi;

/// Identifies a request in the response, the log and the audit log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a request id set by the caller, in bytes.
const MAX_REQUEST_ID: usize = 200;

/// Routes outside the API and the pages: path, method, minimum role and maximum body size.
const OTHER_ROUTES: [(&str, &str, RouteTerms); 3] =
    [("/docs", "GET", DOCS), ("/openapi.json", "GET", DOCS), ("/mcp", "POST", MCP)];
const DOCS: RouteTerms = RouteTerms::of(Role::Viewer);
const MCP: RouteTerms = RouteTerms::of(Role::Reporter).taking(mcp_endpoint::LIMIT);

/// Returns the access rules of all routes: the API, the pages and the few others.
#[must_use]
pub fn access() -> Vec<Rule> {
    let mut rules = [api::routes().rules, web::pages().rules, other_rules()].concat();
    rules.sort();
    rules
}

fn other_rules() -> Vec<Rule> {
    OTHER_ROUTES.iter().map(|(path, method, terms)| Rule::new(method, path, *terms)).collect()
}

/// Applies the terms to every route of a router.
fn on_terms(router: Router<Arc<App>>, terms: RouteTerms) -> Router<Arc<App>> {
    let router = router.route_layer(from_fn(move |request, next| bodies::read(terms, request, next)));
    let Some(role) = terms.role else { return router };
    // Authorization is outermost: the body of an unauthorized request is not read.
    router.route_layer(from_fn(move |request, next| authorize(role, request, next)))
}

/// Returns the router of the whole service.
pub(crate) fn router(app: Arc<App>, templates: Arc<web::Templates>) -> Router {
    let bodies = bodies::Bodies::new(&app.config.server, &app.shutdown);
    let (routes, pages) = (api::routes(), web::pages());
    let rules = Arc::new(RouteRules::new([routes.rules, pages.rules, other_rules()].concat()));
    let gate = limits::Gate::new(&app.config.limits, &rules);
    let api = api::described(app.config.server.public_url.as_deref());
    let docs = on_terms(SwaggerUi::new("/docs").url("/openapi.json", api).into(), DOCS);
    let mcp = Router::new().route_service("/mcp", mcp_endpoint::service(&app));
    let mcp = on_terms(mcp.route_layer(from_fn(mcp_endpoint::limit_values)), MCP);
    routes
        .router
        .split_for_parts()
        .0
        .merge(docs)
        .merge(mcp)
        .merge(web::served(pages.router))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn_with_state(Arc::clone(&gate), limits::by_caller))
        // Inside authentication, so that error pages know the user.
        .layer(from_fn(negotiate))
        .layer(from_fn_with_state((Arc::clone(&app), rules), authenticate::authenticate))
        .layer(from_fn(without_nul))
        .layer(from_fn_with_state(Arc::clone(&app), by_own_name))
        // A page of another origin must not trigger actions with the user's browser.
        .layer(CsrfLayer::new().with_rejection_response(foreign))
        // Each route has its own limit.
        .layer(DefaultBodyLimit::disable())
        // Runs before any lookup for the request.
        .layer(from_fn_with_state(gate, limits::by_address))
        .layer(from_fn(negotiate))
        // Outside every layer that may refuse a request before its body arrives.
        .layer(from_fn_with_state(bodies, bodies::bound))
        // The last layer is the outermost: a request first gets its id, and a panic is still answered, traced and marked.
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("frame-ancestors 'none'"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(Extension(templates))
        .layer(from_fn(authenticate::named))
        .layer(from_fn(trace::count))
        .layer(from_fn(trace::traced))
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        // The request id of a caller goes into the log and the audit log.
        .layer(from_fn(plain_request_id))
}

/// Redacts the request id of a caller; an id that is too long is replaced by a generated one.
async fn plain_request_id(mut request: Request, next: Next) -> Response {
    if let Some(id) = request.headers_mut().remove(REQUEST_ID)
        && let Ok(id) = id.to_str()
        && id.len() <= MAX_REQUEST_ID
        && let Ok(id) = HeaderValue::from_str(&redact::plain(id))
    {
        request.headers_mut().insert(REQUEST_ID, id);
    }
    next.run(request).await
}

/// Converts errors outside the routes to the format of the client: OpenAI, HTML or problem details.
async fn negotiate(page: web::Page, request: Request, next: Next) -> Response {
    let is_openai = request.uri().path().starts_with(openai::BASE);
    let takes_page = web::accepts_html(request.headers());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Negotiable>() {
        // An unknown path is not an OpenAI endpoint.
        Some(Negotiable) if is_openai && response.status() != StatusCode::NOT_FOUND => {
            openai::of_problem(response)
        }
        Some(Negotiable) if takes_page => page.of_problem(response),
        _ => response,
    }
}

async fn not_found(uri: Uri) -> Response {
    let detail = format!("there is nothing at {}; the API is described at /docs", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail).negotiable()
}

async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} does not take this method; the API is described at /docs", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// Protects a loopback address against DNS rebinding: the `Host` must be a loopback name or the public one. Otherwise a page
/// of another site could send requests as the same origin.
async fn by_own_name(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let server = &app.config.server;
    if !server.bind.is_loopback() {
        return next.run(request).await;
    }
    let host = request.uri().host().or_else(|| {
        let named = request.headers().get(header::HOST)?.to_str().ok()?;
        Some(
            named
                .rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
                .map_or(named, |(host, _)| host),
        )
    });
    let is_public = |host: &str| {
        let public = server.public_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        public.as_ref().and_then(Uri::host).is_some_and(|public| public.eq_ignore_ascii_case(host))
    };
    let known = |host: &str| {
        let bare = host.trim_matches(['[', ']']);
        bare == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            || is_public(host)
    };
    if !host.is_none_or(known) {
        let detail = "this server listens on loopback and is called by another name; set `server.public_url` to the name it is reached by";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response();
    }
    next.run(request).await
}

/// Refuses NUL characters: no valid name or query contains one, and PostgreSQL cannot store it.
async fn without_nul(request: Request, next: Next) -> Response {
    // Only `%00` decodes to NUL.
    let parts = [("path", Some(request.uri().path())), ("query", request.uri().query())];
    if let Some((part, _)) = parts.iter().find(|(_, text)| text.is_some_and(|text| text.contains("%00"))) {
        let detail = format!("the {part} has a NUL character (%00)");
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response();
    }
    next.run(request).await
}

fn foreign(_why: ProtectionError) -> Response {
    Problem::new(StatusCode::FORBIDDEN, "the request comes from a page of another origin").into_response()
}

fn panicked(_panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    // The panic message is only in the log, where the hook has written it.
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "an internal error; the request id leads to it in the log",
    )
    .into_response()
}
