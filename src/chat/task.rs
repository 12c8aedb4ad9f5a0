//! What has to be answered, for whom, and where what is done for it is recorded.

use super::profiles::Sampling;
use crate::audit::Recorder;
use crate::db::usage::{Purpose, UsageKind};
use crate::domain::policy::CallContext;
use crate::domain::{Approval, Caller, Principal, Profile};
use secrecy::SecretString;
use std::sync::Arc;
use uuid::Uuid;

/// What has to be answered.
pub(super) struct Task {
    pub(super) turn: Uuid,
    pub(super) conversation: Uuid,
    pub(super) title: String,
    pub(super) incident: Option<Uuid>,
    pub(super) profile: Profile,
    /// How the model answers this time.
    pub(super) sampling: Sampling,
    /// Who asked; for decided calls whoever asked for these, without their token.
    pub(super) caller: Caller,
    /// By which name they speak: their words are orders to the model, those of others are data.
    pub(super) speaker: String,
    /// Who said the question: they, or whoever decided last.
    pub(super) author: String,
    pub(super) question: String,
    /// What people decided about earlier calls; the approved ones are carried out before anybody thinks.
    pub(super) decided: Vec<Approval>,
    /// The token of whoever asked, if they themselves decided just now: for the calls that they approved.
    pub(super) token: Option<SecretString>,
    /// What the answer does.
    pub(super) recorder: Recorder,
}

impl Task {
    /// Who the answer is for: it knows of nothing that is visible to others alone.
    pub(super) fn reader(&self) -> Principal {
        Principal::from(&self.caller)
    }

    /// What its requests to models are charged to.
    pub(super) fn charged(&self, kind: UsageKind) -> Purpose {
        let (conversation, turn) = (Some(self.conversation), Some(self.turn));
        Purpose { kind, caller: self.caller.name.clone(), report: None, conversation, turn }
    }

    /// Who asks for the calls of this answer.
    pub(super) fn asker(&self) -> Arc<CallContext> {
        Arc::new(CallContext::chat(self.caller.clone(), &self.profile.name))
    }
}
