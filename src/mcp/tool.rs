//! A server's tool as the agent calls it.

use super::call::{CallResult, call};
use super::server::{Listed, Server};
use crate::agent::{Tool, ToolAnswer};
use crate::domain::ToolSpec;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Longest description a model is shown.
const MAX_DESCRIPTION: usize = 1_000;

/// A tool of an MCP server.
pub struct McpTool {
    server: Arc<Server>,
    listed: Listed,
    spec: ToolSpec,
}

impl McpTool {
    pub(super) fn new(server: Arc<Server>, listed: &Listed, name: String) -> Self {
        let mut schema = listed.schema.clone();
        if !schema.is_object() || schema.get("type").is_none() {
            schema = json!({"type": "object"});
        }
        // Some model APIs refuse an object schema without properties.
        if schema.get("properties").is_none() {
            schema["properties"] = json!({});
        }
        let description = listed.description.chars().take(MAX_DESCRIPTION).collect();
        let spec = ToolSpec { name, description, input_schema: schema, access: listed.access };
        Self { server, listed: listed.clone(), spec }
    }

    /// The server's name.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server.config.name
    }

    /// The server's own name for the tool.
    #[must_use]
    pub fn own_name(&self) -> &str {
        &self.listed.name
    }

    /// Schema of the arguments as the server gave it.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.listed.schema
    }
}

#[async_trait]
impl Tool for McpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer {
        match call(&self.server, &self.listed, arguments, &cancel).await {
            Ok(CallResult { text, is_error: false, .. }) => ToolAnswer::Ok(text),
            Ok(CallResult { text, .. }) => ToolAnswer::Failed(text),
            Err(error) => ToolAnswer::Failed(error.to_string()),
        }
    }
}
