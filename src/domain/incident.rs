//! Incidents: one cause, seen once or many times, and the issue filed for it.

use super::{Diagnosis, FailureClass};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// Recognises the same cause again: a hash of the masked failure lines, stable across runs, pods and line drift.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

/// Whether a cause still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum IncidentStatus {
    /// Nobody said it is solved.
    Open,
    /// Solved; the same fingerprint opens a new incident.
    Resolved,
}

impl IncidentStatus {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a status. Returns `Open` for an unknown name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Open)
    }
}

/// A cause and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Incident {
    /// Row id.
    pub id: Uuid,
    /// Namespace whose evidence led to the conclusion; until there is one, where the cause was seen first.
    pub namespace: String,
    /// What recognises it.
    pub fingerprint: Fingerprint,
    /// Open or resolved.
    pub status: IncidentStatus,
    /// One line.
    pub title: String,
    /// Kind of cause.
    pub class: FailureClass,
    /// The conclusion, once there is one.
    pub diagnosis: Option<Diagnosis>,
    /// The filed issue.
    pub issue_url: Option<String>,
    /// Reports placed here.
    pub occurrences: i32,
    /// First report.
    pub first_seen: DateTime<Utc>,
    /// Latest report.
    pub last_seen: DateTime<Utc>,
    /// The incident of the same cause before this one, if its issue was closed and the cause came back.
    pub previous_id: Option<Uuid>,
    /// When the issue was found closed.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The incident that it was merged into; its reports are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<Uuid>,
    /// The incident that its reports were split from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_from: Option<Uuid>,
}

impl Incident {
    /// Returns the incident as shown to reports of a namespace. Hides title and diagnosis if evidence of another namespace led
    /// to the conclusion.
    #[must_use]
    pub fn told_in(self, namespace: &str) -> Self {
        if self.namespace == namespace {
            return self;
        }
        let title = format!("A cause outside of the namespace ({})", self.class.as_str());
        Self { title, diagnosis: None, ..self }
    }
}
