//! Who may do what, how much they may send, and what they may ask for: no route without its role and its limit. The table that is printed from here is
//! the one that holds.

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

/// Lets only those to these handlers who may, and reads what they send; of the API's, when they ask for what is described.
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
    // Around it: who may not be here is not read.
    routes.route_layer(from_fn(move |request: Request, next: Next| authorize(role, request, next)))
}

/// The routes of the API, each with who may call it.
pub(crate) struct RouteTable {
    pub(crate) router: OpenApiRouter<Arc<App>>,
    pub(crate) rules: Vec<Rule>,
}

impl RouteTable {
    pub(super) fn new(router: OpenApiRouter<Arc<App>>) -> Self {
        Self { router, rules: Vec::new() }
    }

    /// Routes, and what they ask of requests.
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

/// The pages, each with who may see or send it.
pub(crate) struct Pages {
    pub(crate) router: Router<Arc<App>>,
    pub(crate) rules: Vec<Rule>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), rules: Vec::new() }
    }

    /// A page.
    pub(crate) fn get<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &str,
        terms: impl Into<RouteTerms>,
        handler: H,
    ) -> Self {
        self.add("GET", path, terms.into(), get(handler))
    }

    /// What a form is sent to.
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
