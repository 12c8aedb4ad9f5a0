//! The HTTP edge: every route on this screen, the layers in one place.

pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod chat;
pub(crate) mod conversations;
pub(crate) mod documents;
mod fields;
mod health;
mod incidents;
mod mcp_door;
pub(crate) mod mcp_servers;
mod openai;
mod problem;
mod report_failure;
mod reports;
pub(crate) mod resolutions;
mod search;
mod webhook;

pub use problem::Problem;
pub(crate) use reports::{cut, known_id, missing, position};

use crate::app::App;
use crate::web;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa::openapi::{Content, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

#[derive(OpenApi)]
#[openapi(info(
    title = "Regreen",
    description = "Brings broken pipelines back to green: report a failure, get one issue per cause, every claim tied to a log line."
))]
struct Api;

/// The description of the API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = routes().into_openapi();
    problems_by_their_type(&mut api);
    api
}

/// A problem is `application/problem+json`, which a route's description cannot say in few words.
fn problems_by_their_type(api: &mut utoipa::openapi::OpenApi) {
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for response in operation.responses.responses.values_mut() {
                let RefOr::T(response) = response else { continue };
                let is_problem = |content: &RefOr<Content>| {
                    let RefOr::T(content) = content else { return false };
                    let schema = content.schema.as_ref();
                    schema.is_some_and(
                        |schema| matches!(schema, RefOr::Ref(to) if to.ref_location.ends_with("/Problem")),
                    )
                };
                if let Some(content) =
                    response.content.get("application/json").filter(|content| is_problem(content))
                {
                    let content = content.clone();
                    response.content.clear();
                    response.content.insert("application/problem+json".to_owned(), content);
                }
            }
        }
    }
}

/// Every route with its description.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(report_failure::report_failure))
        .routes(routes!(reports::list))
        .routes(routes!(reports::get))
        .routes(routes!(reports::evidence))
        .routes(routes!(incidents::list))
        .routes(routes!(incidents::get))
        .routes(routes!(resolutions::resolve))
        .routes(routes!(webhook::hear))
        .routes(routes!(search::search))
        .routes(routes!(openai::models))
        .routes(routes!(openai::complete))
        .routes(routes!(chat::ask))
        .routes(routes!(chat::stream))
        .routes(routes!(chat::events))
        .routes(routes!(chat::stop))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::get, approvals::decide))
        .routes(routes!(conversations::search))
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::get, conversations::rename, conversations::remove))
        .routes(routes!(conversations::export))
        .routes(routes!(conversations::evidence))
        .routes(routes!(agents::list, agents::add))
        .routes(routes!(agents::get, agents::change, agents::remove))
        .routes(routes!(documents::list, documents::add))
        .routes(routes!(documents::get, documents::remove))
        .routes(routes!(mcp_servers::list, mcp_servers::add))
        .routes(routes!(mcp_servers::get, mcp_servers::remove))
        .routes(routes!(mcp_servers::tools))
        .routes(routes!(mcp_servers::reconnect))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let limit = app.config.server.body_limit;
    let (router, mut api) = routes().split_for_parts();
    problems_by_their_type(&mut api);
    router
        .merge(SwaggerUi::new("/docs").url("/openapi.json", api))
        .route_service("/mcp", mcp_door::service(&app))
        .merge(web::router())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn(without_nul))
        .layer(from_fn_with_state(app, by_own_name))
        // A page of somebody else's cannot make a reader's browser do anything here.
        .layer(CsrfLayer::new().with_rejection_response(foreign))
        .layer(DefaultBodyLimit::max(limit))
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
        .layer(TraceLayer::new_for_http())
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        .layer(PropagateRequestIdLayer::new(HeaderName::from_static("x-request-id")))
        .layer(SetRequestIdLayer::new(HeaderName::from_static("x-request-id"), MakeRequestUuid))
}

async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let detail = format!("there is nothing at {}; the API is described at /docs", uri.path());
    web::not_found(&headers, Problem::new(StatusCode::NOT_FOUND, detail))
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
    if request.uri().query().is_some_and(|query| query.contains("%00")) {
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the query has a NUL character (%00)")
            .into_response();
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
