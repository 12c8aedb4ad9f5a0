//! How long what is over is kept.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use std::time::Duration;

/// Shortest time: what is younger is still being looked at.
pub const LEAST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long what is over is kept; `None` keeps it for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Logs, results of tools, what models were shown.
    pub evidence: Option<Duration>,
    /// Reports.
    pub reports: Option<Duration>,
    /// Resolved incidents with all that belongs to them.
    pub incidents: Option<Duration>,
    /// Conversations that are not about an incident.
    pub conversations: Option<Duration>,
    /// What requests to models used and cost.
    pub usage: Option<Duration>,
}

/// The settings of this file.
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

/// How long something is kept.
pub(super) fn kept(r: &mut SettingsReader<'_>, key: &str) -> Option<Duration> {
    let mistakes = r.mistakes.len();
    let time = r.text(key).map(|_| r.duration(key))?;
    if time < LEAST_KEPT && r.mistakes.len() == mistakes {
        r.mistake(format!("`{key}`"), "is shorter than a day; leave it out to keep all for ever");
    }
    Some(time)
}
