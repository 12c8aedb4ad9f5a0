//! Where a request comes from, and what it counts as: by which its rate and its streams are limited.

use axum::http::Method;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Caller(Arc<str>),
    /// IPv4, or the first half of IPv6: that is what one subscriber gets.
    Address(IpAddr),
    Crowd(u64),
}

impl Key {
    /// Of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Key::Address(match address {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }

    /// The address, where one is counted.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Caller(_) | Self::Crowd(_) => None,
        }
    }
}

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateClass {
    Request,
    Report,
    Question,
}

/// Whether requests to this path are counted.
pub(crate) fn counts(path: &str) -> bool {
    rate_class(&Method::GET, path).is_some()
}

/// What a request counts as; nothing for what asks whether the process lives and for what pages load.
pub(crate) fn rate_class(method: &Method, path: &str) -> Option<RateClass> {
    let is_exempt = path == "/health" || path.starts_with("/health/") || path.starts_with("/static/");
    match (method, path) {
        _ if is_exempt => None,
        (&Method::POST, "/report-failure" | "/reports/new" | "/webhooks/alertmanager") => {
            Some(RateClass::Report)
        }
        (&Method::POST, "/chat" | "/api/chat" | "/api/chat/stream" | "/v1/chat/completions") => {
            Some(RateClass::Question)
        }
        _ => Some(RateClass::Request),
    }
}

/// Whether the answer may be a stream of events that stays open.
pub(crate) fn may_stream(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET => {
            path == "/live"
                || path.starts_with("/chat/turns/")
                || (path.starts_with("/api/chat/") && path.ends_with("/events"))
        }
        Method::POST => matches!(path, "/api/chat/stream" | "/v1/chat/completions"),
        _ => false,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn health_and_assets_are_not_counted() {
        let rate_class = |method: Method, path: &str| rate_class(&method, path);
        assert_eq!(rate_class(Method::GET, "/health/ready"), None);
        assert_eq!(rate_class(Method::GET, "/static/style.css"), None);
        assert_eq!(rate_class(Method::GET, "/healthy"), Some(RateClass::Request));
        assert_eq!(rate_class(Method::GET, "/chat"), Some(RateClass::Request));
        assert_eq!(rate_class(Method::POST, "/chat"), Some(RateClass::Question));
        assert_eq!(rate_class(Method::POST, "/report-failure"), Some(RateClass::Report));
    }
}
