//! Who may do what, how much they may send, and what they may ask for: no route without its role and its limit. The table that is printed from here is
//! the one that holds.

use super::bodies::{self, Door};
use super::body_limit::BodyLimit;
use super::caller::authorize;
use super::openai;
use super::query::{self, Parameters};
use crate::app::App;
use crate::domain::Role;
use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use std::sync::Arc;
use utoipa::openapi::path::PathItem;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// The path, with its parameters in braces.
    pub path: String,
    /// The method.
    pub method: String,
    /// The least role that may; everybody when absent.
    pub role: Option<Role>,
    /// The largest body.
    pub body: BodyLimit,
}

/// Lets only those to these handlers who may, and reads what they send; of the API's, when they ask for what is described.
fn guarded<S>(routes: MethodRouter<S>, door: Door, parameters: Option<Parameters>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let mut routes = routes.route_layer(from_fn(move |request, next| bodies::read(door, request, next)));
    if let Some(parameters) = parameters.map(Arc::new) {
        routes = routes.route_layer(from_fn(move |request, next| {
            let parameters = Arc::clone(&parameters);
            async move { query::understood(&parameters, request, next).await }
        }));
    }
    let Some(role) = door.role else { return routes };
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

    /// Open to everybody.
    pub(super) fn open(self, routes: UtoipaMethodRouter<Arc<App>>) -> Self {
        self.add(None, BodyLimit::SMALL, routes)
    }

    /// Open to this role and those above it.
    pub(super) fn to(self, role: Role, routes: UtoipaMethodRouter<Arc<App>>) -> Self {
        self.add(Some(role), BodyLimit::SMALL, routes)
    }

    /// Open to this role and those above it, who may send that much.
    pub(super) fn taking(self, limit: BodyLimit, role: Role, routes: UtoipaMethodRouter<Arc<App>>) -> Self {
        self.add(Some(role), limit, routes)
    }

    fn add(
        mut self,
        role: Option<Role>,
        limit: BodyLimit,
        (schemas, paths, routes): UtoipaMethodRouter<Arc<App>>,
    ) -> Self {
        let (mut is_openai, mut parameters) = (false, Parameters::default());
        for (path, item) in &paths.paths {
            is_openai |= path.starts_with(openai::BASE);
            let rule =
                |method: &str| Rule { path: path.clone(), method: method.to_owned(), role, body: limit };
            self.rules.extend(methods(item).into_iter().map(rule));
            parameters = Parameters::of(item);
        }
        let mut routes = guarded(routes, Door { role, limit }, Some(parameters));
        if is_openai {
            routes = routes.route_layer(from_fn(openai::tell));
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
        role: impl Into<Option<Role>>,
        handler: H,
    ) -> Self {
        self.add(("GET", path), role.into(), BodyLimit::SMALL, get(handler))
    }

    /// What a form is sent to.
    pub(crate) fn post<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &str,
        role: impl Into<Option<Role>>,
        handler: H,
    ) -> Self {
        self.add(("POST", path), role.into(), BodyLimit::SMALL, post(handler))
    }

    /// What a form with a long text is sent to, by those of a role.
    pub(crate) fn post_long<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        limit: BodyLimit,
        path: &str,
        role: Role,
        handler: H,
    ) -> Self {
        self.add(("POST", path), Some(role), limit, post(handler))
    }

    fn add(
        mut self,
        (method, path): (&str, &str),
        role: Option<Role>,
        limit: BodyLimit,
        routes: MethodRouter<Arc<App>>,
    ) -> Self {
        self.rules.push(Rule { path: path.to_owned(), method: method.to_owned(), role, body: limit });
        self.router = self.router.route(path, guarded(routes, Door { role, limit }, None));
        self
    }
}
