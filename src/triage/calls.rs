//! Tool calls made by the service itself for a report or a deployment check. Calls are subject to the policy and audited.

use super::arguments::{Argument, fitting};
use crate::audit::Recorder;
use crate::domain::policy::{AccessDecision, Permit};
use crate::mcp::{CallError, CallResult, Registry, ToolCaller};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Result of fetching data from the cluster.
pub enum Fetched {
    /// The text as returned by the tool.
    Text(String),
    /// The end of the text, and the reason why it is incomplete.
    Part(String, String),
    /// The text exceeds the size limit. Contains the error text.
    TooLarge(String),
    /// The data is not available. Contains the reason.
    Gap(String),
    /// The server is not reachable. Contains the reason.
    Unreachable(String),
}

/// Makes calls on behalf of one operation.
#[derive(Clone)]
pub(super) struct ServiceCalls<'a> {
    pub(super) mcp: &'a Registry,
    caller: ToolCaller,
    cancel: &'a CancellationToken,
}

impl<'a> ServiceCalls<'a> {
    pub(super) fn new(mcp: &'a Registry, recorder: &Recorder, cancel: &'a CancellationToken) -> Self {
        Self { mcp, caller: ToolCaller::service(recorder), cancel }
    }

    /// Evaluates the policy for a call.
    pub(super) fn authorize(
        &self,
        server: &str,
        tool: &str,
        arguments: Value,
    ) -> Result<AccessDecision, CallError> {
        self.mcp.authorize(&self.caller, server, tool, arguments)
    }

    /// Makes a permitted call.
    pub(super) async fn call(&self, permit: Permit) -> Result<CallResult, CallError> {
        self.mcp.call(permit, &self.caller.recorder, self.cancel.clone()).await
    }

    /// Calls a tool of the cluster's MCP server.
    pub(super) async fn fetch(&self, server: &str, tool: &str, wanted: Vec<Argument<'_>>) -> Fetched {
        let Some(known) = self.mcp.find(server, tool) else {
            return if self.mcp.is_connected(server) {
                Fetched::Gap(format!("the MCP server `{server}` has no tool `{tool}`"))
            } else {
                Fetched::Unreachable(format!("the MCP server `{server}` cannot be reached"))
            };
        };
        let arguments = fitting(known.schema(), &wanted);
        let permit = match self.authorize(server, tool, arguments) {
            Ok(AccessDecision::Allowed(permit)) => permit,
            Ok(AccessDecision::Denied(denied)) => return Fetched::Gap(format!("`{tool}`: {denied}")),
            Ok(AccessDecision::NeedsApproval(_)) => {
                return Fetched::Gap(format!("`{tool}` needs a person's approval"));
            }
            Err(error) => return Fetched::Unreachable(error.to_string()),
        };
        match self.call(permit).await {
            Ok(result) if result.is_error => Fetched::Gap(first_line(&result.text)),
            Ok(result) => Fetched::Text(result.text),
            Err(CallError::Refused { message, .. }) => Fetched::Gap(first_line(&message)),
            Err(error @ CallError::TooLarge { .. }) => Fetched::TooLarge(error.to_string()),
            Err(error) => Fetched::Unreachable(error.to_string()),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("no reason given").chars().take(200).collect()
}
