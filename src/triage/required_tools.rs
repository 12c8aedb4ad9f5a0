//! Tools that triage requires, checked against the settings, and read-only test calls for checking a deployment. Nothing here
//! changes anything.

use super::arguments::{
    Argument, CONTAINER, NAMESPACE, Names, OWNER, POD, PREVIOUS, PROJECT, REPO, TAIL, known,
};
use super::calls::{Fetched, ServiceCalls};
use super::listing;
use super::tracker::TrackerClient;
use super::tracker_tools::{self, Operation};
use crate::audit::Recorder;
use crate::config::{Cluster, Config, Tracker};
use crate::domain::policy::{AccessDecision, CallContext};
use crate::domain::{Access, Actor};
use crate::mcp::{McpTool, Registry};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Common names of the tool that lists a namespace's pods.
const PODS_TOOLS: [&str; 3] = ["pods_list_in_namespace", "pods_list", "list_pods"];

/// A tool named by a setting or detected by its function.
#[derive(Debug)]
pub struct RequiredTool<'a> {
    /// Name of the setting.
    pub setting: &'static str,
    /// The MCP server of the tool.
    pub server: &'a str,
    /// Name of the tool, or its possible names if it is missing.
    pub tool: String,
    /// The effect of the missing tool, if triage works without it.
    pub loss: Option<&'static str>,
    /// Problems with the tool's arguments. `None` if the tool is missing.
    pub misfits: Option<Vec<String>>,
}

/// Returns the tools required from the cluster's and the tracker's servers. Omits servers that are not connected.
#[must_use]
pub fn needs<'a>(config: &'a Config, mcp: &Registry) -> Vec<RequiredTool<'a>> {
    let (cluster, server) = (&config.cluster, config.cluster.server.as_str());
    let of = |setting, tool: &str, loss, has_to: &[Names], may: &[Names]| {
        let found = mcp.find(server, tool);
        let misfits = found.map(|found| misfits(found.schema(), has_to, may));
        RequiredTool { setting, server, tool: tool.to_owned(), loss, misfits }
    };
    let mut needs = vec![
        of("cluster.log_tool", &cluster.log_tool, None, &[NAMESPACE, POD], &[TAIL, CONTAINER, PREVIOUS]),
        of(
            "cluster.pod_tool",
            &cluster.pod_tool,
            Some("investigations lack the state of the pod"),
            &[NAMESPACE, POD],
            &[],
        ),
        of(
            "cluster.events_tool",
            &cluster.events_tool,
            Some("investigations lack the pod's events"),
            &[NAMESPACE],
            &[],
        ),
    ];
    let trackers = config.tracker.iter();
    needs.extend(
        trackers
            .flat_map(|tracker| FILING.map(|(operation, loss)| of_tracker(tracker, mcp, operation, loss))),
    );
    needs.retain(|need| mcp.is_connected(need.server));
    needs
}

/// Required tracker operations, and the effect if one is missing.
const FILING: [(Operation, Option<&str>); 3] = [
    (Operation::Create, None),
    (
        Operation::List,
        Some(
            "a report whose issue may have been filed cannot look for it, and fails rather than to file a second one",
        ),
    ),
    (Operation::Comment, Some("issues of causes that come again get no comments")),
];

fn of_tracker<'a>(
    tracker: &'a Tracker,
    mcp: &Registry,
    operation: Operation,
    loss: Option<&'static str>,
) -> RequiredTool<'a> {
    let found = tracker_tools::tool(mcp, tracker, operation);
    let (setting, server) = (operation.setting(), tracker.server.as_str());
    match found {
        None => RequiredTool {
            setting,
            server,
            tool: tracker_tools::named(tracker, operation),
            loss,
            misfits: None,
        },
        Some(tool) => {
            let mut misfits = tracker_tools::misfits(tracker, operation, tool.schema());
            if misfits.is_empty() {
                misfits.extend(moved(tracker, mcp, operation, &tool));
            }
            RequiredTool { setting, server, tool: tool.own_name().to_owned(), loss, misfits: Some(misfits) }
        }
    }
}

/// Describes how the policy changes the repository of a call, if it does. Denied calls are not covered here.
fn moved(tracker: &Tracker, mcp: &Registry, operation: Operation, tool: &Arc<McpTool>) -> Option<String> {
    let given =
        tracker_tools::arguments(tracker, operation, tool.schema(), &tracker_tools::sample(operation));
    let AccessDecision::Allowed(permit) = mcp.authorize_dry_run(&CallContext::service(), tool, given.clone())
    else {
        return None;
    };
    let names = [OWNER, REPO, PROJECT].into_iter().filter_map(|names| known(tool.schema(), names));
    names.into_iter().find_map(|name| {
        let (set, sent) = (given.get(name)?, permit.arguments().get(name)?);
        (set != sent).then(|| {
            format!("a rule of `policy.file` sets its `{name}` to {sent}, and the settings say {set}")
        })
    })
}

/// Describes the problems with a tool's arguments.
fn misfits(schema: &Value, has_to: &[Names], may: &[Names]) -> Vec<String> {
    // A schema without properties accepts any argument.
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let lacks = has_to.iter().filter(|names| known(schema, names).is_none());
    let lacks = lacks.map(|names| format!("it takes no `{}`", names.join("` or `")));
    let given: Vec<&str> = has_to.iter().chain(may).filter_map(|names| known(schema, names)).collect();
    let wants = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let wants = wants.filter(|name| properties.contains_key(*name) && !given.contains(name));
    lacks.chain(wants.map(|name| format!("it wants `{name}`, which nobody gives it"))).collect()
}

/// Lists the pods of a namespace. Returns `None` if the server has no read-only tool for it.
pub async fn pods(mcp: &Registry, cluster: &Cluster, namespace: &str) -> Option<Fetched> {
    let tool = PODS_TOOLS.iter().find(|tool| reads(mcp, &cluster.server, tool))?;
    Some(ask(mcp, &cluster.server, tool, vec![(NAMESPACE, json!(namespace))]).await)
}

/// Fetches the events of a namespace. Returns `None` if the tool is not read-only.
pub async fn events(mcp: &Registry, cluster: &Cluster, namespace: &str) -> Option<Fetched> {
    reads(mcp, &cluster.server, &cluster.events_tool).then_some(())?;
    Some(ask(mcp, &cluster.server, &cluster.events_tool, vec![(NAMESPACE, json!(namespace))]).await)
}

/// Fetches the last line of a pod's log. Returns `None` if the tool is not read-only.
pub async fn log(mcp: &Registry, cluster: &Cluster, namespace: &str, pod: &str) -> Option<Fetched> {
    reads(mcp, &cluster.server, &cluster.log_tool).then_some(())?;
    let wanted = vec![(NAMESPACE, json!(namespace)), (POD, json!(pod)), (TAIL, json!(1))];
    Some(ask(mcp, &cluster.server, &cluster.log_tool, wanted).await)
}

fn reads(mcp: &Registry, server: &str, tool: &str) -> bool {
    mcp.find(server, tool).is_some_and(|tool| tool.access() == Access::Read)
}

async fn ask(mcp: &Registry, server: &str, tool: &str, wanted: Vec<Argument<'_>>) -> Fetched {
    ServiceCalls::new(mcp, &looking(), &CancellationToken::new()).fetch(server, tool, wanted).await
}

/// Creates a recorder whose events are not stored.
fn looking() -> Recorder {
    Recorder::new(Actor::service(""))
}

/// Fetches one issue of the repository and checks that triage can parse it. Returns `None` if the tool is not read-only.
pub async fn issues(mcp: &Registry, tracker: &Tracker) -> Option<Result<(), String>> {
    let tool = tracker_tools::tool(mcp, tracker, Operation::List)?;
    (tool.access() == Access::Read).then_some(())?;
    let cancel = CancellationToken::new();
    let recorder = looking();
    let client = TrackerClient::new(mcp, tracker, &recorder, &cancel);
    let listed = client.newest().await;
    let page = match listed {
        Ok(page) => page,
        Err(error) => return Some(Err(error.to_string())),
    };
    let unread = |why: &str| Some(Err(format!("`{}` {why}", tool.own_name())));
    match page.issues.first() {
        None if page.is_strange => {
            unread("answers with something that holds no issues as far as can be seen")
        }
        None => Some(Ok(())),
        Some(_) if !page.has_texts() => {
            unread("does not tell the texts of issues, by which they are found again")
        }
        Some(issue) => {
            let located = client.locate(listing::parse_issue(issue)).await;
            Some(located.map(drop).map_err(|error| error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_fits_when_all_that_is_needed_can_be_said_and_nothing_else_has_to_be() {
        let schema = |names: &[&str], required: &[&str]| {
            let properties: Value = names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            json!({"properties": properties, "required": required})
        };
        let log = |schema: &Value| misfits(schema, &[NAMESPACE, POD], &[TAIL]);
        assert!(log(&json!({"type": "object"})).is_empty());
        assert!(log(&schema(&["namespace", "pod_name", "lines"], &["lines"])).is_empty());
        assert_eq!(
            log(&schema(&["namespace", "cluster"], &["cluster"])),
            [
                "it takes no `name` or `pod_name` or `podName` or `pod`",
                "it wants `cluster`, which nobody gives it"
            ]
        );
    }
}
