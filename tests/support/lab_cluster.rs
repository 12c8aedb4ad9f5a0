//! A cluster of two teams, as a fake kubernetes-mcp-server and as a Kubernetes API for the real one. All content of a
//! namespace is labelled as such; a request without a namespace returns content of all namespaces.

use super::apis::{Api, serve};
use super::fake_mcp::{Behaviour, FakeMcp};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// A pod.
#[derive(Debug, Clone, Default)]
pub struct LabPod {
    pub namespace: &'static str,
    pub name: &'static str,
    /// Log; `None` when it never started.
    pub log: Option<String>,
    /// Reason and message of each event.
    pub events: Vec<(&'static str, String)>,
    /// Labels, annotations and owners.
    pub metadata: Value,
    /// Log of a second container, killed with the pod.
    pub sidecar: Option<&'static str>,
}

/// Returns a marker for content that only members of a namespace may read.
pub fn private(namespace: &str) -> String {
    format!("private to {namespace}")
}

impl LabPod {
    /// Creates a pod that failed.
    pub fn failed(namespace: &'static str, name: &'static str, log: &str) -> Self {
        let log = format!("{}: its log\n{log}\nexit status 1\n", private(namespace));
        Self { namespace, name, log: Some(log), ..Self::default() }
    }

    /// Creates a pod whose image cannot be pulled, with the registry's reason.
    pub fn unpulled(namespace: &'static str, name: &'static str, image: &str, why: &str) -> Self {
        let pull = format!(
            "Failed to pull image \"{image}\": rpc error: code = Unknown desc = failed to pull and unpack image \"{image}\": {why}"
        );
        let events = vec![("Failed", pull), ("BackOff", format!("Back-off pulling image \"{image}\""))];
        Self { namespace, name, events, ..Self::default() }
    }

    /// Returns the pod with these labels, annotations and owners.
    pub fn with(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// Returns the log of a container.
    fn log_of(&self, container: Option<&str>) -> Option<String> {
        match self.sidecar {
            Some(log) if container == Some("proxy") => Some(log.to_owned()),
            _ => self.log.clone(),
        }
    }

    fn manifest(&self) -> Value {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
        let ended =
            json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T09:19:47Z", "reason": "Error"}});
        let state = if self.log.is_some() { ended } else { waiting };
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "annotations": {"note": private(self.namespace)}},
            "spec": {"containers": [{"name": "step", "image": "i"}]},
            "status": {"phase": "Failed", "containerStatuses": [{"name": "step", "restartCount": 0, "lastState": {}, "state": state}]},
        });
        for (name, value) in self.metadata.as_object().into_iter().flatten() {
            pod["metadata"][name] = value.clone();
        }
        if self.sidecar.is_some() {
            let killed = json!({"terminated": {"exitCode": 143, "finishedAt": "2026-11-20T09:19:49Z", "reason": "Error"}});
            let add = |list: &mut Value, one: Value| list.as_array_mut().unwrap().insert(0, one);
            add(&mut pod["spec"]["containers"], json!({"name": "proxy", "image": "i"}));
            let status = json!({"name": "proxy", "restartCount": 0, "lastState": {}, "state": killed});
            add(&mut pod["status"]["containerStatuses"], status);
        }
        pod
    }

    fn event_list(&self) -> Vec<Value> {
        let event = |(reason, message): &(&str, String)| {
            json!({"InvolvedObject": {"Kind": "Pod", "Name": self.name, "apiVersion": "v1"}, "Message": message,
                "Namespace": self.namespace, "Reason": reason, "Timestamp": "2026-11-20 09:12:02 +0000 UTC", "Type": "Warning"})
        };
        let note = ("Scheduled", format!("{} was placed, {}", self.name, private(self.namespace)));
        std::iter::once(&note).chain(&self.events).map(event).collect()
    }
}

/// Tools of kubernetes-mcp-server, with arguments and required arguments.
const TOOLS: [(&str, &[&str], &[&str]); 14] = [
    ("pods_log", &["name", "namespace", "container", "previous", "tail"], &["name"]),
    ("pods_get", &["name", "namespace"], &["name"]),
    ("events_list", &["namespace", "fieldSelector"], &[]),
    ("pods_list", &["fieldSelector", "labelSelector"], &[]),
    ("pods_list_in_namespace", &["namespace", "fieldSelector", "labelSelector"], &["namespace"]),
    ("pods_top", &["all_namespaces", "namespace", "name", "label_selector"], &[]),
    ("resources_get", &["apiVersion", "kind", "name", "namespace"], &["apiVersion", "kind", "name"]),
    (
        "resources_list",
        &["apiVersion", "kind", "namespace", "fieldSelector", "labelSelector"],
        &["apiVersion", "kind"],
    ),
    ("namespaces_list", &["fieldSelector"], &[]),
    ("projects_list", &[], &[]),
    ("nodes_log", &["name", "query", "tailLines"], &["name", "query"]),
    ("configuration_view", &["minified"], &[]),
    ("helm_list", &["all_namespaces", "namespace"], &[]),
    (
        "kubectl_get",
        &["resourceType", "name", "namespace", "allNamespaces", "context", "args"],
        &["resourceType"],
    ),
];

/// Starts the cluster's MCP server.
pub async fn mcp(pods: Vec<LabPod>) -> FakeMcp {
    let schema = |(name, properties, required): &(&'static str, &[&str], &[&str])| {
        let kind = |name: &str| match name {
            "all_namespaces" | "allNamespaces" | "previous" | "minified" => "boolean",
            "tail" | "tailLines" => "integer",
            _ => "string",
        };
        let properties: Value =
            properties.iter().map(|name| ((*name).to_owned(), json!({"type": kind(name)}))).collect();
        (*name, json!({"type": "object", "properties": properties, "required": required}))
    };
    let schemas: BTreeMap<&'static str, Value> = TOOLS.iter().map(schema).collect();
    let tools = TOOLS.iter().map(|(name, ..)| (*name, true)).collect();
    FakeMcp::start(Behaviour { tools, schemas, pods, ..Behaviour::default() }).await
}

/// Returns the tool result and whether it is an error. Without a namespace, all namespaces match.
pub fn answer(pods: &[LabPod], tool: &str, arguments: &Value) -> (String, bool) {
    let text = |name: &str| arguments[name].as_str();
    let all = [text("namespace"), None]
        [usize::from(arguments["all_namespaces"] == true || arguments["allNamespaces"] == true)];
    let seen = pods.iter().filter(|pod| all.is_none_or(|namespace| namespace == pod.namespace));
    let mut seen: Vec<&LabPod> = seen.collect();
    let yaml = |value: &Value| (serde_norway::to_string(value).unwrap(), false);
    let one = seen.iter().find(|pod| text("name") == Some(pod.name)).copied();
    let missing = || (format!("pods {:?} not found", text("name").unwrap_or_default()), true);
    match tool {
        "pods_log" => match one {
            Some(pod) if pod.log.is_some() => (pod.log_of(text("container")).unwrap_or_default(), false),
            Some(_) => ("container \"step\" is waiting to start: image can't be pulled".to_owned(), true),
            None => missing(),
        },
        "pods_get" => one.map_or_else(missing, |pod| yaml(&pod.manifest())),
        "events_list" => {
            let events: Vec<Value> = seen.iter().flat_map(|pod| pod.event_list()).collect();
            let (text, _) = yaml(&json!(events));
            (format!("# The following events (YAML format) were found:\n{text}"), false)
        }
        _ => {
            if text("namespace").is_none() {
                seen = pods.iter().collect();
            }
            let mut table = String::new();
            for pod in seen {
                let _ = writeln!(table, "{} {} {}", pod.namespace, pod.name, private(pod.namespace));
            }
            (table, false)
        }
    }
}

/// Starts the cluster's API for the real MCP server.
pub async fn api(pods: Vec<LabPod>) -> Api {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "kind": kind, "namespaced": namespaced, "singularName": "", "verbs": ["get", "list"]});
    let core = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        resource("pods", "Pod", true), resource("pods/log", "Pod", true), resource("events", "Event", true),
        resource("secrets", "Secret", true), resource("configmaps", "ConfigMap", true),
        resource("namespaces", "Namespace", false), resource("nodes", "Node", false)]});
    let fixed = |value: Value| get(move || async move { Json(value) });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let router = Router::new()
        .route("/version", fixed(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})))
        .route("/api", fixed(json!({"kind": "APIVersions", "versions": ["v1"]})))
        .route("/apis", fixed(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})))
        .route("/api/v1", fixed(core))
        .route("/api/v1/{plural}", get(listed))
        .route("/api/v1/{plural}/{name}", get(|| async { not_found() }))
        .route("/api/v1/namespaces/{namespace}/{plural}", get(listed_in))
        .route("/api/v1/namespaces/{namespace}/{plural}/{name}", get(object))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/log", get(log))
        .fallback(|| async { not_found() })
        .with_state(Arc::new(pods));
    serve(router, Arc::default(), listener).await
}

type Pods = State<Arc<Vec<LabPod>>>;

fn not_found() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}

/// Returns a list, as a Table if requested.
fn list(pods: &[LabPod], plural: &str, headers: &HeaderMap, within: Option<&str>) -> Response {
    let seen = pods.iter().filter(|pod| within.is_none_or(|namespace| namespace == pod.namespace));
    let items: Vec<Value> = match plural {
        "events" => seen
            .flat_map(|pod| {
                pod.event_list().into_iter().map(|event| {
                    json!({"kind": "Event", "apiVersion": "v1", "type": "Warning", "reason": event["Reason"], "message": event["Message"],
                        "metadata": {"name": format!("{}.1", pod.name), "namespace": pod.namespace}, "lastTimestamp": "2026-11-20T09:19:47Z",
                        "involvedObject": {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "namespace": pod.namespace}})
                })
            })
            .collect(),
        _ => seen.map(LabPod::manifest).collect(),
    };
    if headers.get("accept").is_some_and(|accept| accept.to_str().unwrap().contains("as=Table")) {
        let rows: Vec<Value> = items
            .iter()
            .map(|item| json!({"cells": [item["metadata"]["name"], item["metadata"]["annotations"]["note"]], "object": item}))
            .collect();
        let columns = json!([{"name": "Name", "type": "string", "format": "name"}, {"name": "Note", "type": "string", "format": ""}]);
        return Json(json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})).into_response();
    }
    Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

async fn listed(State(pods): Pods, Path(plural): Path<String>, headers: HeaderMap) -> Response {
    list(&pods, &plural, &headers, None)
}

async fn listed_in(
    State(pods): Pods,
    Path((namespace, plural)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    list(&pods, &plural, &headers, Some(&namespace))
}

async fn object(State(pods): Pods, Path((namespace, _, name)): Path<(String, String, String)>) -> Response {
    let found = pods.iter().find(|pod| pod.namespace == namespace && pod.name == name);
    found.map_or_else(not_found, |pod| Json(pod.manifest()).into_response())
}

async fn log(
    State(pods): Pods,
    Path((namespace, name)): Path<(String, String)>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    let found = pods.iter().find(|pod| pod.namespace == namespace && pod.name == name);
    let container = asked.get("container").map(String::as_str);
    found.and_then(|pod| pod.log_of(container)).map_or_else(not_found, IntoResponse::into_response)
}
