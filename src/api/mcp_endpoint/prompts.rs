//! The included agents as MCP prompts, for users of other models: how the agents work and what they know.

use super::Endpoint;
use super::resources::incident_uri;
use crate::domain::{Caller, Role as CallerRole};
use rmcp::ErrorData;
use rmcp::model::{
    GetPromptRequestParams, GetPromptResult, ListPromptsResult, Prompt, PromptArgument, PromptMessage,
    ResourceContents, Role,
};
use serde_json::{Value, json};

/// Maximum length of an argument, in bytes.
const MAX_ARGUMENT: usize = 20_000;
/// Final paragraph of every prompt.
const TOOLS: &str = "Work with the tools of the MCP server `regreen`: `search_incidents` for failures of before, `search_runbooks` for what to do, \
`get_report` for one report with its evidence, and `triage_failure` to have a failed pod investigated. Say of every statement which line or runbook it rests on.";

/// A prompt: name, template of the agent, title, description and its only argument.
struct Shipped {
    name: &'static str,
    template: &'static str,
    title: &'static str,
    description: &'static str,
    argument: Argument,
}

struct Argument {
    name: &'static str,
    description: &'static str,
}

const SHIPPED: [Shipped; 3] = [
    Shipped {
        name: "troubleshooter",
        template: "agent-troubleshooter",
        title: "Find out what is wrong",
        description: "Finds out what is wrong in the cluster and the pipelines.",
        argument: Argument { name: "problem", description: "what fails, in words or lines of a log" },
    },
    Shipped {
        name: "failure-analyst",
        template: "agent-failure-analyst",
        title: "Explain an incident",
        description: "Explains a failure that was reported: why the cause is the cause, and what to do. Brings the incident along.",
        argument: Argument { name: "incident", description: "id of the incident" },
    },
    Shipped {
        name: "explainer",
        template: "agent-explainer",
        title: "Explain from runbooks",
        description: "Explains from runbooks, past incidents and stored evidence alone; asks no other system.",
        argument: Argument { name: "question", description: "what to explain" },
    },
];

fn denied(caller: &Caller) -> Option<ErrorData> {
    let message = format!("a viewer may use prompts; {} is a reporter", caller.name);
    (caller.role < CallerRole::Viewer).then(|| ErrorData::invalid_params(message, None))
}

/// Lists the prompts available to a caller.
pub(super) fn list(caller: &Caller) -> ListPromptsResult {
    let prompt = |shipped: &Shipped| {
        let Argument { name, description } = shipped.argument;
        let argument = PromptArgument::new(name).with_description(description).with_required(true);
        Prompt::new(shipped.name, Some(shipped.description), Some(vec![argument])).with_title(shipped.title)
    };
    let all = if denied(caller).is_none() { &SHIPPED[..] } else { &[] };
    ListPromptsResult::with_all_items(all.iter().map(prompt).collect())
}

impl Endpoint {
    /// Returns one prompt with its argument.
    pub(super) async fn prompt(
        &self,
        caller: &Caller,
        asked: GetPromptRequestParams,
    ) -> Result<GetPromptResult, ErrorData> {
        if let Some(denied) = denied(caller) {
            return Err(denied);
        }
        let bad = |message: String| ErrorData::invalid_params(message, None);
        let Some(shipped) = SHIPPED.iter().find(|shipped| shipped.name == asked.name) else {
            let names: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.name).collect();
            let name: String = asked.name.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(bad(format!("there is no prompt `{name}`; there is {}", names.join(", "))));
        };
        let Argument { name, description } = shipped.argument;
        let arguments = asked.arguments.unwrap_or_default();
        if let Some(unknown) = arguments.keys().find(|known| *known != name) {
            let unknown: String = unknown.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(bad(format!("`{unknown}` is no argument of this prompt; it takes `{name}`")));
        }
        let value = arguments.get(name).and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if value.is_empty() || value.len() > MAX_ARGUMENT {
            return Err(bad(format!("`{name}` is required, in at most {MAX_ARGUMENT} bytes: {description}")));
        }
        let values = json!({ "name": shipped.name, "description": shipped.description });
        let instructions = self.app.prompts.render(shipped.template, values).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "a prompt cannot be rendered");
            ErrorData::internal_error("the prompt cannot be rendered; the log has more", None)
        })?;
        let instructions = format!("{}\n\n{TOOLS}", instructions.trim());
        let said = |text: String| PromptMessage::new_text(Role::User, text);
        let mut messages = vec![said(instructions)];
        if name == "incident" {
            let uri = incident_uri(value);
            let ResourceContents::TextResourceContents { text, mime_type, .. } =
                self.resource(caller, &uri).await?
            else {
                return Err(bad(format!("there is no incident `{}`", value.escape_debug())));
            };
            messages.push(PromptMessage::new_resource(
                Role::User,
                uri,
                mime_type,
                Some(text),
                None,
                None,
                None,
            ));
            messages.push(said(
                "Explain this incident: why the cause is the cause, and what to do first.".to_owned(),
            ));
        } else {
            messages.push(said(value.to_owned()));
        }
        Ok(GetPromptResult::new(messages).with_description(shipped.description))
    }
}
