//! The one place that reads the time.

use chrono::{DateTime, Datelike as _, Utc};

/// The current time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Whether the database can hold a time: its years begin with 4713 BC.
#[must_use]
pub fn can_be_stored(time: DateTime<Utc>) -> bool {
    time.year() > -4712
}
