//! Visibility of private content. A tool result obtained with a person's own token is readable only by that person,
//! regardless of other readers' roles. Other readers see that the content exists and who owns it.

use super::{Approval, Caller, ConversationMessage, Evidence, EvidenceSummary, Run};
use serde_json::json;
use std::sync::Arc;

/// The reader of some content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Option<Arc<str>>);

impl Principal {
    /// A reader who sees only public content.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }

    /// The reader with this caller name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Some(name.into()))
    }

    /// Whether the reader may read content of this owner. Content without an owner is public.
    #[must_use]
    pub fn may_read(&self, visible_to: Option<&str>) -> bool {
        visible_to.is_none_or(|owner| self.0.as_deref() == Some(owner))
    }

    /// Returns the owner if the reader may not read the owner's content.
    fn kept_by<'a>(&self, visible_to: Option<&'a str>) -> Option<&'a str> {
        visible_to.filter(|_| !self.may_read(visible_to))
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self::named(&caller.name)
    }
}

/// Placeholder for content that the reader may not see.
#[must_use]
pub fn withheld(owner: &str) -> String {
    format!("(visible to {owner} alone)")
}

impl ConversationMessage {
    /// Removes content that this reader may not see.
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
    /// Removes content that this reader may not see.
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
    /// Removes content that this reader may not see. Keeps the piece itself, because later pieces are numbered by position.
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
    /// Removes content that this reader may not see: arguments and results of tool calls, and details. Keeps the names of the
    /// tools.
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
    /// Removes content that this reader may not see.
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
