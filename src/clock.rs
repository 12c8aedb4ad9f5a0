//! The one place that reads the time.

use chrono::{DateTime, Utc};

/// The current time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
