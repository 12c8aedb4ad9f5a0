//! How much may come in, and how fast.

use super::reader::Reader;
use super::setting::{Setting, setting};
use ipnet::IpNet;
use std::net::IpAddr;

/// Requests in a minute, and at once; 0 in a minute means any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

/// What one process takes in.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests of one caller, and of one address.
    pub requests: Rate,
    /// Of these, reports.
    pub reports: Rate,
    /// Of these, questions.
    pub questions: Rate,
    /// Event streams that one caller has open.
    pub streams: usize,
    /// Answers in the making.
    pub answers: usize,
    /// Reporters whose requests are held until the outcome.
    pub waits: usize,
    /// Proxies whose word is taken for where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Reports accepted and not yet ended.
    pub max_waiting: i64,
}

/// The settings of this file.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "server.trusted_proxies",
        &["REGREEN_TRUSTED_PROXIES"],
        "",
        "Proxies whose `X-Forwarded-For` is believed, as addresses or CIDRs separated by commas.",
    ),
    setting(
        "limits.requests_per_minute",
        &["REGREEN_LIMIT_REQUESTS"],
        "6000",
        "Requests a caller, and an address, may make in a minute; beyond it 429. 0: any number.",
    ),
    setting("limits.requests_burst", &["REGREEN_LIMIT_REQUESTS_BURST"], "2000", "Of these, at once."),
    setting(
        "limits.reports_per_minute",
        &["REGREEN_LIMIT_REPORTS"],
        "1200",
        "The same for `POST /report-failure` and `/webhooks/alertmanager`, which count here and not among the requests.",
    ),
    setting("limits.reports_burst", &["REGREEN_LIMIT_REPORTS_BURST"], "3000", "Of these, at once."),
    setting(
        "limits.questions_per_minute",
        &["REGREEN_LIMIT_QUESTIONS"],
        "120",
        "The same for questions of the chat, in whatever way they come.",
    ),
    setting("limits.questions_burst", &["REGREEN_LIMIT_QUESTIONS_BURST"], "60", "Of these, at once."),
    setting(
        "limits.streams",
        &["REGREEN_LIMIT_STREAMS"],
        "200",
        "Event streams a caller may have open; beyond it 429. Each open page has one. 0: any number.",
    ),
    setting(
        "limits.answers",
        &["REGREEN_LIMIT_ANSWERS"],
        "200",
        "Answers one process makes at the same time; beyond it questions get 503. 0: any number.",
    ),
    setting(
        "limits.waits",
        &["REGREEN_LIMIT_WAITS"],
        "1000",
        "Reporters one process keeps waiting for the outcome; beyond it they get 202 at once. 0: any number.",
    ),
    setting(
        "queue.max_waiting",
        &["REGREEN_QUEUE_MAX_WAITING"],
        "10000",
        "Reports accepted and not yet ended; beyond it `POST /report-failure` answers 503. 0: any number.",
    ),
];

/// The limits of what comes in.
pub(super) fn read(r: &mut Reader<'_>) -> Limits {
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

fn rate(r: &mut Reader<'_>, name: &str) -> Rate {
    Rate {
        per_minute: r.bounded(&format!("limits.{name}_per_minute"), 0, 10_000_000),
        burst: r.bounded(&format!("limits.{name}_burst"), 1, 10_000_000),
    }
}

fn proxies(r: &mut Reader<'_>) -> Vec<IpNet> {
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
