//! Owner of a history: agent, caller and end user of the caller. The same messages of two users are two conversations.

use super::request::Turn;
use crate::domain::Caller;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(super) struct Client {
    agent: Uuid,
    caller: String,
    user: Option<String>,
}

impl Client {
    pub(super) fn new(agent: Uuid, caller: &Caller, user: Option<&str>) -> Self {
        Self { agent, caller: caller.name.clone(), user: user.map(ToOwned::to_owned) }
    }

    /// Returns a hash of the owner and the messages, with the answer if given, by which a history is recognised. Each field
    /// is hashed with its length, so that fields cannot run together.
    pub(super) fn thread(&self, messages: &[Turn], answer: Option<&str>) -> String {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        field("regreen thread 2");
        field(&self.agent.to_string());
        field(&self.caller);
        // A missing user differs from a user with an empty name.
        field(if self.user.is_some() { "user" } else { "" });
        field(self.user.as_deref().unwrap_or_default());
        for turn in messages {
            field(&turn.role);
            field(turn.text().trim());
        }
        if let Some(answer) = answer {
            field("assistant");
            field(answer.trim());
        }
        hex::encode(hash.finalize())
    }
}
