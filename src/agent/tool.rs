//! What the loop can call: built-in tools and those of MCP servers.

use crate::domain::ToolSpec;
use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What came of a call, in text for the model. Never fenced or capped here: the loop does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolAnswer {
    /// The whole result.
    Ok(String),
    /// There is no result; the text says why, in the program's own words: shown as it stands, not kept.
    Note(String),
    /// It failed; the text says what went wrong and what to try.
    Failed(String),
    /// The finishing tool accepted its arguments: the run ends.
    Finish(Value),
    /// The finishing tool could end the run with this, but asks for a better one first; the text says what is wrong.
    Revise(Value, String),
}

/// A tool of the agent.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Name, description, schema and access.
    fn spec(&self) -> &ToolSpec;

    /// Whether the result is our own cut of stored evidence, which is not stored again.
    fn reads_evidence(&self) -> bool {
        false
    }

    /// Whether the result is of runbooks or earlier incidents: it tells what is known, and nothing of what is looked at now.
    fn is_knowledge(&self) -> bool {
        false
    }

    /// Whether the arguments go to somebody else, who may be told neither secrets nor evidence by the page.
    fn tells_others(&self) -> bool {
        false
    }

    /// The MCP server, where calls go with the own token of whoever asks.
    fn passthrough(&self) -> Option<&str> {
        None
    }

    /// Calls it with arguments that fit its schema. Ends soon after `cancel` fires; dropping the future cancels too.
    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer;
}
