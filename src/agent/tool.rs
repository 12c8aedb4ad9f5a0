//! Interface of tools: built-in tools and tools of MCP servers.

use crate::domain::ToolSpec;
use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Result of a call, as text for the model. Tools do not enclose or truncate the text; the loop does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolAnswer {
    /// The full result.
    Ok(String),
    /// No result. The text is the program's own explanation: shown unchanged and not stored.
    Note(String),
    /// The call failed. The text describes the problem and what to try.
    Failed(String),
    /// The finishing tool accepted its arguments, which ends the run.
    Finish(Value),
    /// The finishing tool could end the run with these arguments, but first asks for a better version. The text describes the
    /// problem.
    Revise(Value, String),
}

/// A tool that an agent can call.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Name, description, schema and access.
    fn spec(&self) -> &ToolSpec;

    /// Whether the result is a part of stored evidence, which is not stored again.
    fn reads_evidence(&self) -> bool {
        false
    }

    /// Whether the result comes from runbooks or earlier incidents: general knowledge, not evidence of the current failure.
    fn is_knowledge(&self) -> bool {
        false
    }

    /// Whether the arguments are sent to another system, which must not receive secrets or large parts of the evidence.
    fn tells_others(&self) -> bool {
        false
    }

    /// Returns the MCP server if calls use the caller's own token.
    fn passthrough(&self) -> Option<&str> {
        None
    }

    /// Calls the tool with arguments that match its schema. Ends soon after `cancel` fires; dropping the future also cancels
    /// the call.
    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer;
}
