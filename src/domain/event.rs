//! Events of answers, reports and incidents, as stored and as sent to subscribers.

use super::{Approval, ConversationMessage, Principal, StepName, StopReason, Usage, withheld};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

/// Subject of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Subject {
    /// An answer in a conversation, identified by its run.
    Turn,
    /// A report.
    Report,
    /// An incident.
    Incident,
}

/// An event. Kind and payload are stored and sent separately: in a server-sent event the kind is the name and the payload
/// the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "kind", content = "payload")]
pub enum Event {
    /// A turn of an answer starts or restarts; discard any text of the turn received before.
    #[serde(rename = "message.start")]
    #[strum(serialize = "message.start")]
    MessageStart {
        /// Run that produces the answer.
        run: Uuid,
        /// Number of the request to the model, from 1.
        turn: u32,
        /// Name of the model.
        model: String,
    },
    /// Next piece of text.
    #[serde(rename = "text.delta")]
    #[strum(serialize = "text.delta")]
    TextDelta {
        /// The piece.
        text: String,
    },
    /// A tool call starts.
    #[serde(rename = "tool.started")]
    #[strum(serialize = "tool.started")]
    ToolStarted {
        /// Id of the call, unique within the answer.
        call: String,
        /// Name of the tool.
        tool: String,
        /// Arguments as written by the model.
        arguments: String,
    },
    /// A tool call waits for approval.
    #[serde(rename = "approval.required")]
    #[strum(serialize = "approval.required")]
    ApprovalRequired {
        /// Id of the approval.
        approval: Uuid,
        /// Name of the tool.
        tool: String,
        /// MCP server of the tool.
        server: String,
        /// Arguments of the call.
        arguments: Value,
        /// Deadline for the decision.
        expires_at: DateTime<Utc>,
    },
    /// A tool call ended.
    #[serde(rename = "tool.finished")]
    #[strum(serialize = "tool.finished")]
    ToolFinished {
        /// Id of the call, unique within the answer.
        call: String,
        /// Name of the tool.
        tool: String,
        /// Whether the call failed.
        failed: bool,
        /// Duration in milliseconds.
        duration_ms: i64,
        /// Result as shown to the model, shortened.
        result: String,
    },
    /// Token usage of a turn.
    #[serde(rename = "usage")]
    #[strum(serialize = "usage")]
    Used(Usage),
    /// The answer is stored. Last event of the stream.
    #[serde(rename = "done")]
    #[strum(serialize = "done")]
    Done(Box<Done>),
    /// The answer failed. Last event of the stream.
    #[serde(rename = "failed")]
    #[strum(serialize = "failed")]
    Failed {
        /// Run that failed.
        run: Uuid,
        /// Reason, as one sentence.
        detail: String,
        /// Run that started since then.
        #[serde(default)]
        next_run: Option<Uuid>,
    },
    /// A report is queued.
    #[serde(rename = "report.queued")]
    #[strum(serialize = "report.queued")]
    ReportQueued,
    /// A worker processes a report.
    #[serde(rename = "report.running")]
    #[strum(serialize = "report.running")]
    ReportRunning,
    /// A report waits for another report of the same cause.
    #[serde(rename = "report.waiting")]
    #[strum(serialize = "report.waiting")]
    ReportWaiting,
    /// A step of a report is complete.
    #[serde(rename = "report.step")]
    #[strum(serialize = "report.step")]
    ReportStep {
        /// Name of the step.
        name: StepName,
    },
    /// A report is complete.
    #[serde(rename = "report.done")]
    #[strum(serialize = "report.done")]
    ReportDone,
    /// A report failed permanently.
    #[serde(rename = "report.failed")]
    #[strum(serialize = "report.failed")]
    ReportFailed,
    /// An incident was opened or reopened.
    #[serde(rename = "incident.open")]
    #[strum(serialize = "incident.open")]
    IncidentOpen,
    /// An incident was resolved.
    #[serde(rename = "incident.resolved")]
    #[strum(serialize = "incident.resolved")]
    IncidentResolved,
}

/// Payload of a completed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Run that produced the answer.
    pub run: Uuid,
    /// Conversation of the answer.
    pub conversation_id: Uuid,
    /// Why the run stopped.
    pub stop_reason: StopReason,
    /// Whether the model reached its output limit.
    #[serde(default)]
    pub cut_off: bool,
    /// Stored message.
    pub message: Option<ConversationMessage>,
    /// Calls that wait for approval.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Token usage.
    pub usage: Option<Usage>,
    /// Run that started since then.
    #[serde(default)]
    pub next_run: Option<Uuid>,
}

/// An event at its position in a stream. Cloning shares the data, because a stream may have many readers.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// Position, from 1 without gaps.
    pub id: i32,
    /// The event.
    pub event: Arc<Event>,
    /// Payload as JSON.
    pub data: Arc<str>,
    /// The only person who may read the event; everybody when absent.
    pub visible_to: Option<Arc<str>>,
}

impl Event {
    /// Name of the event, as stored and sent.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// Payload as JSON, as stored and sent.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut whole = json!(self);
        whole["payload"].take().to_string()
    }

    /// Parses a stored event. Returns `None` for an unknown kind, stored by a newer version.
    #[must_use]
    pub fn read(kind: &str, payload: &str) -> Option<Self> {
        let payload: Value = serde_json::from_str(payload).ok()?;
        serde_json::from_value(json!({ "kind": kind, "payload": payload })).ok()
    }

    /// Whether the event is the last one in the stream of an answer.
    #[must_use]
    pub fn ends(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed { .. })
    }

    /// Returns the event for readers other than `owner`, without private content; `None` when nothing else remains.
    fn withheld(self, owner: &str, reader: &Principal) -> Option<Self> {
        let hidden = withheld(owner);
        Some(match self {
            Self::ToolStarted { call, tool, .. } => Self::ToolStarted { call, tool, arguments: hidden },
            Self::ToolFinished { call, tool, failed, duration_ms, .. } => {
                Self::ToolFinished { call, tool, failed, duration_ms, result: hidden }
            }
            Self::ApprovalRequired { approval, tool, server, expires_at, .. } => {
                let arguments = json!({ "withheld": hidden });
                Self::ApprovalRequired { approval, tool, server, arguments, expires_at }
            }
            Self::Done(done) => {
                let message = done.message.map(|message| message.redacted_for(reader));
                Self::Done(Box::new(Done { message, approvals: Vec::new(), usage: None, ..*done }))
            }
            Self::MessageStart { .. } | Self::Failed { .. } => self,
            // Text, usage, and any future kind.
            _ => return None,
        })
    }
}

impl StreamEvent {
    /// Creates an event, visible to one person or to everybody.
    #[must_use]
    pub fn new(id: i32, event: Event, visible_to: Option<Arc<str>>) -> Self {
        Self { id, data: event.payload().into(), event: Arc::new(event), visible_to }
    }

    /// Parses a stored event. Returns `None` for an unknown kind, stored by a newer version.
    #[must_use]
    pub fn read(id: i32, kind: &str, payload: String, visible_to: Option<Arc<str>>) -> Option<Self> {
        let event = Arc::new(Event::read(kind, &payload)?);
        Some(Self { id, event, data: payload.into(), visible_to })
    }

    /// Returns the event without content that this reader may not see; `None` when nothing else remains.
    #[must_use]
    pub fn redacted_for(self, reader: &Principal) -> Option<Self> {
        match self.visible_to.clone().filter(|owner| !reader.may_read(Some(owner))) {
            None => Some(self),
            Some(owner) => {
                let told = Arc::unwrap_or_clone(self.event).withheld(&owner, reader)?;
                Some(Self::new(self.id, told, self.visible_to))
            }
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_not_known_is_nothing() {
        let id = Uuid::from_u128(7);
        let text = || "a\u{0}b".to_owned();
        let events = [
            Event::MessageStart { run: id, turn: 1, model: text() },
            Event::TextDelta { text: text() },
            Event::ToolStarted { call: text(), tool: text(), arguments: text() },
            Event::ApprovalRequired {
                approval: id,
                tool: text(),
                server: text(),
                arguments: json!({"a": [1.5]}),
                expires_at: DateTime::UNIX_EPOCH,
            },
            Event::ToolFinished { call: text(), tool: text(), failed: true, duration_ms: 3, result: text() },
            Event::Used(Usage { input_tokens: 1, output_tokens: 2, cached_tokens: 0 }),
            Event::Done(Box::new(Done {
                run: id,
                conversation_id: id,
                stop_reason: StopReason::Answered,
                cut_off: false,
                message: None,
                approvals: Vec::new(),
                usage: Some(Usage::default()),
                next_run: Some(id),
            })),
            Event::Failed { run: id, detail: text(), next_run: None },
            Event::ReportQueued,
            Event::ReportRunning,
            Event::ReportWaiting,
            Event::ReportStep { name: StepName::Place },
            Event::ReportDone,
            Event::ReportFailed,
            Event::IncidentOpen,
            Event::IncidentResolved,
        ];
        for event in events {
            assert_eq!(Event::read(event.kind(), &event.payload()).as_ref(), Some(&event));
        }
        assert_eq!(Event::read("something.new", "{}"), None);
        assert_eq!(Event::TextDelta { text: "a".into() }.payload(), r#"{"text":"a"}"#);
        assert_eq!(Event::ReportDone.payload(), "null");
    }
}
