//! Approval of a tool call that changes something: who requested it, what a person decided, and its result.

use super::tool::sorted;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for a person.
    Pending,
    /// Allowed; it is carried out when nothing else of the conversation waits.
    Approved,
    /// Not allowed.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It is being carried out.
    Running,
    /// It was carried out.
    Done,
    /// It was allowed and went wrong; `error` says how, and whether it is known to have been carried out.
    Failed,
    /// It was allowed, and not carried out: its tool is not any more what was asked for.
    Changed,
}

impl ApprovalState {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a stored state. Returns `Failed` for an unknown name, so that the call is never executed.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Failed)
    }
}

/// A call of a tool that changes something, asked for in a conversation. What is sent is exactly what stands here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Identifies it.
    pub id: Uuid,
    /// Where it was asked for.
    pub conversation_id: Uuid,
    /// The run that asked.
    pub run: Uuid,
    /// Whose message it was that the run answered.
    pub asked_by: String,
    /// The MCP server.
    pub server: String,
    /// The tool, as the model knows it.
    pub tool: String,
    /// The tool, as its server knows it.
    pub server_tool: String,
    /// All arguments.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// SHA-256 over server, tool and arguments.
    pub hash: String,
    /// SHA-256 over the definition of the tool and its server, as they were when it was asked for: only such a tool is called.
    pub definition: Option<String>,
    /// How far it is.
    pub state: ApprovalState,
    /// When the model asked.
    pub asked_at: DateTime<Utc>,
    /// Until when it can be decided.
    pub expires_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// What they said about it.
    pub note: Option<String>,
    /// The run that carried it out, or went on without it.
    pub told_in: Option<Uuid>,
    /// Label of the result among the conversation's evidence, once it is done.
    pub evidence: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Who alone may see what is sent: they asked with their own access. Everybody may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_to: Option<String>,
    /// Who alone may see what came of it.
    #[serde(skip)]
    pub result_visible_to: Option<String>,
}

impl Approval {
    /// Whether the approval was requested for this definition of the tool. True for old approvals, which stored no definition.
    #[must_use]
    pub fn is_of(&self, definition: &str) -> bool {
        self.definition.as_ref().is_none_or(|asked| asked == definition)
    }
}

/// Hash that identifies a call by server, tool and arguments, independent of key order. SHA-256 in hexadecimal.
#[must_use]
pub fn call_hash(server: &str, server_tool: &str, arguments: &Value) -> String {
    let call = json!([server, server_tool, sorted(arguments.clone())]);
    hex::encode(Sha256::digest(call.to_string().as_bytes()))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_call_has_one_hash_whatever_the_order_of_its_keys() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = call_hash("lab", "restart", &read(r#"{"a": {"x": 1, "y": [2]}, "b": "c"}"#));
        assert_eq!(one, call_hash("lab", "restart", &read(r#"{"b": "c", "a": {"y": [2], "x": 1}}"#)));
        assert_ne!(one, call_hash("other", "restart", &read(r#"{"b": "c", "a": {"y": [2], "x": 1}}"#)));
        assert_ne!(one, call_hash("lab", "restart", &read(r#"{"b": "c", "a": {"y": [2], "x": 2}}"#)));
    }
}
