//! Whose history it is: the agent that is asked, the caller, and whom the caller asks for. The same words of two people are two
//! conversations.

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

    /// What a history is recognised by: whose it is, and its messages, with the answer if there is one. Each field goes with
    /// its length, so that none can pass for a part of another.
    pub(super) fn thread(&self, messages: &[Turn], answer: Option<&str>) -> String {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        field("regreen thread 2");
        field(&self.agent.to_string());
        field(&self.caller);
        // Nobody named is not the same as somebody without a name.
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
