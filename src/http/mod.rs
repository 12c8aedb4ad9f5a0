//! The HTTP edge: every route on this screen, the layers in one place.

mod access;
pub(crate) mod agents;
mod alertmanager;
pub(crate) mod approvals;
pub(crate) mod audit;
mod bodies;
mod body_limit;
mod body_memory;
pub(crate) mod caller;
pub(crate) mod chat;
pub(crate) mod conversations;
mod description;
pub(crate) mod documents;
mod fields;
mod health;
pub(crate) mod incident_actions;
mod incidents;
mod json;
pub(crate) mod keys;
mod limits;
mod listen;
mod mcp_door;
pub(crate) mod mcp_servers;
pub(crate) mod merges;
mod metrics;
mod openai;
mod problem;
mod progress;
mod query;
pub(crate) mod report_failure;
mod reports;
pub(crate) mod resolutions;
pub(crate) mod retry;
mod search;
mod trace;
pub(crate) mod usage;
mod webhook;

pub(crate) use access::Pages;
pub use access::Rule;
pub(crate) use bodies::parsed;
pub use body_limit::BodyLimit;
pub(crate) use limits::ClientAddress;
pub use listen::{Limits, serve};
pub use metrics::beside;
pub use problem::Problem;
pub(crate) use problem::with_body;
pub(crate) use reports::{cut, detail, kept_text, known_id, missing, position, readable_list, withheld};

use crate::app::App;
use crate::domain::Role;
use crate::evidence::redact;
use crate::web;
use access::Doors;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use caller::judge;
use problem::Negotiable;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

/// Leads from an answer to the log and the record.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest that a caller may choose, in bytes.
const MAX_REQUEST_ID: usize = 200;

#[derive(OpenApi)]
#[openapi(info(
    title = "Regreen",
    description = "Brings broken pipelines back to green: report a failure, get one issue per cause, every claim tied to a log line."
))]
#[openapi(components(schemas(Problem, openai::OpenAiError)))]
struct Api;

/// The description of the API, of a service whose own name nobody set.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described(None)
}

/// The description of the API of a service that is reached there.
fn described(public_url: Option<&str>) -> utoipa::openapi::OpenApi {
    let Doors { router, rules } = routes();
    let mut api = router.into_openapi();
    description::complete(&mut api, &rules, public_url);
    api
}

/// Every route with its description, who may call it (the least role), and how much it takes: 64 KiB where nothing else is said.
fn routes() -> Doors {
    use Role::{Admin, Operator, Reporter, Viewer};
    of_incidents(Doors::new(OpenApiRouter::with_openapi(Api::openapi())))
        .taking(BodyLimit::CONFIGURED, Reporter, routes!(report_failure::report_failure))
        .taking(alertmanager::LIMIT, Reporter, routes!(alertmanager::hear))
        .to(Reporter, routes!(reports::list))
        .to(Reporter, routes!(reports::get))
        .to(Reporter, routes!(reports::evidence))
        .to(Operator, routes!(retry::retry))
        // Signed by the tracker.
        .open(routes!(webhook::hear))
        .to(Viewer, routes!(search::search))
        .to(Operator, routes!(openai::models))
        .to(Operator, routes!(openai::model))
        .taking(BodyLimit::kib(4 * 1024), Operator, routes!(openai::complete))
        .taking(BodyLimit::kib(512), Operator, routes!(chat::ask))
        .taking(BodyLimit::kib(512), Operator, routes!(chat::stream))
        .to(Viewer, routes!(chat::events))
        .to(Operator, routes!(chat::stop))
        .to(Viewer, routes!(approvals::list))
        .to(Viewer, routes!(approvals::get))
        .to(Operator, routes!(approvals::decide))
        .to(Operator, routes!(approvals::links))
        .to(Viewer, routes!(conversations::search))
        .to(Viewer, routes!(conversations::list))
        .to(Viewer, routes!(conversations::get))
        .to(Operator, routes!(conversations::rename, conversations::remove))
        .to(Viewer, routes!(conversations::export))
        .to(Viewer, routes!(conversations::evidence))
        .to(Viewer, routes!(agents::list))
        .taking(BodyLimit::kib(256), Admin, routes!(agents::add))
        .to(Viewer, routes!(agents::get))
        .taking(BodyLimit::kib(256), Admin, routes!(agents::change, agents::remove))
        .to(Viewer, routes!(documents::list))
        .taking(BodyLimit::kib(8 * 1024), Admin, routes!(documents::add))
        .to(Viewer, routes!(documents::get))
        .to(Admin, routes!(documents::remove))
        .to(Viewer, routes!(mcp_servers::list))
        .to(Admin, routes!(mcp_servers::add))
        .to(Viewer, routes!(mcp_servers::get))
        .to(Admin, routes!(mcp_servers::remove))
        .to(Viewer, routes!(mcp_servers::tools))
        .to(Admin, routes!(mcp_servers::confirm))
        .to(Operator, routes!(mcp_servers::reconnect))
        .to(Admin, routes!(keys::list, keys::create))
        .to(Admin, routes!(keys::revoke))
        .to(Admin, routes!(audit::list))
        .to(Admin, routes!(audit::export))
        .to(Viewer, routes!(usage::usage))
        .to(Viewer, routes!(metrics::tell))
        .to(Viewer, routes!(health::health))
        .open(routes!(health::brief))
        .open(routes!(health::live))
        .open(routes!(health::ready))
}

/// Those of incidents.
fn of_incidents(doors: Doors) -> Doors {
    use Role::{Operator, Viewer};
    doors
        .to(Viewer, routes!(incidents::list))
        .to(Viewer, routes!(incidents::get))
        .to(Viewer, routes!(incidents::issue))
        .to(Operator, routes!(incident_actions::resolve_all))
        .to(Operator, routes!(incident_actions::resolve))
        .to(Operator, routes!(incident_actions::reopen))
        .to(Operator, routes!(incident_actions::investigate))
        .taking(BodyLimit::kib(128), Operator, routes!(resolutions::resolve))
        .to(Operator, routes!(merges::merge))
        .to(Operator, routes!(merges::split))
}

/// What is beside the API and the pages: path, method, the least role, and the largest body.
const BESIDE: [(&str, &str, Role, BodyLimit); 3] = [
    ("/docs", "GET", Role::Viewer, BodyLimit::SMALL),
    ("/openapi.json", "GET", Role::Viewer, BodyLimit::SMALL),
    ("/mcp", "POST", Role::Reporter, mcp_door::LIMIT),
];

/// Who may call what, for every route there is: those of the API, of the pages, and the few beside them.
#[must_use]
pub fn access() -> Vec<Rule> {
    let beside = BESIDE.map(|(path, method, role, body)| Rule {
        path: path.to_owned(),
        method: method.to_owned(),
        role: Some(role),
        body,
    });
    let mut rules = [routes().rules, web::pages().rules, beside.to_vec()].concat();
    rules.sort();
    rules
}

/// The whole service.
pub(crate) fn router(app: Arc<App>, templates: Arc<web::Templates>) -> Router {
    let bodies = bodies::Bodies::new(&app.config.server, &app.shutdown);
    let gate = limits::Gate::new(&app.config.limits);
    let api = described(app.config.server.public_url.as_deref());
    let docs = Router::from(SwaggerUi::new("/docs").url("/openapi.json", api));
    let judged = |role| from_fn(move |request, next| judge(role, request, next));
    let read = |role, limit| {
        let door = bodies::Door { role: Some(role), limit };
        from_fn(move |request, next| bodies::read(door, request, next))
    };
    let docs = docs.route_layer(read(Role::Viewer, BodyLimit::SMALL)).route_layer(judged(Role::Viewer));
    let mcp = Router::new()
        .route_service("/mcp", mcp_door::service(&app))
        .route_layer(from_fn(mcp_door::modest))
        .route_layer(read(Role::Reporter, mcp_door::LIMIT))
        .route_layer(judged(Role::Reporter));
    routes()
        .router
        .split_for_parts()
        .0
        .merge(docs)
        .merge(mcp)
        .merge(web::router())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn_with_state(Arc::clone(&gate), limits::by_caller))
        // Inside, it is known who looks at a page.
        .layer(from_fn(negotiate))
        .layer(from_fn_with_state(Arc::clone(&app), caller::enter))
        .layer(from_fn(without_nul))
        .layer(from_fn_with_state(Arc::clone(&app), by_own_name))
        // A page of somebody else's cannot make a reader's browser do anything here.
        .layer(CsrfLayer::new().with_rejection_response(foreign))
        // Each route has its own.
        .layer(DefaultBodyLimit::disable())
        // Before anything is looked up for it.
        .layer(from_fn_with_state(gate, limits::by_address))
        .layer(from_fn(negotiate))
        // Around everything that may refuse a request before its body came.
        .layer(from_fn_with_state(bodies, bodies::bound))
        // Outermost last: a request gets its id first, and a panic inside is still answered, traced and marked.
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
        .layer(from_fn(caller::named))
        .layer(from_fn(metrics::count))
        .layer(from_fn(trace::traced))
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        // What a caller sends as one goes into the log and on record.
        .layer(from_fn(plain_request_id))
}

/// The id that a caller gave a request, without a secret in it; one that is too long gives way to one of ours.
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

/// Tells what goes wrong before a route is reached in the form that whoever asked takes: OpenAI's clients, people, programs.
async fn negotiate(page: web::Page, request: Request, next: Next) -> Response {
    let is_openai = request.uri().path().starts_with(openai::BASE);
    let takes_page = web::accepts_html(request.headers());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Negotiable>() {
        // Where no route is, nothing is OpenAI's.
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

/// A page of somebody else's whose name leads to this machine is no page of ours, though its browser thinks so (DNS
/// rebinding). Whoever reaches a loopback address calls it by a loopback name, or by the public one.
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

/// No name or word has a NUL, and the database's texts cannot hold one.
async fn without_nul(request: Request, next: Next) -> Response {
    // Nothing else than `%00` decodes to one, and it always does.
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
    // The panic's own text stays in the log, where the hook has written it.
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "an internal error; the request id leads to it in the log",
    )
    .into_response()
}
