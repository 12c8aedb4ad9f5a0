//! Table of routes with role, body limit and query parameters; no route exists without a role and a limit. The printed
//! access table is generated from the enforced rules.

use super::bodies;
use super::caller::authorize;
use super::openai;
use super::query::{self, Parameters};
use super::route_terms::{RouteTerms, Rule};
use crate::app::App;
use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;
use utoipa::openapi::path::PathItem;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// Adds authorization, body reading and, for API routes, query validation to handlers.
fn guarded<S>(routes: MethodRouter<S>, terms: RouteTerms, parameters: Option<Parameters>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let mut routes = routes.route_layer(from_fn(move |request, next| bodies::read(terms, request, next)));
    if let Some(parameters) = parameters.map(Arc::new) {
        routes = routes.route_layer(from_fn(move |request, next| {
            let parameters = Arc::clone(&parameters);
            async move { query::validate_query(&parameters, request, next).await }
        }));
    }
    let Some(role) = terms.role else { return routes };
    // Authorization is outermost: the body of an unauthorized request is not read.
    routes.route_layer(from_fn(move |request: Request, next: Next| authorize(role, request, next)))
}

/// Routes of the API with their rules.
pub(crate) struct RouteTable {
    pub(crate) router: OpenApiRouter<Arc<App>>,
    pub(crate) rules: Vec<Rule>,
}

impl RouteTable {
    pub(super) fn new(router: OpenApiRouter<Arc<App>>) -> Self {
        Self { router, rules: Vec::new() }
    }

    /// Adds routes with their terms.
    pub(super) fn to(
        mut self,
        terms: impl Into<RouteTerms>,
        (schemas, paths, routes): UtoipaMethodRouter<Arc<App>>,
    ) -> Self {
        let terms = terms.into();
        let (mut is_openai, mut parameters) = (false, Parameters::default());
        for (path, item) in &paths.paths {
            is_openai |= path.starts_with(openai::BASE);
            let rule = |method: &str| Rule::new(method, path, terms);
            self.rules.extend(methods(item).into_iter().map(rule));
            parameters = Parameters::of(item);
        }
        let mut routes = guarded(routes, terms, Some(parameters));
        if is_openai {
            routes = routes.route_layer(from_fn(openai::convert_problems));
        }
        self.router = self.router.routes((schemas, paths, routes));
        self
    }
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let all = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_ref().map(|_| method)).collect()
}

/// Page routes with their rules.
pub(crate) struct Pages {
    pub(crate) router: Router<Arc<App>>,
    pub(crate) rules: Vec<Rule>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), rules: Vec::new() }
    }

    /// Adds a page.
    pub(crate) fn get<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &str,
        terms: impl Into<RouteTerms>,
        handler: H,
    ) -> Self {
        self.add("GET", path, terms.into(), get(handler))
    }

    /// Adds the target of a form.
    pub(crate) fn post<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &str,
        terms: impl Into<RouteTerms>,
        handler: H,
    ) -> Self {
        self.add("POST", path, terms.into(), post(handler))
    }

    fn add(mut self, method: &str, path: &str, terms: RouteTerms, routes: MethodRouter<Arc<App>>) -> Self {
        self.rules.push(Rule::new(method, path, terms));
        self.router = self.router.route(path, guarded(routes, terms, None));
        self
    }
}
