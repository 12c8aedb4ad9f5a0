//! Status of a server, as shown by pages and the API.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// State of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Phase {
    /// A connection attempt is in progress.
    Connecting,
    /// Tools can be called.
    Connected,
    /// A session exists, but the last probe was not answered in time.
    Degraded,
    /// The last attempt failed; another one is scheduled.
    Retrying {
        /// Time of the next attempt.
        next_attempt: DateTime<Utc>,
    },
}

// Client generators do not support an enum flattened into an object, so this struct describes the serialized form.
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
    /// Returns whether tools can be called.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected | Phase::Degraded)
    }
}
