//! Retention settings.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use std::time::Duration;

/// Minimum retention, because younger data is still in use.
pub const LEAST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Retention periods; `None` keeps data forever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Logs, tool results and model inputs.
    pub evidence: Option<Duration>,
    /// Reports.
    pub reports: Option<Duration>,
    /// Resolved incidents with all their data.
    pub incidents: Option<Duration>,
    /// Conversations without an incident.
    pub conversations: Option<Duration>,
    /// Usage and cost of model requests.
    pub usage: Option<Duration>,
}

/// Settings of this module.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "retention.evidence",
        &["REGREEN_RETENTION_EVIDENCE"],
        "",
        "How long `regreen prune` keeps logs, tool results and what models were shown, such as `90d`. Those that led to a diagnosis stay as long as the cause recurs. Unset: forever.",
    ),
    setting(
        "retention.reports",
        &["REGREEN_RETENTION_REPORTS"],
        "",
        "How long reports are kept. Those that led to a diagnosis stay as long as their incident. Unset: forever.",
    ),
    setting(
        "retention.incidents",
        &["REGREEN_RETENTION_INCIDENTS"],
        "",
        "How long resolved incidents are kept, with their reports, conversations and what was learned from them. Open incidents stay. Unset: forever.",
    ),
    setting(
        "retention.conversations",
        &["REGREEN_RETENTION_CONVERSATIONS"],
        "",
        "How long inactive conversations are kept. Those about an incident stay as long as the incident. Unset: forever.",
    ),
    setting(
        "retention.usage",
        &["REGREEN_RETENTION_USAGE"],
        "",
        "How long the usage and cost of each request to a model is kept. Unset: forever.",
    ),
];

pub(super) fn read(r: &mut SettingsReader<'_>) -> Retention {
    Retention {
        evidence: kept(r, "retention.evidence"),
        reports: kept(r, "retention.reports"),
        incidents: kept(r, "retention.incidents"),
        conversations: kept(r, "retention.conversations"),
        usage: kept(r, "retention.usage"),
    }
}

/// Reads a retention period.
pub(super) fn kept(r: &mut SettingsReader<'_>, key: &str) -> Option<Duration> {
    let mistakes = r.mistakes.len();
    let time = r.text(key).map(|_| r.duration(key))?;
    if time < LEAST_KEPT && r.mistakes.len() == mistakes {
        r.mistake(format!("`{key}`"), "is shorter than a day; leave it out to keep all for ever");
    }
    Some(time)
}
