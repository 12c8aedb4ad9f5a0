//! Feedback on a cause: who gave it, and what helped.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// What is said about the conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The cause was found rightly.
    Confirmed,
    /// It was another one.
    Corrected,
    /// Something worth knowing; the incident stays as it is.
    Note,
    /// It is solved: a person says so, or its issue was closed.
    Closed,
    /// It is not: the incident stands again.
    Reopened,
}

impl Verdict {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a verdict. Returns `Note` for an unknown name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Note)
    }

    /// Whether the verdict resolves the incident.
    #[must_use]
    pub fn resolves(self) -> bool {
        !matches!(self, Self::Note | Self::Reopened)
    }
}

/// One statement about an incident, by a person or the tracker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolution {
    /// Row id.
    pub id: Uuid,
    /// What is said about the conclusion.
    pub verdict: Verdict,
    /// The cause in the author's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What helped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The commit, pull request or page of the fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Who says so.
    pub author: String,
    /// `person`, `tracker` or `chat`.
    pub origin: String,
    /// When.
    pub created_at: DateTime<Utc>,
}
