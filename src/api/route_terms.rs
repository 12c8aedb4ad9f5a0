//! Terms of a route: required role, body limit and rate class.

use super::body_limit::BodyLimit;
use crate::domain::Role;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use serde::Serialize;
use std::collections::HashMap;

/// Rate class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateClass {
    /// Any other request.
    Request,
    /// A failure report.
    Report,
    /// A question in the chat.
    Question,
}

/// Terms of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteTerms {
    /// Minimum role; none for public routes.
    pub(crate) role: Option<Role>,
    /// Maximum size of the body.
    pub(crate) body: BodyLimit,
    /// Rate class; none for probes and frequently loaded assets.
    pub(crate) rate: Option<RateClass>,
    /// Whether the response may be a long-lived event stream.
    pub(crate) streams: bool,
}

impl RouteTerms {
    /// Terms of a public route.
    pub(crate) const OPEN: Self =
        Self { role: None, body: BodyLimit::SMALL, rate: Some(RateClass::Request), streams: false };

    /// Returns terms for this role and higher ones.
    pub(crate) const fn of(role: Role) -> Self {
        Self { role: Some(role), ..Self::OPEN }
    }

    /// Sets the maximum body size.
    pub(crate) const fn taking(self, body: BodyLimit) -> Self {
        Self { body, ..self }
    }

    /// Sets the rate class.
    pub(crate) const fn counted_as(self, class: RateClass) -> Self {
        Self { rate: Some(class), ..self }
    }

    /// Exempts the route from rate limits and authentication.
    pub(crate) const fn uncounted(self) -> Self {
        Self { rate: None, ..self }
    }

    /// Permits an event stream as the response.
    pub(crate) const fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }
}

impl From<Role> for RouteTerms {
    fn from(role: Role) -> Self {
        Self::of(role)
    }
}

/// A route with its terms.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// Path, with parameters in braces.
    pub path: String,
    /// HTTP method.
    pub method: String,
    /// Minimum role; none for public routes.
    pub role: Option<Role>,
    /// Maximum size of the body.
    pub body: BodyLimit,
    /// Rate class; none for probes and frequently loaded assets.
    pub rate: Option<RateClass>,
    /// Whether the response may be a long-lived event stream.
    pub streams: bool,
}

impl Rule {
    /// Creates the rule of a method and path.
    pub(crate) fn new(method: &str, path: &str, terms: RouteTerms) -> Self {
        let RouteTerms { role, body, rate, streams } = terms;
        Self { path: path.to_owned(), method: method.to_owned(), role, body, rate, streams }
    }
}

/// Rules of all routes, by matched route.
#[derive(Debug)]
pub(crate) struct RouteRules(HashMap<String, Vec<Rule>>);

impl RouteRules {
    pub(crate) fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut by_path: HashMap<String, Vec<Rule>> = HashMap::new();
        for rule in rules {
            by_path.entry(rule.path.clone()).or_default().push(rule);
        }
        Self(by_path)
    }

    fn of(&self, request: &Request) -> Option<&Rule> {
        let path = request.extensions().get::<MatchedPath>()?;
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        self.0.get(path.as_str())?.iter().find(|rule| rule.method == method.as_str())
    }

    /// Returns the rate class of a request; a request without a route counts as `Request`.
    pub(crate) fn rate(&self, request: &Request) -> Option<RateClass> {
        self.of(request).map_or(Some(RateClass::Request), |rule| rule.rate)
    }

    /// Returns whether the response may be a long-lived event stream.
    pub(crate) fn may_stream(&self, request: &Request) -> bool {
        self.of(request).is_some_and(|rule| rule.streams)
    }
}
