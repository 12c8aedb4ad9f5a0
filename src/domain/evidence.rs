//! Text collected for a report, stored whole and redacted.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Where a piece of evidence came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// Log of the failing container.
    Log,
    /// Log of the container's previous run.
    PreviousLog,
    /// The pod's manifest and status.
    Pod,
    /// Events of the pod or namespace.
    Events,
    /// A log attached to the report.
    Attached,
    /// The log of the last good run, attached to the report: what it says too is hardly the cause.
    GoodLog,
    /// The alert that led to the report: its labels and annotations.
    Alert,
    /// Result of a tool the analyst called.
    ToolResult,
}

impl EvidenceKind {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::PreviousLog => "previous_log",
            Self::Pod => "pod",
            Self::Events => "events",
            Self::Attached => "attached",
            Self::GoodLog => "good_log",
            Self::Alert => "alert",
            Self::ToolResult => "tool_result",
        }
    }

    /// The kind of that name; anything else is a tool result.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "log" => Self::Log,
            "previous_log" => Self::PreviousLog,
            "pod" => Self::Pod,
            "events" => Self::Events,
            "attached" => Self::Attached,
            "good_log" => Self::GoodLog,
            "alert" => Self::Alert,
            _ => Self::ToolResult,
        }
    }

    /// Whether the text is a program's log, so that an excerpt ranks it as one.
    #[must_use]
    pub fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::PreviousLog | Self::Attached)
    }
}

/// A piece of evidence with its whole, redacted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Row id.
    pub id: Uuid,
    /// `E1`, `E2`, … within its report.
    pub label: String,
    /// Where it came from.
    pub kind: EvidenceKind,
    /// Human name: "log of container build".
    pub title: String,
    /// The whole text, redacted; line numbers refer to it.
    pub text: String,
    /// Numbers of the lines of which a part was shown in red, ascending.
    pub red: Vec<u32>,
}

/// A piece of evidence without its text, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceSummary {
    /// Row id.
    pub id: Uuid,
    /// `E1`, `E2`, … within its report.
    pub label: String,
    /// Where it came from.
    pub kind: EvidenceKind,
    /// Human name.
    pub title: String,
    /// Number of lines.
    pub lines: i32,
    /// Size in bytes.
    pub bytes: i32,
    /// Secrets replaced in it.
    pub redactions: i32,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When its text was removed as past `retention.evidence`; absent while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_at: Option<DateTime<Utc>>,
    /// Who alone may read it: a tool told it to their own token. Everybody may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_to: Option<String>,
}
