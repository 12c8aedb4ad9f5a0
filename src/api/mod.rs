//! HTTP API: all routes with their required role and body limit; one file per group of handlers.

pub(crate) mod agents;
mod alertmanager;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod bodies;
mod body_limit;
mod body_memory;
pub(crate) mod caller;
pub(crate) mod chat;
pub(crate) mod client;
pub(crate) mod conversations;
mod description;
pub(crate) mod documents;
mod fields;
pub(crate) mod health;
pub(crate) mod incident_actions;
mod incidents;
mod json;
pub(crate) mod keys;
pub(crate) mod mcp_endpoint;
pub(crate) mod mcp_servers;
pub(crate) mod merges;
pub(crate) mod metrics;
pub(crate) mod openai;
mod parse;
pub(crate) mod problem;
mod query;
pub(crate) mod report_failure;
mod report_wait;
mod reports;
pub(crate) mod resolutions;
pub(crate) mod retry;
mod route_table;
mod route_terms;
mod search;
pub(crate) mod usage;
mod webhook;

pub use body_limit::BodyLimit;
pub(crate) use parse::parsed;
pub use problem::Problem;
pub(crate) use problem::with_body;
pub(crate) use reports::{cut, detail, kept_text, known_id, missing, position, readable_list, withheld};
pub(crate) use route_table::Pages;
pub use route_terms::{RateClass, Rule};
pub(crate) use route_terms::{RouteRules, RouteTerms};

use crate::domain::Role;
use route_table::RouteTable;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(info(
    title = "Regreen",
    description = "Brings broken pipelines back to green: report a failure, get one issue per cause, every claim tied to a log line."
))]
#[openapi(components(schemas(Problem, openai::OpenAiError)))]
struct Api;

/// Returns the API description without a public URL.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described(None)
}

/// Returns the API description with this public URL.
pub(crate) fn described(public_url: Option<&str>) -> utoipa::openapi::OpenApi {
    let RouteTable { router, rules } = routes();
    let mut api = router.into_openapi();
    description::complete(&mut api, &rules, public_url);
    api
}

/// Returns every route with its description and terms. Defaults: a body of at most 64 KiB, counted as one request of the
/// caller.
pub(crate) fn routes() -> RouteTable {
    use Role::{Admin, Operator, Reporter, Viewer};
    of_chat(of_incidents(RouteTable::new(OpenApiRouter::with_openapi(Api::openapi()))))
        .to(
            RouteTerms::of(Reporter).taking(BodyLimit::CONFIGURED).counted_as(RateClass::Report),
            routes!(report_failure::report_failure),
        )
        .to(
            RouteTerms::of(Reporter).taking(alertmanager::LIMIT).counted_as(RateClass::Report),
            routes!(alertmanager::receive),
        )
        .to(Reporter, routes!(reports::list))
        .to(Reporter, routes!(reports::get))
        .to(Reporter, routes!(reports::evidence))
        .to(Operator, routes!(retry::retry))
        // Authenticated by the signature of the tracker.
        .to(RouteTerms::OPEN, routes!(webhook::receive))
        .to(Viewer, routes!(search::search))
        .to(Viewer, routes!(agents::list))
        .to(RouteTerms::of(Admin).taking(BodyLimit::kib(256)), routes!(agents::add))
        .to(Viewer, routes!(agents::get))
        .to(RouteTerms::of(Admin).taking(BodyLimit::kib(256)), routes!(agents::change, agents::remove))
        .to(Viewer, routes!(documents::list))
        .to(RouteTerms::of(Admin).taking(BodyLimit::kib(8 * 1024)), routes!(documents::add))
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
        .to(Viewer, routes!(metrics::scrape))
        .to(Viewer, routes!(health::health))
        .to(RouteTerms::OPEN.uncounted(), routes!(health::brief))
        .to(RouteTerms::OPEN.uncounted(), routes!(health::live))
        .to(RouteTerms::OPEN.uncounted(), routes!(health::ready))
}

/// Adds the routes of the chat.
fn of_chat(table: RouteTable) -> RouteTable {
    use Role::{Operator, Viewer};
    table
        .to(Operator, routes!(openai::models))
        .to(Operator, routes!(openai::model))
        .to(
            RouteTerms::of(Operator)
                .taking(BodyLimit::kib(4 * 1024))
                .counted_as(RateClass::Question)
                .streaming(),
            routes!(openai::complete),
        )
        .to(
            RouteTerms::of(Operator).taking(BodyLimit::kib(512)).counted_as(RateClass::Question),
            routes!(chat::ask),
        )
        .to(
            RouteTerms::of(Operator).taking(BodyLimit::kib(512)).counted_as(RateClass::Question).streaming(),
            routes!(chat::stream),
        )
        .to(RouteTerms::of(Viewer).streaming(), routes!(chat::events))
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
}

/// Adds the routes of incidents.
fn of_incidents(table: RouteTable) -> RouteTable {
    use Role::{Operator, Viewer};
    table
        .to(Viewer, routes!(incidents::list))
        .to(Viewer, routes!(incidents::get))
        .to(Viewer, routes!(incidents::issue))
        .to(Operator, routes!(incident_actions::resolve_all))
        .to(Operator, routes!(incident_actions::resolve))
        .to(Operator, routes!(incident_actions::reopen))
        .to(Operator, routes!(incident_actions::investigate))
        .to(RouteTerms::of(Operator).taking(BodyLimit::kib(128)), routes!(resolutions::resolve))
        .to(Operator, routes!(merges::merge))
        .to(Operator, routes!(merges::split))
}
