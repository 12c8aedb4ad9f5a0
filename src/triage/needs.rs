//! What triage needs of the tools that the settings name, and the same tools asked for little: for whoever looks at a
//! deployment before a failure does. Nothing here changes anything.

use super::arguments::{
    Argument, BODY, COMMENT, CONTAINER, ISSUE, NAMESPACE, Names, OWNER, PAGE, PAGE_SIZE, POD, PREVIOUS, REPO,
    STATE, TAIL, TITLE,
};
use super::collect::{Fetched, fetch};
use super::tracker;
use crate::config::{Cluster, Config, Tracker};
use crate::domain::Access;
use crate::mcp::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Names that servers of the field give to the tool that lists the pods of a namespace.
const PODS_TOOLS: [&str; 3] = ["pods_list_in_namespace", "pods_list", "list_pods"];

/// A tool that a setting names.
#[derive(Debug)]
pub struct Need<'a> {
    /// The setting.
    pub setting: &'static str,
    /// Its server.
    pub server: &'a str,
    /// Its name there.
    pub tool: &'a str,
    /// What is lost without it, when triage goes on without it.
    pub loss: Option<&'static str>,
    /// Arguments that it has to take.
    has_to: &'static [Names],
    /// Arguments that it may take.
    may: &'static [Names],
}

/// The tools of the cluster's server, then those of the tracker's.
#[must_use]
pub fn needs(config: &Config) -> Vec<Need<'_>> {
    let (cluster, server) = (&config.cluster, config.cluster.server.as_str());
    let mut needs = vec![
        Need {
            setting: "cluster.log_tool",
            server,
            tool: &cluster.log_tool,
            loss: None,
            has_to: &[NAMESPACE, POD],
            may: &[TAIL, CONTAINER, PREVIOUS],
        },
        Need {
            setting: "cluster.pod_tool",
            server,
            tool: &cluster.pod_tool,
            loss: Some("investigations lack the state of the pod"),
            has_to: &[NAMESPACE, POD],
            may: &[],
        },
        Need {
            setting: "cluster.events_tool",
            server,
            tool: &cluster.events_tool,
            loss: Some("investigations lack the pod's events"),
            has_to: &[NAMESPACE],
            may: &[],
        },
    ];
    needs.retain(|_| config.mcp.iter().any(|known| known.name == server));
    needs.extend(config.tracker.iter().flat_map(of_tracker));
    needs
}

fn of_tracker(tracker: &Tracker) -> [Need<'_>; 3] {
    let server = tracker.server.as_str();
    [
        Need {
            setting: "tracker.create_tool",
            server,
            tool: &tracker.create_tool,
            loss: None,
            has_to: &[OWNER, REPO, TITLE, BODY],
            may: &[],
        },
        Need {
            setting: "tracker.list_tool",
            server,
            tool: &tracker.list_tool,
            loss: Some("a retry cannot look for the issue that it filed, and may file a second one"),
            has_to: &[OWNER, REPO],
            may: &[STATE, PAGE, PAGE_SIZE],
        },
        Need {
            setting: "tracker.comment_tool",
            server,
            tool: &tracker.comment_tool,
            loss: Some("issues of causes that come again get no comments"),
            has_to: &[OWNER, REPO, ISSUE, COMMENT],
            may: &[],
        },
    ]
}

impl Need<'_> {
    /// What does not fit in the schema of the tool's arguments, in words.
    #[must_use]
    pub fn misfits(&self, schema: &Value) -> Vec<String> {
        // Without properties any argument is taken.
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let is_known = |names: &&Names| names.iter().any(|name| known.contains_key(*name));
        let lacks = self.has_to.iter().filter(|names| !is_known(names));
        let lacks = lacks.map(|names| format!("it takes no `{}`", names.join("` or `")));
        let given: Vec<&str> = self
            .has_to
            .iter()
            .chain(self.may)
            .filter_map(|names| names.iter().find(|name| known.contains_key(**name)).copied())
            .collect();
        let wants = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let wants = wants.filter(|name| !given.contains(name));
        lacks.chain(wants.map(|name| format!("it wants `{name}`, which nobody gives it"))).collect()
    }
}

/// Lists the pods of a namespace. `None` when the cluster's server has no tool that does and only reads.
pub async fn pods(mcp: &Registry, cluster: &Cluster, namespace: &str) -> Option<Fetched> {
    let tool = PODS_TOOLS.iter().find(|tool| reads(mcp, &cluster.server, tool))?;
    Some(ask(mcp, (&cluster.server, tool), vec![(NAMESPACE, json!(namespace))]).await)
}

/// Asks for the events of a namespace. `None` when the tool does not only read.
pub async fn events(mcp: &Registry, cluster: &Cluster, namespace: &str) -> Option<Fetched> {
    reads(mcp, &cluster.server, &cluster.events_tool).then_some(())?;
    Some(ask(mcp, (&cluster.server, &cluster.events_tool), vec![(NAMESPACE, json!(namespace))]).await)
}

/// Asks for the last line of a pod's log. `None` when the tool does not only read.
pub async fn log(mcp: &Registry, cluster: &Cluster, (namespace, pod): (&str, &str)) -> Option<Fetched> {
    reads(mcp, &cluster.server, &cluster.log_tool).then_some(())?;
    let wanted = vec![(NAMESPACE, json!(namespace)), (POD, json!(pod)), (TAIL, json!(1))];
    Some(ask(mcp, (&cluster.server, &cluster.log_tool), wanted).await)
}

fn reads(mcp: &Registry, server: &str, tool: &str) -> bool {
    mcp.find(server, tool).is_some_and(|tool| tool.access() == Access::Read)
}

async fn ask(mcp: &Registry, tool: (&str, &str), wanted: Vec<Argument<'_>>) -> Fetched {
    fetch(mcp, tool, wanted, &CancellationToken::new()).await
}

/// Asks the tracker for one issue of the repository. `None` when the tool does not only read.
pub async fn issues(mcp: &Registry, tracker: &Tracker) -> Option<Result<(), String>> {
    reads(mcp, &tracker.server, &tracker.list_tool).then_some(())?;
    let listed = tracker::list(mcp, tracker, (1, 1), &CancellationToken::new()).await;
    Some(listed.map(drop).map_err(|halt| halt.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_fits_when_all_that_is_needed_can_be_said_and_nothing_else_has_to_be() {
        let tracker = Tracker {
            server: "gitea".into(),
            owner: "o".into(),
            repo: "r".into(),
            create_tool: "create_issue".into(),
            list_tool: "list_issues".into(),
            comment_tool: "add_comment".into(),
            webhook_secret: None,
        };
        let [create, list, _] = of_tracker(&tracker);
        let schema = |names: &[&str], required: &[&str]| {
            let properties: Value = names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            json!({"properties": properties, "required": required})
        };
        assert!(create.misfits(&json!({"type": "object"})).is_empty());
        let fits = schema(&["org", "repo", "title", "description"], &["org", "title"]);
        assert!(create.misfits(&fits).is_empty());
        assert_eq!(
            create.misfits(&schema(&["owner", "repo", "title", "text"], &["text"])),
            ["it takes no `body` or `description` or `content`", "it wants `text`, which nobody gives it"]
        );
        assert!(list.misfits(&schema(&["owner", "repo", "state"], &["state"])).is_empty());
    }
}
