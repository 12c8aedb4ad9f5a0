//! What happens in answers, reports and incidents, as it is kept and as those who watch are told.

use super::{Approval, ConversationMessage, Principal, StepName, StopReason, Usage, withheld};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

/// What a stream of events is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Subject {
    /// An answer in a conversation; its stream is known by its turn.
    Turn,
    /// A report.
    Report,
    /// An incident.
    Incident,
}

/// An event. Its kind and its payload are kept and sent apart: a server-sent event has the kind as its name, the payload as its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "kind", content = "payload")]
pub enum Event {
    /// A turn of an answer begins, or begins again: what it wrote before does not count.
    #[serde(rename = "message.start")]
    #[strum(serialize = "message.start")]
    MessageStart {
        /// The answer's turn.
        run: Uuid,
        /// Which request to the model, from 1.
        turn: u32,
        /// Who answers.
        model: String,
    },
    /// The next piece of the text.
    #[serde(rename = "text.delta")]
    #[strum(serialize = "text.delta")]
    TextDelta {
        /// The piece.
        text: String,
    },
    /// A tool is called.
    #[serde(rename = "tool.started")]
    #[strum(serialize = "tool.started")]
    ToolStarted {
        /// Names the call within the answer.
        call: String,
        /// Name of the tool.
        tool: String,
        /// As the model wrote them.
        arguments: String,
    },
    /// A call waits for a person.
    #[serde(rename = "approval.required")]
    #[strum(serialize = "approval.required")]
    ApprovalRequired {
        /// What is decided.
        approval: Uuid,
        /// Name of the tool.
        tool: String,
        /// Its server.
        server: String,
        /// What it would be called with.
        arguments: Value,
        /// Until when somebody may decide.
        expires_at: DateTime<Utc>,
    },
    /// A call was answered.
    #[serde(rename = "tool.finished")]
    #[strum(serialize = "tool.finished")]
    ToolFinished {
        /// Names the call within the answer.
        call: String,
        /// Name of the tool.
        tool: String,
        /// Whether it failed.
        failed: bool,
        /// Milliseconds it took.
        duration_ms: i64,
        /// What the model is shown, shortened.
        result: String,
    },
    /// A turn is paid for.
    #[serde(rename = "usage")]
    #[strum(serialize = "usage")]
    Used(Usage),
    /// The answer is stored. Nothing comes after it.
    #[serde(rename = "done")]
    #[strum(serialize = "done")]
    Done(Box<Done>),
    /// There is no answer. Nothing comes after it.
    #[serde(rename = "failed")]
    #[strum(serialize = "failed")]
    Failed {
        /// The answer's turn.
        run: Uuid,
        /// Why, in a sentence.
        detail: String,
        /// The turn that has begun since.
        #[serde(default)]
        next_run: Option<Uuid>,
    },
    /// A report waits for a worker.
    #[serde(rename = "report.queued")]
    #[strum(serialize = "report.queued")]
    ReportQueued,
    /// A worker has a report.
    #[serde(rename = "report.running")]
    #[strum(serialize = "report.running")]
    ReportRunning,
    /// A report waits for another of the same cause.
    #[serde(rename = "report.waiting")]
    #[strum(serialize = "report.waiting")]
    ReportWaiting,
    /// A step of a report was taken.
    #[serde(rename = "report.step")]
    #[strum(serialize = "report.step")]
    ReportStep {
        /// Which.
        name: StepName,
    },
    /// A report is done.
    #[serde(rename = "report.done")]
    #[strum(serialize = "report.done")]
    ReportDone,
    /// A report was given up.
    #[serde(rename = "report.failed")]
    #[strum(serialize = "report.failed")]
    ReportFailed,
    /// An incident is there, or open again.
    #[serde(rename = "incident.open")]
    #[strum(serialize = "incident.open")]
    IncidentOpen,
    /// An incident is resolved.
    #[serde(rename = "incident.resolved")]
    #[strum(serialize = "incident.resolved")]
    IncidentResolved,
}

/// An answer, at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The answer's turn.
    pub run: Uuid,
    /// The conversation.
    pub conversation_id: Uuid,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Whether the model came to its limit of output.
    #[serde(default)]
    pub cut_off: bool,
    /// The message that was stored.
    pub message: Option<ConversationMessage>,
    /// The calls that wait for a person.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// What it took.
    pub usage: Option<Usage>,
    /// The turn that has begun since.
    #[serde(default)]
    pub next_run: Option<Uuid>,
}

/// An event at its place in a stream. Cloning shares: there may be many readers.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEvent {
    /// From 1, without gaps.
    pub id: i32,
    /// What happened.
    pub event: Arc<Event>,
    /// Its payload.
    pub data: Arc<str>,
    /// Who alone may read it.
    pub visible_to: Option<Arc<str>>,
}

impl Event {
    /// Its name, as kept and as sent.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// Its fields as JSON, as kept and as sent.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut whole = json!(self);
        whole["payload"].take().to_string()
    }

    /// From its kept form; `None` for one that a newer program keeps.
    #[must_use]
    pub fn read(kind: &str, payload: &str) -> Option<Self> {
        let payload: Value = serde_json::from_str(payload).ok()?;
        serde_json::from_value(json!({ "kind": kind, "payload": payload })).ok()
    }

    /// Whether nothing comes after it in the stream of an answer.
    #[must_use]
    pub fn ends(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed { .. })
    }

    /// What is told of it to others, where it is visible to this person alone; nothing when it says nothing without what is kept
    /// from them.
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
            // Text, what it cost, and whatever else there will be.
            _ => return None,
        })
    }
}

impl StreamEvent {
    /// An event at this place, visible to this person alone or to everybody.
    #[must_use]
    pub fn new(id: i32, event: Event, visible_to: Option<Arc<str>>) -> Self {
        Self { id, data: event.payload().into(), event: Arc::new(event), visible_to }
    }

    /// From its kept form; `None` for one that a newer program keeps.
    #[must_use]
    pub fn read(id: i32, kind: &str, payload: String, visible_to: Option<Arc<str>>) -> Option<Self> {
        let event = Arc::new(Event::read(kind, &payload)?);
        Some(Self { id, event, data: payload.into(), visible_to })
    }

    /// As this reader may see it; nothing when it says nothing without what is kept from them.
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
