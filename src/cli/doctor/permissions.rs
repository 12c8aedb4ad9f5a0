//! Checks whether pods, events and logs of one namespace are readable through the cluster's server.

use super::finding::Finding;
use crate::config::Cluster;
use crate::mcp::Registry;
use crate::triage::{self, Fetched};
use serde_json::{Value, json};

/// Maximum number of pods tried for a log, because waiting pods have none.
const TRIED: usize = 3;

/// Runs the check. Returns nothing when the server is unavailable, which is reported elsewhere.
pub(super) async fn check(mcp: &Registry, cluster: &Cluster, namespace: Option<&str>) -> Vec<Finding> {
    if !mcp.is_connected(&cluster.server) {
        return Vec::new();
    }
    let Some(namespace) = namespace else {
        let finding =
            Finding::note("permissions", "no namespace is known whose pods could be read as a trial");
        return vec![finding.advice("name one of your pipelines: `regreen doctor --namespace ci`")];
    };
    let mut findings = Vec::new();
    match triage::pods(mcp, cluster, namespace).await {
        None => findings.push(Finding::note(
            "permissions",
            format!("`{}` has no tool that lists pods and only reads, so nothing is tried", cluster.server),
        )),
        Some(Fetched::Text(text)) => {
            let pods = names(&text);
            let says = format!("{} pods of `{namespace}` can be listed", pods.len());
            findings.push(
                Finding::ok("permissions", says).data(json!({ "namespace": namespace, "pods": pods.len() })),
            );
            findings.extend(log(mcp, cluster, namespace, &pods).await);
        }
        Some(other) => findings.push(refused("pods", namespace, &reason(other))),
    }
    match triage::events(mcp, cluster, namespace).await {
        None => {}
        Some(Fetched::Text(_)) => {
            findings.push(Finding::ok("permissions", format!("events of `{namespace}` can be read")));
        }
        Some(other) => findings.push(refused("events", namespace, &reason(other))),
    }
    findings
}

async fn log(mcp: &Registry, cluster: &Cluster, namespace: &str, pods: &[String]) -> Option<Finding> {
    if pods.is_empty() {
        let finding =
            Finding::note("permissions", format!("`{namespace}` has no pod whose log could be read"));
        return Some(finding.advice("name a namespace with pods: `regreen doctor --namespace ci`"));
    }
    let mut last = String::new();
    for pod in pods.iter().take(TRIED) {
        match triage::log(mcp, cluster, namespace, pod).await? {
            Fetched::Text(_) => {
                return Some(Finding::ok("permissions", format!("the log of `{pod}` can be read")));
            }
            other => last = reason(other),
        }
    }
    Some(refused("pods/log", namespace, &last))
}

fn reason(fetched: Fetched) -> String {
    match fetched {
        Fetched::Text(text)
        | Fetched::Part(text, _)
        | Fetched::TooLarge(text)
        | Fetched::Gap(text)
        | Fetched::Unreachable(text) => text,
    }
}

/// Reports missing permissions as an error. Other failures may depend on the pod or the moment.
fn refused(what: &str, namespace: &str, reason: &str) -> Finding {
    let says = format!("{what} of `{namespace}` cannot be read: {reason}");
    let forbidden = ["forbidden", "unauthorized", "cannot get", "cannot list"];
    if forbidden.iter().any(|word| reason.to_lowercase().contains(word)) {
        let advice = format!(
            "give the service account of the cluster's MCP server get and list on pods, pods/log and events in `{namespace}`"
        );
        return Finding::error("permissions", says).advice(advice);
    }
    Finding::warning("permissions", says)
        .advice("try another namespace with `--namespace`, and see the log of the cluster's MCP server")
}

/// Extracts pod names from a table with a column NAME, or from a YAML or JSON list.
fn names(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let column = lines.by_ref().find_map(|line| line.split_whitespace().position(|word| word == "NAME"));
    if let Some(column) = column {
        return lines.filter_map(|line| line.split_whitespace().nth(column)).map(str::to_owned).collect();
    }
    let Ok(list) = serde_norway::from_str::<Value>(text) else { return Vec::new() };
    let items = list.as_array().or_else(|| list["items"].as_array());
    let name =
        |pod: &Value| pod["metadata"]["name"].as_str().or_else(|| pod["name"].as_str()).map(str::to_owned);
    items.into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn pods_are_read_from_tables_and_lists() {
        let table =
            "NAMESPACE  KIND  NAME   READY\nci         Pod   pod-a  0/1\nci         Pod   pod-b  1/1\n";
        assert_eq!(names(table), ["pod-a", "pod-b"]);
        assert_eq!(names("- metadata: {name: pod-a}\n- metadata: {name: pod-b}\n"), ["pod-a", "pod-b"]);
        assert_eq!(names(r#"{"items": [{"metadata": {"name": "pod-a"}}]}"#), ["pod-a"]);
        assert!(names("No resources found").is_empty());
    }
}
