//! A server's tool as described to a model, and as called by the agent under the tool policy.

use super::call::{CallError, CallResult};
use super::listed::ListedTool;
use super::server::Server;
use super::{Registry, ToolCaller};
use crate::agent::{Tool, ToolAnswer};
use crate::domain::policy::{AccessDecision, Decision, PolicyEvaluation, Target};
use crate::domain::{Access, ToolSpec};
use crate::evidence::untrusted::hidden;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Maximum length of a description for a model, in characters.
const MAX_DESCRIPTION: usize = 1_000;

/// A tool of an MCP server.
pub struct McpTool {
    server: Arc<Server>,
    listed: ListedTool,
    spec: ToolSpec,
}

impl McpTool {
    pub(super) fn new(server: Arc<Server>, listed: &ListedTool, name: String) -> Self {
        // Remove invisible characters before a model reads the schema.
        let schema = listed.schema.to_string();
        let mut schema: Value = serde_json::from_str(&hidden::removed(&schema)).unwrap_or_default();
        if !schema.is_object() || schema.get("type").is_none() {
            schema = json!({"type": "object"});
        }
        // Some model APIs reject an object schema without properties.
        if schema.get("properties").is_none() {
            schema["properties"] = json!({});
        }
        let description = hidden::removed(&listed.description).chars().take(MAX_DESCRIPTION).collect();
        let spec = ToolSpec { name, description, input_schema: Arc::new(schema), access: listed.access };
        Self { server, listed: listed.clone(), spec }
    }

    /// Returns the server's name.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server.config.name
    }

    /// Returns the server's own name for the tool.
    #[must_use]
    pub fn own_name(&self) -> &str {
        &self.listed.name
    }

    /// Returns the schema of the arguments as the server listed it.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.listed.schema
    }

    /// Returns whether the tool reads or writes.
    #[must_use]
    pub fn access(&self) -> Access {
        self.listed.access
    }

    /// Returns the tool as described to a model without policy rules.
    #[must_use]
    pub fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    pub(super) fn target(&self) -> Target<'_> {
        Target {
            server: self.server(),
            tool: self.own_name(),
            access: self.access(),
            schema: Some(&self.listed.schema),
            reads: self.server.reads(),
            definition: &self.listed.hash,
            is_held: self.listed.is_held,
        }
    }

    /// Returns the tool as described to a model under the policy, without pinned arguments.
    fn offered(&self, standing: &PolicyEvaluation<'_>) -> ToolSpec {
        let (input_schema, words) = standing.offered(&self.spec.input_schema);
        let description = format!("{}{words}", self.spec.description.trim_end()).trim_start().to_owned();
        ToolSpec { description, input_schema, ..self.spec.clone() }
    }
}

/// A tool that the caller may call.
pub struct PermittedTool {
    registry: Registry,
    caller: ToolCaller,
    tool: Arc<McpTool>,
    spec: ToolSpec,
    waits: bool,
}

impl PermittedTool {
    /// Returns the tool unless the policy denies it to the caller.
    pub(super) fn new(registry: &Registry, caller: &ToolCaller, tool: &Arc<McpTool>) -> Option<Self> {
        let standing = registry.policy().evaluate(&caller.context, &tool.target());
        let waits = match standing.decision {
            Decision::Allow => false,
            Decision::Approve => true,
            Decision::Deny => return None,
        };
        let spec = tool.offered(&standing);
        let (registry, caller, tool) = (registry.clone(), caller.clone(), Arc::clone(tool));
        Some(Self { registry, caller, tool, spec, waits })
    }

    /// Returns whether each call requires an approval.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Returns the tool.
    #[must_use]
    pub fn tool(&self) -> &McpTool {
        &self.tool
    }

    /// Evaluates the policy for a call with these arguments, against the current definition of the tool.
    ///
    /// # Errors
    /// The tool no longer exists.
    pub fn authorize(&self, arguments: Value) -> Result<AccessDecision, CallError> {
        self.registry.authorize(&self.caller, self.tool.server(), self.tool.own_name(), arguments)
    }
}

#[async_trait]
impl Tool for PermittedTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn tells_others(&self) -> bool {
        true
    }

    fn passthrough(&self) -> Option<&str> {
        self.tool.server.config.passthrough.then(|| self.tool.server())
    }

    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer {
        let permit = match self.authorize(arguments) {
            Ok(AccessDecision::Allowed(permit)) => permit,
            Err(error) => return ToolAnswer::Failed(error.to_string()),
            Ok(AccessDecision::NeedsApproval(_)) => {
                return ToolAnswer::Failed("not done: such a call needs a person's approval".to_owned());
            }
            Ok(AccessDecision::Denied(denied)) => {
                tracing::info!(
                    server = self.tool.server(),
                    tool = self.tool.own_name(),
                    rule = denied.rule,
                    "the tool policy refused a call"
                );
                return ToolAnswer::Failed(denied.to_string());
            }
        };
        match self.registry.call(permit, &self.caller.recorder, cancel).await {
            Ok(CallResult { text, is_error: false, .. }) => ToolAnswer::Ok(text),
            Ok(CallResult { text, .. }) => ToolAnswer::Failed(text),
            Err(error) => ToolAnswer::Failed(error.to_string()),
        }
    }
}
