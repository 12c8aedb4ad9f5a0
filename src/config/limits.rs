//! Rate and concurrency limits.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use ipnet::IpNet;
use std::net::IpAddr;

/// Rate limit; `per_minute` 0 means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Sustained requests per minute.
    pub per_minute: u32,
    /// Maximum burst.
    pub burst: u32,
}

/// Limits of one process.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests per caller and per address.
    pub requests: Rate,
    /// Reports per caller and per address, included in `requests`.
    pub reports: Rate,
    /// Questions per caller and per address, included in `requests`.
    pub questions: Rate,
    /// Maximum number of open event streams per caller.
    pub streams: usize,
    /// Maximum number of concurrent answers.
    pub answers: usize,
    /// Maximum number of report requests that wait for their outcome.
    pub waits: usize,
    /// Proxies whose forwarded client addresses are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Maximum number of unfinished reports.
    pub max_waiting: i64,
}

/// Settings of this module.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "server.trusted_proxies",
        &["REGREEN_TRUSTED_PROXIES"],
        "",
        "Proxies whose `X-Forwarded-For` header is trusted, as addresses or CIDRs separated by commas.",
    ),
    setting(
        "limits.requests_per_minute",
        &["REGREEN_LIMIT_REQUESTS"],
        "6000",
        "Requests per minute of each caller and of each address; further requests get 429. 0: no limit.",
    ),
    setting("limits.requests_burst", &["REGREEN_LIMIT_REQUESTS_BURST"], "2000", "Burst size of requests."),
    setting(
        "limits.reports_per_minute",
        &["REGREEN_LIMIT_REPORTS"],
        "1200",
        "The same for `POST /report-failure` and `/webhooks/alertmanager`, which do not count as requests.",
    ),
    setting("limits.reports_burst", &["REGREEN_LIMIT_REPORTS_BURST"], "3000", "Burst size of reports."),
    setting(
        "limits.questions_per_minute",
        &["REGREEN_LIMIT_QUESTIONS"],
        "120",
        "The same for chat questions, through any endpoint.",
    ),
    setting("limits.questions_burst", &["REGREEN_LIMIT_QUESTIONS_BURST"], "60", "Burst size of questions."),
    setting(
        "limits.streams",
        &["REGREEN_LIMIT_STREAMS"],
        "200",
        "Maximum number of open event streams per caller; further ones get 429. Each open page has one. 0: no limit.",
    ),
    setting(
        "limits.answers",
        &["REGREEN_LIMIT_ANSWERS"],
        "200",
        "Maximum number of answers that one process generates at the same time; further questions get 503. 0: no limit.",
    ),
    setting(
        "limits.waits",
        &["REGREEN_LIMIT_WAITS"],
        "1000",
        "Maximum number of requests to `POST /report-failure` that one process keeps waiting; further ones get 202 at once. 0: no limit.",
    ),
    setting(
        "queue.max_waiting",
        &["REGREEN_QUEUE_MAX_WAITING"],
        "10000",
        "Maximum number of unfinished reports; beyond it `POST /report-failure` answers 503. 0: no limit.",
    ),
];

/// Reads the limits.
pub(super) fn read(r: &mut SettingsReader<'_>) -> Limits {
    let any = |count: usize| if count == 0 { usize::MAX } else { count };
    let max_waiting = r.bounded("queue.max_waiting", 0, 100_000_000);
    Limits {
        requests: rate(r, "requests"),
        reports: rate(r, "reports"),
        questions: rate(r, "questions"),
        streams: any(r.bounded("limits.streams", 0, 1_000_000)),
        answers: any(r.bounded("limits.answers", 0, 1_000_000)),
        waits: any(r.bounded("limits.waits", 0, 1_000_000)),
        trusted_proxies: proxies(r),
        max_waiting: if max_waiting == 0 { i64::MAX } else { max_waiting },
    }
}

fn rate(r: &mut SettingsReader<'_>, name: &str) -> Rate {
    Rate {
        per_minute: r.bounded(&format!("limits.{name}_per_minute"), 0, 10_000_000),
        burst: r.bounded(&format!("limits.{name}_burst"), 1, 10_000_000),
    }
}

fn proxies(r: &mut SettingsReader<'_>) -> Vec<IpNet> {
    let text = r.required_text("server.trusted_proxies");
    let mut proxies = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)) {
            Ok(net) => proxies.push(net),
            Err(_) => r.mistake(
                "`server.trusted_proxies`",
                format!("`{part}` is neither an address nor a CIDR such as `10.0.0.0/8`"),
            ),
        }
    }
    proxies
}
