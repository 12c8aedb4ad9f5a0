//! The pages people work in: rendered here, whole without scripts; what is live comes over server-sent events.
//! Forms go through the API's own handlers, so that a page and a script are judged by the same rules.

mod agents;
mod answer;
mod approvals;
mod asked;
mod assets;
mod audit;
mod chat;
mod conversations;
mod evidence;
mod forms;
mod incidents;
mod live;
mod logs;
mod markdown;
mod overview;
mod page;
mod runbooks;
mod schema_form;
mod servers;
mod settings;
mod show;

pub(crate) use page::not_found;

use crate::app::App;
use axum::http::{HeaderValue, header};
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

/// Nothing runs or loads that does not come from here, and nobody frames it. Text of logs, tools and models ends up in these
/// pages: whatever slips through the escaping stays inert.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Every page.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/live", get(live::changes))
        .route("/incidents", get(incidents::list))
        .route("/incidents/{id}", get(incidents::show))
        .route("/incidents/{id}/resolution", post(incidents::resolve))
        .route("/reports/{id}", get(incidents::report))
        .route("/reports/{id}/evidence/{label}", get(evidence::of_report))
        .route("/reports/{id}/evidence/{label}/lines", get(evidence::lines_of_report))
        .route("/conversations/{id}/evidence/{label}", get(evidence::of_conversation))
        .route("/conversations/{id}/evidence/{label}/lines", get(evidence::lines_of_conversation))
        .route("/chat", get(chat::begin).post(chat::ask))
        .route("/chat/{id}", get(chat::show))
        .route("/chat/{id}/stop", post(chat::stop))
        .route("/chat/turns/{run}", get(chat::live))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", get(approvals::show).post(approvals::decide))
        .route("/conversations", get(conversations::list))
        .route("/conversations/{id}", post(conversations::change))
        .route("/agents", get(agents::list).post(agents::add))
        .route("/agents/{id}", get(agents::show).post(agents::change))
        .route("/mcp-servers", get(servers::list).post(servers::add))
        .route("/mcp-servers/{name}", get(servers::show).post(servers::change))
        .route("/mcp-servers/{name}/tools/{tool}", get(servers::tool).post(servers::try_tool))
        .route("/runbooks", get(runbooks::list).post(runbooks::add))
        .route("/runbooks/{id}", get(runbooks::show).post(runbooks::change))
        .route("/audit", get(audit::list))
        .route("/settings", get(settings::show))
        .route("/static/{name}", get(assets::serve))
        .layer(Extension(Arc::<live::Pulse>::default()))
        .layer(Extension(Arc::<logs::Logs>::default()))
        .layer(Extension(Arc::<overview::Counted>::default()))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ))
        // What is shown are texts of logs, and it changes: no browser keeps it, not even to go back to.
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        ))
        // Events are not gathered: the layer leaves event streams alone.
        .layer(CompressionLayer::new())
}
