//! Maximum body size of a route: declared with the route, documented in the API description and stated in every refusal.

use super::problem::Problem;
use axum::http::StatusCode;
use serde::Serialize;
use std::fmt;

/// Maximum body size of a route; never more than `server.body_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BodyLimit {
    /// In KiB; `server.body_limit` if absent.
    kib: Option<usize>,
    /// Advice for a client whose body is too large.
    #[serde(skip)]
    remedy: Option<&'static str>,
}

impl BodyLimit {
    /// Default of routes that declare no limit: forms, signed events, short fields.
    pub const SMALL: Self = Self::kib(64);
    /// `server.body_limit`, for routes that receive logs.
    pub const CONFIGURED: Self = Self { kib: None, remedy: None };

    /// Returns a limit in KiB.
    #[must_use]
    pub const fn kib(kib: usize) -> Self {
        Self { kib: Some(kib), remedy: None }
    }

    /// Sets the advice for a client whose body is too large.
    #[must_use]
    pub const fn remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub fn bytes(self, configured: usize) -> usize {
        self.kib.map_or(configured, |kib| (kib * 1024).min(configured))
    }

    /// Returns a 413 problem that states the limit.
    pub(super) fn refusal(self, configured: usize) -> Problem {
        let bytes = self.bytes(configured);
        let mut detail = if bytes < configured {
            format!("the body is larger than {self}, the most that is taken here")
        } else {
            format!("the body is larger than the {bytes} bytes that `server.body_limit` allows")
        };
        if let Some(remedy) = self.remedy {
            detail = format!("{detail}; {remedy}");
        }
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }
}

impl fmt::Display for BodyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kib {
            None => f.write_str("`server.body_limit`"),
            Some(kib) if kib % 1024 == 0 => write!(f, "{} MiB", kib / 1024),
            Some(kib) => write!(f, "{kib} KiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_limit_that_was_met() {
        let detail = |limit: BodyLimit, configured| limit.refusal(configured).detail;
        let form = BodyLimit::SMALL.remedy("send less");
        assert_eq!(
            detail(form, 1 << 20),
            "the body is larger than 64 KiB, the most that is taken here; send less"
        );
        let configured = "the body is larger than the 2048 bytes that `server.body_limit` allows";
        assert_eq!(detail(BodyLimit::CONFIGURED, 2048), configured);
        assert_eq!(detail(BodyLimit::SMALL, 2048), configured, "no route takes more than that");
        assert_eq!(BodyLimit::kib(4096).to_string(), "4 MiB");
    }
}
