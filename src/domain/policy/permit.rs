//! Decision about one call. Only the policy creates a [`Permit`], and every call requires one.

use super::Target;
use crate::domain::{Access, Approval, ApprovalState, Caller, call_hash};
use serde_json::Value;

/// Decision of the policy.
#[derive(Debug)]
pub enum AccessDecision {
    /// The call may be made.
    Allowed(Permit),
    /// The call may be made after a person approves it.
    NeedsApproval(UnapprovedCall),
    /// The call may not be made.
    Denied(Denied),
}

/// Permission for one call: server, tool, arguments and caller.
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

    /// Name of the MCP server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Name of the tool on its server.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// Access that the policy assumed for the tool.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Hash of the tool's definition that the policy evaluated.
    #[must_use]
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// The arguments to send.
    #[must_use]
    pub fn arguments(&self) -> &Value {
        &self.arguments
    }

    /// The caller; `None` for calls of the service itself or of an investigation.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Consumes the permit and returns the arguments to send.
    #[must_use]
    pub fn into_arguments(self) -> Value {
        self.arguments
    }

    /// Whether server, tool, arguments and tool definition equal those shown for approval.
    #[must_use]
    pub fn is_shown(&self, approval: &Approval) -> bool {
        call_hash(&self.server, &self.tool, &self.arguments) == approval.hash
            && approval.is_of(&self.definition)
    }
}

/// A call that waits for approval.
#[derive(Debug)]
pub struct UnapprovedCall(Permit);

impl UnapprovedCall {
    pub(super) fn new(permit: Permit) -> Self {
        Self(permit)
    }

    /// The arguments to show, and to send after approval.
    #[must_use]
    pub fn arguments(&self) -> &Value {
        self.0.arguments()
    }

    /// Hash of the tool's definition that the policy evaluated.
    #[must_use]
    pub fn definition(&self) -> &str {
        self.0.definition()
    }

    /// Returns the permit if this call was approved and its state is `Running`.
    #[must_use]
    pub fn approved(self, approval: &Approval) -> Option<Permit> {
        (approval.state == ApprovalState::Running && self.0.is_shown(approval)).then_some(self.0)
    }
}

/// A denied call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tool policy does not allow this call: {reason} ({rule})")]
pub struct Denied {
    /// Reason for the denial.
    pub reason: String,
    /// `rule N`, or `default`.
    pub rule: String,
}
