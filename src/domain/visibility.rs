//! Who reads, and what is kept from them: what a tool told somebody with that person's own token is readable by nobody else,
//! whatever their role. Others learn that it is there, and whose it is.

use super::{Approval, Caller, ConversationMessage, Evidence, EvidenceSummary, Run};
use serde_json::json;
use std::sync::Arc;

/// Somebody who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Option<Arc<str>>);

impl Principal {
    /// Reads what everybody may read, and nothing more.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }

    /// Whoever is known by this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Some(name.into()))
    }

    /// Whether they may read what is visible to one person alone; to everybody when there is none.
    #[must_use]
    pub fn may_read(&self, visible_to: Option<&str>) -> bool {
        visible_to.is_none_or(|owner| self.0.as_deref() == Some(owner))
    }

    /// The owner, if it is somebody else.
    fn kept_by<'a>(&self, visible_to: Option<&'a str>) -> Option<&'a str> {
        visible_to.filter(|_| !self.may_read(visible_to))
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self::named(&caller.name)
    }
}

/// What stands in the place of what somebody else may not read.
#[must_use]
pub fn withheld(owner: &str) -> String {
    format!("(visible to {owner} alone)")
}

impl ConversationMessage {
    /// As this reader may see it.
    #[must_use]
    pub fn redacted_for(mut self, reader: &Principal) -> Self {
        if let Some(owner) = reader.kept_by(self.visible_to.as_deref()) {
            self.text =
                format!("{owner} asked with their own access. The answer is visible to {owner} alone.");
            self.citations.clear();
            self.not_found.clear();
        }
        self
    }
}

impl EvidenceSummary {
    /// As this reader may see it.
    #[must_use]
    pub fn redacted_for(mut self, reader: &Principal) -> Self {
        if let Some(owner) = reader.kept_by(self.visible_to.as_deref()) {
            self.title = format!("{} {}", self.title, withheld(owner));
            (self.lines, self.bytes, self.redactions) = (0, 0, 0);
        }
        self
    }
}

impl Evidence {
    /// As this reader may see it, if it is visible to one person alone. It keeps its place: those after it are known by their number.
    #[must_use]
    pub fn redacted_for(mut self, visible_to: Option<&str>, reader: &Principal) -> Self {
        if let Some(owner) = reader.kept_by(visible_to) {
            self.title = format!("{} {}", self.title, withheld(owner));
            self.text.clear();
            self.red.clear();
        }
        self
    }
}

impl Run {
    /// As this reader may see it, if its turn is visible to one person alone: which tools it called, and nothing of what went to
    /// them or came from them.
    #[must_use]
    pub fn redacted_for(mut self, visible_to: Option<&str>, reader: &Principal) -> Self {
        if let Some(owner) = reader.kept_by(visible_to) {
            for call in &mut self.tool_calls {
                (call.arguments, call.result) = (withheld(owner), withheld(owner));
            }
            self.detail = self.detail.map(|_| withheld(owner));
        }
        self
    }
}

impl Approval {
    /// As this reader may see it.
    #[must_use]
    pub fn redacted_for(mut self, reader: &Principal) -> Self {
        if let Some(owner) = reader.kept_by(self.visible_to.as_deref()) {
            self.arguments = json!({ "withheld": withheld(owner) });
            self.note = self.note.map(|_| withheld(owner));
        }
        if let Some(owner) = reader.kept_by(self.result_visible_to.as_deref()) {
            self.error = self.error.map(|_| withheld(owner));
        }
        self
    }
}

#[cfg(test)]
mod unit {
    use super::Principal;

    #[test]
    fn what_is_somebodys_own_is_read_by_nobody_else() {
        let (alice, bob) = (Principal::named("oidc:alice"), Principal::named("oidc:bob"));
        for reader in [&alice, &bob, &Principal::nobody()] {
            assert!(reader.may_read(None));
            assert_eq!(reader.may_read(Some("oidc:alice")), *reader == alice, "{reader:?}");
        }
    }
}
