//! What the policy decided about one call. Only the policy makes a [`Permit`], and a call is made with nothing else.

use super::Target;
use crate::domain::{Access, Approval, ApprovalState, Caller, call_hash};
use serde_json::Value;

/// What may be done.
#[derive(Debug)]
pub enum AccessDecision {
    /// The call may be made.
    Allowed(Permit),
    /// It may be made when a person has approved it.
    NeedsApproval(UnapprovedCall),
    /// It may not be made.
    Denied(Denied),
}

/// A call that may be made, once: where it goes, what is sent, for whom.
#[derive(Debug)]
pub struct Permit {
    server: String,
    tool: String,
    access: Access,
    definition: String,
    arguments: Value,
    caller: Option<Caller>,
}

impl Permit {
    pub(super) fn new(target: &Target<'_>, arguments: Value, caller: Option<Caller>) -> Self {
        let (server, tool) = (target.server.to_owned(), target.tool.to_owned());
        let definition = target.definition.to_owned();
        Self { server, tool, access: target.access, definition, arguments, caller }
    }

    /// The MCP server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The tool, as its server knows it.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// What the tool was taken for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Hash of the tool's definition that was looked at.
    #[must_use]
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// The arguments as they are sent.
    #[must_use]
    pub fn arguments(&self) -> &Value {
        &self.arguments
    }

    /// For whom it is made; nobody in particular when the service itself or an investigation asks.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The arguments, to be sent.
    #[must_use]
    pub fn into_arguments(self) -> Value {
        self.arguments
    }

    /// Whether it is the call that somebody was shown, to the last argument, of the tool as it was then.
    #[must_use]
    pub fn is_shown(&self, approval: &Approval) -> bool {
        call_hash(&self.server, &self.tool, &self.arguments) == approval.hash
            && approval.is_of(&self.definition)
    }
}

/// A call that waits for a person.
#[derive(Debug)]
pub struct UnapprovedCall(Permit);

impl UnapprovedCall {
    pub(super) fn new(permit: Permit) -> Self {
        Self(permit)
    }

    /// The arguments as they are to be shown, and sent when they are approved.
    #[must_use]
    pub fn arguments(&self) -> &Value {
        self.0.arguments()
    }

    /// Hash of the tool's definition that was looked at.
    #[must_use]
    pub fn definition(&self) -> &str {
        self.0.definition()
    }

    /// The permit, if this very call was approved and is now its turn's to carry out.
    #[must_use]
    pub fn approved(self, approval: &Approval) -> Option<Permit> {
        (approval.state == ApprovalState::Running && self.0.is_shown(approval)).then_some(self.0)
    }
}

/// A call that may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tool policy does not allow this call: {reason} ({rule})")]
pub struct Denied {
    /// Why.
    pub reason: String,
    /// `rule N`, or `default`.
    pub rule: String,
}
