//! Reported failures and their processing steps.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a caller tells about a failure. Validated by `http` before it gets here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Failed pod.
    pub pod_name: String,
    /// Container in it. The one that failed by the pod's status goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Pipeline the pod belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Task within the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Name of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Where the run can be looked at; http(s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
    /// Link to the last good run of the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_run: Option<String>,
    /// Repository that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// How far a report is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
    EnumString,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ReportStatus {
    /// Stored, waiting for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Placed under a cause that another report is investigating; ends when that one does.
    Waiting,
    /// Finished: an issue was filed, or the known one counted, or the diagnosis stored.
    Done,
    /// Given up; `failure` of the report says why.
    Failed,
}

impl ReportStatus {
    /// Names of all statuses.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a status. Returns `Failed` for an unknown name, so that no client waits for it.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Failed)
    }

    /// Whether processing has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// The steps a report goes through, in order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Fetch logs, pod and events.
    Collect,
    /// Recognise the cause or open an incident.
    Place,
    /// Find the cause.
    Investigate,
    /// Check every citation.
    Verify,
    /// File the issue, or count and comment on the known one.
    Publish,
}

impl StepName {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Which.
    pub name: String,
    /// What came of it, in a sentence.
    pub detail: String,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
}

/// A report as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Row id; sorts by time.
    pub id: Uuid,
    /// What was reported.
    #[serde(flatten)]
    pub failure: Failure,
    /// Who reported it.
    pub caller: String,
    /// How far it is.
    pub status: ReportStatus,
    /// What came of it: the sentence callers get.
    pub result: Option<String>,
    /// Why it failed, when it did.
    pub error: Option<String>,
    /// The cause it was placed under.
    pub incident_id: Option<Uuid>,
    /// Times a worker took it up.
    pub attempts: i32,
    /// When it came in.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}
