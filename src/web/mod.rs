//! Web pages, rendered on the server and complete without scripts; live updates use server-sent events. Forms call the API's
//! handlers, so that pages and API clients follow the same rules.

mod agents;
mod answer;
mod approvals;
mod assets;
mod audit;
mod chat;
mod conversations;
mod error;
mod evidence;
mod excerpts;
mod extract;
mod filters;
mod forms;
mod incident_actions;
mod incidents;
mod keys;
mod live;
mod login;
mod logs;
mod markdown;
mod mcp_servers;
mod merge;
mod merge_choices;
mod multipart;
mod navigation;
mod overview;
mod page;
mod problem_page;
mod report_form;
mod reporter_home;
mod reports;
mod runbooks;
mod schema_form;
mod settings;
mod signed_links;
mod templates;
mod usage;
mod value;

pub(crate) use page::Page;
pub(crate) use problem_page::accepts_html;
pub(crate) use templates::Templates;

use crate::api::{BodyLimit, Pages, RateClass, RouteTerms};
use crate::app::App;
use crate::domain::Role;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn;
use axum::{Extension, Router};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

/// Content security policy: only resources of this server, no framing. Pages contain text from logs, tools and models:
/// anything that bypasses the escaping stays inert.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Pages contain changing log text, so browsers must not store them, not even for the back button.
const UNCACHED: &str = "private, no-store";

/// Returns every page and form with its terms. Defaults: a body of at most 64 KiB, counted as one request of the caller.
pub(crate) fn pages() -> Pages {
    use Role::{Admin, Operator, Reporter, Viewer};
    of_incidents(administration(Pages::new()))
        .get("/login", RouteTerms::OPEN, login::show)
        .post("/login", RouteTerms::OPEN, login::with_key)
        .get("/login/issuer", RouteTerms::OPEN, login::send)
        .get("/login/callback", RouteTerms::OPEN, login::complete_login)
        .post("/logout", RouteTerms::OPEN, login::out)
        .get("/", Reporter, reporter_home::home)
        .get("/live", RouteTerms::of(Viewer).streaming(), live::changes)
        .get("/reports", Viewer, reports::list)
        // The submitted form contains a log.
        .get("/reports/new", Reporter, report_form::show)
        .post(
            "/reports/new",
            RouteTerms::of(Reporter).taking(BodyLimit::CONFIGURED).counted_as(RateClass::Report),
            report_form::send,
        )
        .get("/reports/{id}", Reporter, reporter_home::report)
        .post("/reports/{id}/retry", Operator, reports::retry)
        .get("/reports/{id}/evidence/{label}", Viewer, evidence::of_report)
        .get("/reports/{id}/evidence/{label}/lines", Viewer, evidence::lines_of_report)
        .get("/conversations/{id}/evidence/{label}", Viewer, evidence::of_conversation)
        .get("/conversations/{id}/evidence/{label}/lines", Viewer, evidence::lines_of_conversation)
        .get("/chat", Operator, chat::begin)
        .post(
            "/chat",
            RouteTerms::of(Operator).taking(BodyLimit::kib(512)).counted_as(RateClass::Question),
            chat::ask,
        )
        .get("/chat/{id}", Viewer, chat::show)
        .post("/chat/{id}/stop", Operator, chat::stop)
        .get("/chat/turns/{run}", RouteTerms::of(Viewer).streaming(), answer::live)
        .get("/approvals", Viewer, approvals::list)
        .get("/approvals/{id}", Viewer, approvals::show)
        .post("/approvals/{id}", Operator, approvals::decide)
        // Authorized by the signature in the link.
        .get("/links/{id}/{choice}", RouteTerms::OPEN, signed_links::show)
        .post("/links/{id}/{choice}", RouteTerms::OPEN, signed_links::decide)
        .get("/conversations", Viewer, conversations::list)
        .post("/conversations/{id}", Operator, conversations::change)
        .get("/agents", Viewer, agents::list)
        .post("/agents", RouteTerms::of(Admin).taking(BodyLimit::kib(256)), agents::add)
        .get("/agents/{id}", Viewer, agents::show)
        .post("/agents/{id}", RouteTerms::of(Admin).taking(BodyLimit::kib(256)), agents::change)
        .get("/mcp-servers", Viewer, mcp_servers::list)
        .post("/mcp-servers", Admin, mcp_servers::add)
        .get("/mcp-servers/{name}", Viewer, mcp_servers::show)
        .post("/mcp-servers/{name}", Admin, mcp_servers::change)
        .get("/mcp-servers/{name}/tools/{tool}", Viewer, mcp_servers::tool)
        .post("/mcp-servers/{name}/tools/{tool}", Operator, mcp_servers::try_tool)
        .post("/mcp-servers/{name}/tools/{tool}/confirm", Admin, mcp_servers::confirm)
        .get("/runbooks", Viewer, runbooks::list)
        .post("/runbooks", RouteTerms::of(Admin).taking(BodyLimit::kib(1024)), runbooks::add)
        .get("/runbooks/{id}", Viewer, runbooks::show)
        .post("/runbooks/{id}", Admin, runbooks::change)
}

/// Adds the administration pages and the static assets.
fn administration(pages: Pages) -> Pages {
    use Role::{Admin, Viewer};
    pages
        .get("/usage", Viewer, usage::show)
        .get("/audit", Admin, audit::list)
        .get("/keys", Admin, keys::list)
        .post("/keys", Admin, keys::create)
        .post("/keys/{id}", Admin, keys::revoke)
        .get("/settings", Admin, settings::show)
        .get("/static/{name}", RouteTerms::OPEN.uncounted(), assets::serve)
        .get("/favicon.ico", RouteTerms::OPEN, assets::icon)
        .get("/favicon.svg", RouteTerms::OPEN, assets::icon)
}

/// Adds the incident pages.
fn of_incidents(pages: Pages) -> Pages {
    use Role::{Operator, Viewer};
    pages
        .get("/incidents", Viewer, incidents::list)
        .get("/incidents/{id}", Viewer, incidents::show)
        .post("/incidents/resolve", Operator, incident_actions::resolve_all)
        .post("/incidents/{id}/resolution", Operator, incidents::resolve)
        .post("/incidents/{id}/resolve", Operator, incident_actions::resolve)
        .post("/incidents/{id}/reopen", Operator, incident_actions::reopen)
        .post("/incidents/{id}/investigate", Operator, incident_actions::investigate)
        .post("/incidents/{id}/merge", Operator, merge::merge)
        .post("/incidents/{id}/split", Operator, merge::split)
}

/// Adds the layers of the pages.
pub(crate) fn served(pages: Router<Arc<App>>) -> Router<Arc<App>> {
    pages
        .layer(Extension(Arc::<logs::Logs>::default()))
        .layer(Extension(Arc::<overview::Counted>::default()))
        .layer(from_fn(problem_page::render_problems))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static(UNCACHED),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        ))
        // Does not buffer events: the layer skips event streams.
        .layer(CompressionLayer::new())
}
