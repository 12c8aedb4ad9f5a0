//! Fake REST APIs for real MCP servers: the parts of Kubernetes, Gitea and Jenkins that the tests need.

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use regreen::demo::samples::Sample;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// An API server that stops with the test.
pub struct Api {
    pub url: String,
    server: JoinHandle<()>,
    pub issues: Arc<Mutex<Vec<Value>>>,
    /// Method and path of each request.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub async fn serve(router: Router, issues: Arc<Mutex<Vec<Value>>>, listener: tokio::net::TcpListener) -> Api {
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let journal = Arc::clone(&seen);
    let router = router.layer(from_fn(move |request: Request, next: Next| {
        journal.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        next.run(request)
    }));
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    let server = tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    Api { url, server, issues, seen }
}

/// Serves a Kubernetes API with the pods of these samples.
pub async fn kubernetes(samples: Vec<Sample>) -> Api {
    let resource = |name: &str, kind: &str| json!({"name": name, "kind": kind, "namespaced": true, "singularName": "", "verbs": ["get", "list"]});
    let core = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource("pods", "Pod"), resource("pods/log", "Pod"), resource("events", "Event"), resource("secrets", "Secret"), resource("namespaces", "Namespace")]});
    let fixed = |value: Value| get(move || async move { Json(value) });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let router = Router::new()
        .route("/version", fixed(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})))
        .route("/api", fixed(json!({"kind": "APIVersions", "versions": ["v1"]})))
        .route("/apis", fixed(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})))
        .route("/api/v1", fixed(core))
        .route("/api/v1/namespaces/{namespace}/pods", get(pods))
        .route("/api/v1/namespaces/{namespace}/pods/{pod}", get(pod))
        .route("/api/v1/namespaces/{namespace}/pods/{pod}/log", get(log))
        .route("/api/v1/namespaces/{namespace}/events", get(events))
        .route("/api/v1/namespaces/{namespace}/secrets", get(secrets))
        .route("/api/v1/namespaces/{namespace}/secrets/{name}", get(|| async { Json(secret()) }))
        .fallback(|| async { missing("page") })
        .with_state(Arc::new(samples));
    serve(router, Arc::default(), listener).await
}

/// Serves an empty Jenkins API that would execute scripts.
pub async fn jenkins() -> Api {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let crumb = || async { Json(json!({"crumb": "c", "crumbRequestField": "Jenkins-Crumb"})) };
    let router = Router::new()
        .route("/crumbIssuer/api/json", get(crumb))
        .route("/scriptText", axum::routing::post(|| async { "ran" }))
        .fallback(|| async { missing("page") });
    serve(router, Arc::default(), listener).await
}

fn missing(what: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": format!("{what} not found")});
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}

/// Returns a list, as a Table if requested.
async fn pods(State(all): State<Arc<Vec<Sample>>>, headers: HeaderMap) -> Json<Value> {
    let wants_table =
        headers.get("accept").is_some_and(|accept| accept.to_str().unwrap().contains("as=Table"));
    let manifests: Vec<Value> = all.iter().map(Sample::manifest).collect();
    if !wants_table {
        return Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": manifests}));
    }
    let rows: Vec<Value> = manifests
        .iter()
        .map(|pod| json!({"cells": [pod["metadata"]["name"], "Failed"], "object": pod}))
        .collect();
    let columns = json!([{"name": "Name", "type": "string", "format": "name"}, {"name": "Status", "type": "string", "format": ""}]);
    Json(
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows}),
    )
}

async fn pod(State(all): State<Arc<Vec<Sample>>>, Path((_, name)): Path<(String, String)>) -> Response {
    all.iter()
        .find(|sample| sample.pod == name)
        .map_or_else(|| missing("pod"), |sample| Json(sample.manifest()).into_response())
}

async fn log(
    State(all): State<Arc<Vec<Sample>>>,
    Path((_, name)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(sample) = all.iter().find(|sample| sample.pod == name) else { return missing("pod") };
    let lines: Vec<&str> = sample.log.lines().collect();
    let tail = query.get("tailLines").map_or(lines.len(), |tail| tail.parse().unwrap());
    lines[lines.len().saturating_sub(tail)..].join("\n").into_response()
}

fn secret() -> Value {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db", "namespace": "ci"}, "type": "Opaque", "data": {"word": "c2Vz"}})
}

async fn secrets() -> Json<Value> {
    Json(json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": [secret()]}))
}

async fn events(State(all): State<Arc<Vec<Sample>>>) -> Json<Value> {
    let items: Vec<Value> = all
        .iter()
        .flat_map(|sample| {
            sample.events.iter().enumerate().map(|(index, (kind, reason, message))| {
                json!({
                    "kind": "Event", "apiVersion": "v1", "type": kind, "reason": reason, "message": message,
                    "metadata": {"name": format!("{}.{index}", sample.pod), "namespace": "ci"},
                    "lastTimestamp": "2026-11-20T09:19:47Z",
                    "involvedObject": {"kind": "Pod", "apiVersion": "v1", "name": sample.pod, "namespace": "ci"}})
            })
        })
        .collect();
    Json(json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

#[derive(Clone)]
struct Gitea {
    base: String,
    issues: Arc<Mutex<Vec<Value>>>,
}

/// Serves a Gitea API with one repository.
pub async fn gitea() -> Api {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let issues: Arc<Mutex<Vec<Value>>> = Arc::default();
    let router = Router::new()
        .route("/api/v1/version", get(|| async { Json(json!({"version": "1.24.0"})) }))
        .route("/api/v1/user", get(|| async { Json(json!({"id": 1, "login": "regreen"})) }))
        .route("/api/v1/repos/{owner}/{repo}/issues", get(list_issues).post(create_issue))
        .route(
            "/api/v1/repos/{owner}/{repo}/issues/{number}/comments",
            get(|| async { Json(json!([])) }).post(comment),
        )
        .with_state(Gitea { base, issues: Arc::clone(&issues) });
    serve(router, issues, listener).await
}

async fn list_issues(
    State(gitea): State<Gitea>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let first_page = query.get("page").is_none_or(|page| page == "1");
    Json(if first_page { json!(*gitea.issues.lock().unwrap()) } else { json!([]) })
}

async fn create_issue(
    State(gitea): State<Gitea>,
    Path((owner, repo)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let mut issues = gitea.issues.lock().unwrap();
    let number = issues.len() + 1;
    let issue = json!({
        "id": number, "number": number, "title": body["title"], "body": body["body"], "state": "open", "labels": [], "comments": 0,
        "html_url": format!("{}/{owner}/{repo}/issues/{number}", gitea.base), "user": {"login": "regreen"}});
    issues.push(issue.clone());
    (StatusCode::CREATED, Json(issue)).into_response()
}

async fn comment(
    State(gitea): State<Gitea>,
    Path((_, _, number)): Path<(String, String, usize)>,
    Json(body): Json<Value>,
) -> Response {
    let mut issues = gitea.issues.lock().unwrap();
    let Some(issue) = issues.get_mut(number - 1) else { return StatusCode::NOT_FOUND.into_response() };
    issue["comments"] = json!(issue["comments"].as_u64().unwrap() + 1);
    (StatusCode::CREATED, Json(json!({"id": 1, "body": body["body"]}))).into_response()
}

/// Serves a Kubernetes API with these pods, TaskRuns and Workflows, selected by name, or by label and phase.
pub async fn objects(all: Vec<Value>) -> Api {
    let groups = [
        ("", "v1", "pods", "Pod"),
        ("tekton.dev", "tekton.dev/v1", "taskruns", "TaskRun"),
        ("argoproj.io", "argoproj.io/v1alpha1", "workflows", "Workflow"),
    ];
    let fixed = |value: Value| get(move || async move { Json(value) });
    let (mut router, mut told) = (Router::new(), Vec::new());
    for (group, version, plural, kind) in groups {
        let resource = json!({"name": plural, "kind": kind, "namespaced": true, "singularName": "", "verbs": ["get", "list"]});
        let resources = json!({"kind": "APIResourceList", "groupVersion": version, "resources": [resource]});
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            let version = json!({"groupVersion": version, "version": version.split_once('/').unwrap().1});
            told.push(json!({"name": group, "versions": [version], "preferredVersion": version}));
            format!("/apis/{}", resources["groupVersion"].as_str().unwrap())
        };
        let these: Vec<Value> = all.iter().filter(|object| object["kind"] == kind).cloned().collect();
        let one = these.clone();
        let list = get(move |Query(query): Query<HashMap<String, String>>| async move {
            let items: Vec<Value> = these.into_iter().filter(|item| chosen(item, &query)).collect();
            Json(json!({"kind": "List", "apiVersion": version, "metadata": {}, "items": items}))
        });
        let named = get(move |Path((_, name)): Path<(String, String)>| async move {
            let found = one.into_iter().find(|item| item["metadata"]["name"] == name.as_str());
            found.map_or_else(|| missing("object"), |item| Json(item).into_response())
        });
        router = router
            .route(&format!("{path}/namespaces/ci/{plural}"), list)
            .route(&format!("{path}/namespaces/{{namespace}}/{plural}/{{name}}"), named)
            .route(&path, fixed(resources));
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let router = router
        .route("/api", fixed(json!({"kind": "APIVersions", "versions": ["v1"]})))
        .route("/apis", fixed(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": told})))
        .fallback(|| async { missing("page") });
    serve(router, Arc::default(), listener).await
}

/// Returns whether an object matches the selectors of the query.
fn chosen(object: &Value, query: &HashMap<String, String>) -> bool {
    let asked = |name: &str| query.get(name).map_or("", String::as_str);
    let labels = asked("labelSelector").split(',').filter_map(|pair| pair.split_once('='));
    let mut labels = labels.map(|(name, value)| object["metadata"]["labels"][name] == value);
    let phase = asked("fieldSelector").strip_prefix("status.phase=");
    labels.all(|fits| fits) && phase.is_none_or(|phase| object["status"]["phase"] == phase)
}
