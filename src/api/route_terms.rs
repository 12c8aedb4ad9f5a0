//! What a route asks of a request, declared with the route: who may call it, how much it takes, what it counts as.

use super::body_limit::BodyLimit;
use crate::domain::Role;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use serde::Serialize;
use std::collections::HashMap;

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateClass {
    /// Whatever is nothing else.
    Request,
    /// A report.
    Report,
    /// A question of the chat.
    Question,
}

/// What a route asks of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteTerms {
    /// The least role that may; everybody when absent.
    pub(crate) role: Option<Role>,
    /// The largest body.
    pub(crate) body: BodyLimit,
    /// What it counts as; nothing for what probes and pages load all the time.
    pub(crate) rate: Option<RateClass>,
    /// Whether the answer may be a stream of events that stays open.
    pub(crate) streams: bool,
}

impl RouteTerms {
    /// For everybody.
    pub(crate) const OPEN: Self =
        Self { role: None, body: BodyLimit::SMALL, rate: Some(RateClass::Request), streams: false };

    /// For this role and those above it.
    pub(crate) const fn of(role: Role) -> Self {
        Self { role: Some(role), ..Self::OPEN }
    }

    /// A body of this size.
    pub(crate) const fn taking(self, body: BodyLimit) -> Self {
        Self { body, ..self }
    }

    /// Counts as this.
    pub(crate) const fn counted_as(self, class: RateClass) -> Self {
        Self { rate: Some(class), ..self }
    }

    /// Counts as nothing, and is not asked who calls.
    pub(crate) const fn uncounted(self) -> Self {
        Self { rate: None, ..self }
    }

    /// May answer by a stream.
    pub(crate) const fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }
}

impl From<Role> for RouteTerms {
    fn from(role: Role) -> Self {
        Self::of(role)
    }
}

/// What a route asks of a request, with the route.
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
    /// What a request counts as; nothing for what probes and pages load all the time.
    pub rate: Option<RateClass>,
    /// Whether the answer may be a stream of events that stays open.
    pub streams: bool,
}

impl Rule {
    /// What is asked of requests with this method to this path.
    pub(crate) fn new(method: &str, path: &str, terms: RouteTerms) -> Self {
        let RouteTerms { role, body, rate, streams } = terms;
        Self { path: path.to_owned(), method: method.to_owned(), role, body, rate, streams }
    }
}

/// The rules of all routes, found by the route that a request was matched with.
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

    /// What a request counts as; one without a route is a request, too.
    pub(crate) fn rate(&self, request: &Request) -> Option<RateClass> {
        self.of(request).map_or(Some(RateClass::Request), |rule| rule.rate)
    }

    /// Whether its answer may be a stream of events that stays open.
    pub(crate) fn may_stream(&self, request: &Request) -> bool {
        self.of(request).is_some_and(|rule| rule.streams)
    }
}
