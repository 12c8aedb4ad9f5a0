//! Calls of tools by the service itself, for one report or one look at a deployment: the policy is asked, the calls go on record.

use super::arguments::{Argument, fitting};
use crate::audit::Recorder;
use crate::domain::policy::{AccessDecision, Permit};
use crate::mcp::{CallError, CallResult, Registry, ToolCaller};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What came of asking the cluster for something.
pub enum Fetched {
    /// It, as the tool says it.
    Text(String),
    /// The end of it, and why not all.
    Part(String, String),
    /// It is larger than is taken, in words.
    TooLarge(String),
    /// It cannot be had, and why.
    Gap(String),
    /// Its server does not answer.
    Unreachable(String),
}

/// The servers, and the piece of work that calls them.
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

    /// What the policy says of a call.
    pub(super) fn authorize(
        &self,
        server: &str,
        tool: &str,
        arguments: Value,
    ) -> Result<AccessDecision, CallError> {
        self.mcp.authorize(&self.caller, server, tool, arguments)
    }

    /// Makes a call that the policy permits.
    pub(super) async fn call(&self, permit: Permit) -> Result<CallResult, CallError> {
        self.mcp.call(permit, &self.caller.recorder, self.cancel.clone()).await
    }

    /// Asks a tool of the cluster's server.
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
