//! How a server is, as pages and the API tell it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// Where a connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Phase {
    /// The first or another attempt is under way.
    Connecting,
    /// Tools can be called.
    Connected,
    /// There is a session, but the last probe was not answered in time.
    Degraded,
    /// The last attempt failed; the next one comes then.
    Retrying {
        /// When.
        next_attempt: DateTime<Utc>,
    },
}

// Generators of clients know no enum that is spread into an object: this is what one looks like there.
/// Where the connection to a server stands.
#[derive(ToSchema)]
#[schema(as = ServerPhase)]
#[expect(dead_code, reason = "describes what `Phase` is serialized as")]
struct PhaseDescribed {
    state: StateDescribed,
    /// When the next attempt comes, while it is `retrying`.
    next_attempt: Option<DateTime<Utc>>,
}

/// `degraded` has a session whose last probe was not answered in time.
#[derive(ToSchema)]
#[schema(as = ServerState)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what `Phase` is serialized as")]
enum StateDescribed {
    Connecting,
    Connected,
    Degraded,
    Retrying,
}

/// How a server is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Its transport, as it is in use.
    pub transport: &'static str,
    /// Where the connection stands.
    #[serde(flatten)]
    #[schema(value_type = PhaseDescribed)]
    pub phase: Phase,
    /// Tools known.
    pub tools: usize,
    /// Milliseconds of the last probe; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Why the last attempt, session or probe failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// That another transport is in use than the configured one, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl ServerStatus {
    /// Whether tools can be called right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected | Phase::Degraded)
    }
}
