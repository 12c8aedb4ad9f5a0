//! `policy`: tests the tool policy without a server or a model.

use crate::config::Config;
use crate::domain::policy::{AccessDecision, CallContext, Decision, Origin, Target};
use crate::domain::{Access, Role};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// What can be done with the policy.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Say what is decided about a call, with which arguments it would be made, and which rule is behind it.
    #[command(
        after_help = "Exit code: 0 allow, 3 approve, 4 deny; 1 when the settings are wrong, 2 when the arguments are."
    )]
    Test(Box<Test>),
}

/// Arguments of `policy test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The MCP server, by its name in the settings; `regreen` for the own tools.
    #[arg(long)]
    server: String,
    /// The tool, by its server's name for it.
    #[arg(long)]
    tool: String,
    /// The call's arguments, a JSON object. What the tool takes is its server's to say, so that here any argument is known.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = arguments)]
    args: Value,
    /// Role of whoever asks: reporter, viewer, operator, admin. Operator when left out; nobody asks in triage and service.
    #[arg(long, value_parser = super::role())]
    role: Option<Role>,
    /// The agent that asks.
    #[arg(long)]
    agent: Option<String>,
    /// Where it is asked for: chat, triage, page, mcp, service.
    #[arg(long, default_value = "chat", value_parser = place)]
    place: Origin,
    /// The namespace of the report in triage, or the one that whoever asks is bound to.
    #[arg(long)]
    namespace: Option<String>,
    /// What the tool is taken for: read or write. Write when left out.
    #[arg(long, value_parser = access)]
    access: Option<Access>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn arguments(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("not a JSON object".to_owned()) }
}

fn place(name: &str) -> Result<Origin, String> {
    Origin::parse(name).ok_or_else(|| format!("one of {}", Origin::NAMES.join(", ")))
}

fn access(name: &str) -> Result<Access, String> {
    match name {
        "read" => Ok(Access::Read),
        "write" => Ok(Access::Write),
        _ => Err("one of read, write".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// Fails only when the JSON cannot be written.
pub(super) fn run(config: &Config, action: Action) -> anyhow::Result<ExitCode> {
    let Action::Test(test) = action;
    let nobody = matches!(test.place, Origin::Triage | Origin::Service);
    let role = test.role.or((!nobody).then_some(Role::Operator));
    let asker = CallContext::supposed(test.place, role, test.agent.clone());
    let asker = match &test.namespace {
        Some(namespace) => asker.within(namespace),
        None => asker,
    };
    let access = test.access.unwrap_or(Access::Write);
    let target = Target::new(&test.server, &test.tool, access, None);
    let rule = config.policy.evaluate(&asker, &target).rule_name();
    let reason = config.policy.evaluate(&asker, &target).reason;
    let (decision, reason, arguments) = match config.policy.authorize(&asker, &target, test.args.clone()) {
        AccessDecision::Allowed(permit) => (Decision::Allow, reason, Some(permit.into_arguments())),
        AccessDecision::NeedsApproval(waiting) => {
            (Decision::Approve, reason, Some(waiting.arguments().clone()))
        }
        AccessDecision::Denied(denied) => (Decision::Deny, denied.reason, None),
    };
    let file = config.effective.iter().find(|setting| setting.key == "policy.file");
    let file = file.and_then(|setting| setting.value.clone()).filter(|_| rule != "default");
    let told = json!({
        "decision": decision, "server": test.server, "tool": test.tool, "place": test.place, "role": role,
        "agent": test.agent, "access": access, "access_assumed": test.access.is_none(),
        "rule": rule, "file": file, "reason": reason, "arguments": arguments,
    });
    if test.json {
        outln!("{}", serde_json::to_string_pretty(&told).context("the decision")?);
    } else {
        print(&test, role, &told);
    }
    Ok(ExitCode::from(match decision {
        Decision::Allow => 0,
        Decision::Approve => 3,
        Decision::Deny => 4,
    }))
}

fn print(test: &Test, role: Option<Role>, told: &Value) {
    let said = |field: &str| told[field].as_str().unwrap_or_default();
    let assumed =
        if test.access.is_none() { " (not known, so taken as one that changes something)" } else { "" };
    let who = role.map_or("nobody in particular", Role::as_str);
    let agent = test.agent.as_ref().map_or_else(String::new, |agent| format!(", agent {agent}"));
    let file = told["file"].as_str().map_or_else(String::new, |file| format!(" of {file}"));
    outln!("{}", said("decision"));
    outln!("  call       {} {}, {}{assumed}", test.server, test.tool, said("access"));
    outln!("  asked for  in {}, by {who}{agent}", said("place"));
    outln!("  rule       {}{file}", said("rule"));
    outln!("  reason     {}", said("reason"));
    if !told["arguments"].is_null() {
        outln!("  arguments  {}", told["arguments"]);
    }
}
