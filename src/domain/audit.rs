//! Audit events: who did what to which object, for which request or job, and with what outcome.

use super::Verdict;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;
use strum::{Display, EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// Actor name of the service itself.
pub const SERVICE: &str = "regreen";

/// Who acts, and the request or job that the action belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// Caller name, or [`SERVICE`] for actions of the service itself.
    pub name: String,
    /// Id of the request, report or run; empty when there is none.
    pub trace: String,
}

impl Actor {
    /// Creates an actor from a name and a trace id.
    pub fn new(name: impl Into<String>, trace: impl ToString) -> Self {
        Self { name: name.into(), trace: trace.to_string() }
    }

    /// Creates the actor of the service itself, with the id of a request or job.
    pub fn service(trace: impl ToString) -> Self {
        Self::new(SERVICE, trace)
    }
}

/// Audited action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[expect(missing_docs, reason = "the names are those of the table in docs/audit.md")]
pub enum AuditAction {
    #[strum(serialize = "agent.delete")]
    AgentDelete,
    #[strum(serialize = "agent.store")]
    AgentStore,
    #[strum(serialize = "approval.approve")]
    ApprovalApprove,
    #[strum(serialize = "approval.ask")]
    ApprovalAsk,
    #[strum(serialize = "approval.carry_out")]
    ApprovalCarryOut,
    #[strum(serialize = "approval.deny")]
    ApprovalDeny,
    #[strum(serialize = "approval.expire")]
    ApprovalExpire,
    #[strum(serialize = "approval.link")]
    ApprovalLink,
    #[strum(serialize = "audit.drop")]
    AuditDrop,
    #[strum(serialize = "chat.ask")]
    ChatAsk,
    #[strum(serialize = "chat.go_on")]
    ChatGoOn,
    #[strum(serialize = "conversation.delete")]
    ConversationDelete,
    #[strum(serialize = "document.delete")]
    DocumentDelete,
    #[strum(serialize = "document.store")]
    DocumentStore,
    #[strum(serialize = "incident.closed")]
    IncidentClosed,
    #[strum(serialize = "incident.confirmed")]
    IncidentConfirmed,
    #[strum(serialize = "incident.corrected")]
    IncidentCorrected,
    #[strum(serialize = "incident.investigate")]
    IncidentInvestigate,
    #[strum(serialize = "incident.merge")]
    IncidentMerge,
    #[strum(serialize = "incident.note")]
    IncidentNote,
    #[strum(serialize = "incident.reopened")]
    IncidentReopened,
    #[strum(serialize = "incident.split")]
    IncidentSplit,
    #[strum(serialize = "issue.create")]
    IssueCreate,
    /// One request or job reached the limit of its audit events.
    #[strum(serialize = "journal.full")]
    RecordFull,
    #[strum(serialize = "key.create")]
    KeyCreate,
    #[strum(serialize = "key.revoke")]
    KeyRevoke,
    #[strum(serialize = "login")]
    Login,
    #[strum(serialize = "mcp_server.add")]
    McpServerAdd,
    #[strum(serialize = "mcp_server.delete")]
    McpServerDelete,
    #[strum(serialize = "mcp_server.reconnect")]
    McpServerReconnect,
    #[strum(serialize = "model.call")]
    ModelCall,
    #[strum(serialize = "notify")]
    Notify,
    #[strum(serialize = "report.accept")]
    ReportAccept,
    #[strum(serialize = "report.collect")]
    ReportCollect,
    #[strum(serialize = "report.diagnose")]
    ReportDiagnose,
    #[strum(serialize = "report.finish")]
    ReportFinish,
    #[strum(serialize = "report.retry")]
    ReportRetry,
    #[strum(serialize = "report.take_up")]
    ReportTakeUp,
    #[strum(serialize = "retention.prune")]
    RetentionPrune,
    #[strum(serialize = "run")]
    Run,
    #[strum(serialize = "server.start")]
    ServerStart,
    #[strum(serialize = "server.stop")]
    ServerStop,
    #[strum(serialize = "tool.call")]
    ToolCall,
    #[strum(serialize = "tool.change")]
    ToolChange,
    #[strum(serialize = "tool.confirm")]
    ToolConfirm,
    #[strum(serialize = "tool.try")]
    ToolTry,
}

/// How it ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AuditOutcome {
    /// As it was meant.
    Done,
    /// With an error.
    Failed,
    /// It was not allowed.
    Refused,
    /// Nobody waited for its end.
    Stopped,
}

/// An audited action.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// Start time.
    pub at: DateTime<Utc>,
    /// Who acted, and for which request or job.
    pub actor: Actor,
    /// What was done.
    pub action: AuditAction,
    /// Kind of the object: `report`, `tool`, …
    pub object_kind: &'static str,
    /// Id or name of the object.
    pub object: String,
    /// Result of the action.
    pub outcome: AuditOutcome,
    /// Duration in milliseconds.
    pub duration_ms: Option<i64>,
    /// Run that performed the action.
    pub run: Option<Uuid>,
    /// Description without secrets and log contents.
    pub detail: String,
    /// Figures and hashes.
    pub data: Value,
}

impl From<Verdict> for AuditAction {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Confirmed => Self::IncidentConfirmed,
            Verdict::Corrected => Self::IncidentCorrected,
            Verdict::Note => Self::IncidentNote,
            Verdict::Closed => Self::IncidentClosed,
            Verdict::Reopened => Self::IncidentReopened,
        }
    }
}

impl AuditEvent {
    /// Creates an event with outcome `Done` and no object.
    #[must_use]
    pub fn new(actor: &Actor, action: AuditAction, at: DateTime<Utc>) -> Self {
        Self {
            at,
            actor: actor.clone(),
            action,
            object_kind: "",
            object: String::new(),
            outcome: AuditOutcome::Done,
            duration_ms: None,
            run: None,
            detail: String::new(),
            data: json!({}),
        }
    }

    /// Sets the object: its kind, and its id or name.
    #[must_use]
    pub fn on(self, kind: &'static str, object: impl ToString) -> Self {
        Self { object_kind: kind, object: object.to_string(), ..self }
    }

    /// Sets the outcome.
    #[must_use]
    pub fn outcome(self, outcome: AuditOutcome) -> Self {
        Self { outcome, ..self }
    }

    /// Sets the description.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Sets the figures.
    #[must_use]
    pub fn data(self, data: Value) -> Self {
        Self { data, ..self }
    }

    /// Sets the duration.
    #[must_use]
    pub fn took(self, time: Duration) -> Self {
        Self { duration_ms: Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)), ..self }
    }
}
