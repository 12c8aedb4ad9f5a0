//! The task of an answer: question, user and audit recorder.

use super::profiles::Sampling;
use crate::audit::Recorder;
use crate::db::usage::{Purpose, UsageKind};
use crate::domain::policy::CallContext;
use crate::domain::{Approval, Caller, Principal, Profile};
use secrecy::SecretString;
use std::sync::Arc;
use uuid::Uuid;

/// The task of an answer.
pub(super) struct Task {
    pub(super) turn: Uuid,
    pub(super) conversation: Uuid,
    pub(super) title: String,
    pub(super) incident: Option<Uuid>,
    pub(super) profile: Profile,
    /// Sampling settings of this answer.
    pub(super) sampling: Sampling,
    /// The user who asked, or the requester of the decided calls, without their token.
    pub(super) caller: Caller,
    /// Name of the speaker. Their messages are instructions to the model, messages of others are data.
    pub(super) speaker: String,
    /// Author of the question: the user, or the person who decided last.
    pub(super) author: String,
    pub(super) question: String,
    /// Decisions on earlier calls. Approved calls are executed before the model is asked.
    pub(super) decided: Vec<Approval>,
    /// Token of the requester, for calls they approved, if they have just decided themselves.
    pub(super) token: Option<SecretString>,
    /// Records the audit events of the answer.
    pub(super) recorder: Recorder,
}

impl Task {
    /// Returns the recipient of the answer, whose access rights apply.
    pub(super) fn reader(&self) -> Principal {
        Principal::from(&self.caller)
    }

    /// Returns the purpose to which model requests are charged.
    pub(super) fn charged(&self, kind: UsageKind) -> Purpose {
        let (conversation, turn) = (Some(self.conversation), Some(self.turn));
        Purpose { kind, caller: self.caller.name.clone(), report: None, conversation, turn }
    }

    /// Returns the context of the answer's calls.
    pub(super) fn asker(&self) -> Arc<CallContext> {
        Arc::new(CallContext::chat(self.caller.clone(), &self.profile.name))
    }
}
