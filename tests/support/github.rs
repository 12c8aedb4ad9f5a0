//! Fake GitHub REST and GraphQL APIs, as far as GitHub's MCP server uses them for issues. The server reaches the fake
//! host name through this server as its HTTP proxy, so that no fixed port is needed.

use super::apis::{Api, serve};
use super::real_servers::tool;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// URL of the web pages.
pub const WEB: &str = "http://github.example.test";
const API: &str = "http://github.example.test/api/v3";

/// Behaviour; may be changed while running.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moods {
    /// Issues are created, but the response is lost.
    pub loses_answers: bool,
    /// Listing fails.
    pub lists_nothing: bool,
}

/// The running fake.
pub struct Github {
    api: Api,
    pub moods: Arc<Mutex<Moods>>,
}

#[derive(Clone)]
struct Shared {
    issues: Arc<Mutex<Vec<Value>>>,
    moods: Arc<Mutex<Moods>>,
}

impl Github {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let shared = Shared { issues: Arc::default(), moods: Arc::default() };
        let router = Router::new()
            .route("/api/graphql", post(graphql))
            .route("/api/v3/repos/{owner}/{repo}/issues", post(create))
            .route("/api/v3/repos/{owner}/{repo}/issues/{number}", get(one))
            .route("/api/v3/repos/{owner}/{repo}/issues/{number}/comments", post(comment))
            .with_state(shared.clone());
        Self { api: serve(router, shared.issues, listener).await, moods: shared.moods }
    }

    /// Returns a `[[mcp]]` table with GitHub's official server as a child process.
    pub fn table(&self) -> String {
        let program = tool("clients/bin/github-mcp-server");
        format!(
            "[[mcp]]\nname = \"github\"\ntransport = \"stdio\"\ncommand = [\"{}\", \"stdio\", \"--toolsets\", \"issues\"]\n\
             env = {{ GITHUB_PERSONAL_ACCESS_TOKEN = \"t\", GITHUB_HOST = \"{WEB}\", HTTP_PROXY = \"{}\" }}\n",
            program.display(),
            self.api.url
        )
    }

    pub fn issues(&self) -> Vec<Value> {
        self.api.issues.lock().unwrap().clone()
    }

    /// Counts requests by prefix.
    pub fn count(&self, request: &str) -> usize {
        self.api.seen.lock().unwrap().iter().filter(|seen| seen.starts_with(request)).count()
    }

    /// Creates issues of other users.
    pub fn others_file(&self, count: usize) {
        let mut issues = self.api.issues.lock().unwrap();
        for _ in 0..count {
            let number = issues.len() + 1;
            issues.push(issue(("platform", "failures"), number, "of somebody else", "nothing of ours"));
        }
    }

    /// Closes an issue.
    pub fn close(&self, number: usize) {
        let mut issues = self.api.issues.lock().unwrap();
        issues[number - 1]["state"] = json!("closed");
        issues[number - 1]["closed_at"] = json!(Utc::now());
    }
}

/// Returns an issue in REST format. Each is one second newer than the one before.
pub fn issue((owner, repo): (&str, &str), number: usize, title: &str, body: &str) -> Value {
    let at = Utc::now() + TimeDelta::seconds(i64::try_from(number).unwrap());
    let (url, page) = (
        format!("{API}/repos/{owner}/{repo}/issues/{number}"),
        format!("{WEB}/{owner}/{repo}/issues/{number}"),
    );
    json!({
        "id": 1000 + number, "node_id": format!("I_{number}"), "number": number, "title": title, "body": body, "state": "open",
        "url": url, "html_url": page, "repository_url": format!("{API}/repos/{owner}/{repo}"), "user": user(),
        "labels_url": format!("{url}/labels{{/name}}"), "comments_url": format!("{url}/comments"), "events_url": format!("{url}/events"),
        "labels": [], "assignee": null, "assignees": [], "milestone": null, "locked": false, "comments": 0, "closed_at": null,
        "author_association": "OWNER", "created_at": at, "updated_at": at})
}

fn user() -> Value {
    let url = format!("{API}/users/regreen");
    let of = |rest: &str| format!("{url}/{rest}");
    json!({
        "login": "regreen", "id": 1, "node_id": "U_1", "avatar_url": format!("{WEB}/u.png"), "gravatar_id": "", "url": url,
        "html_url": format!("{WEB}/regreen"), "followers_url": of("followers"), "following_url": of("following{/other_user}"),
        "gists_url": of("gists{/gist_id}"), "starred_url": of("starred{/owner}{/repo}"), "subscriptions_url": of("subscriptions"),
        "organizations_url": of("orgs"), "repos_url": of("repos"), "events_url": of("events{/privacy}"),
        "received_events_url": of("received_events"), "type": "User", "site_admin": false})
}

/// Returns a comment in REST format.
pub fn comment_on((owner, repo): (&str, &str), number: usize, body: &str) -> Value {
    let url = format!("{API}/repos/{owner}/{repo}/issues");
    json!({
        "id": 1, "node_id": "C_1", "url": format!("{url}/comments/1"), "html_url": format!("{WEB}/{owner}/{repo}/issues/{number}#c1"),
        "issue_url": format!("{url}/{number}"), "body": body, "user": user(), "created_at": Utc::now(), "updated_at": Utc::now(),
        "author_association": "OWNER"})
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": "Not Found", "status": "404"}))).into_response()
}

async fn create(
    State(shared): State<Shared>,
    Path((owner, repo)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let (Some(title), Some(text)) = (body["title"].as_str(), body["body"].as_str()) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"message": "Validation Failed"})))
            .into_response();
    };
    let filed = {
        let mut issues = shared.issues.lock().unwrap();
        let filed = issue((&owner, &repo), issues.len() + 1, title, text);
        issues.push(filed.clone());
        filed
    };
    if shared.moods.lock().unwrap().loses_answers {
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    (StatusCode::CREATED, Json(filed)).into_response()
}

async fn one(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, usize)>) -> Response {
    let found = shared.issues.lock().unwrap().get(number - 1).cloned();
    found.map_or_else(missing, |issue| Json(issue).into_response())
}

async fn comment(
    State(shared): State<Shared>,
    Path((owner, repo, number)): Path<(String, String, usize)>,
    Json(body): Json<Value>,
) -> Response {
    let mut issues = shared.issues.lock().unwrap();
    let Some(issue) = issues.get_mut(number - 1) else { return missing() };
    issue["comments"] = json!(issue["comments"].as_u64().unwrap() + 1);
    let said = comment_on((&owner, &repo), number, body["body"].as_str().unwrap());
    (StatusCode::CREATED, Json(said)).into_response()
}

/// Returns the issue list with the requested order and cursor. Rejects invalid enum values like GitHub.
async fn graphql(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    if shared.moods.lock().unwrap().lists_nothing {
        return (StatusCode::INTERNAL_SERVER_ERROR, "").into_response();
    }
    let (query, asked) = (body["query"].as_str().unwrap(), &body["variables"]);
    let refused = |what: &str| {
        let message = format!("Variable ${what} was provided invalid value");
        Json(json!({"errors": [{"message": message, "extensions": {"code": "VARIABLE_INVALID"}}]}))
            .into_response()
    };
    if !query.contains("issues(first: $first, after: $after, states: $states, orderBy: {field: $orderBy, direction: $direction})") {
        return refused("query");
    }
    let states: Vec<&str> = asked["states"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    if states.is_empty() || !states.iter().all(|state| ["OPEN", "CLOSED"].contains(state)) {
        return refused("states");
    }
    if asked["orderBy"] != "CREATED_AT" || asked["direction"] != "DESC" {
        return refused("orderBy");
    }
    let (Some(first @ 1..=100), Ok(begin)) = (asked["first"].as_u64(), at(&asked["after"])) else {
        return refused("first");
    };
    let issues = shared.issues.lock().unwrap();
    let state = |issue: &Value| issue["state"].as_str().unwrap().to_uppercase();
    let all: Vec<Value> =
        issues.iter().rev().filter(|issue| states.contains(&state(issue).as_str())).map(node).collect();
    let end = all.len().min(begin + usize::try_from(first).unwrap());
    let page = json!({
        "hasNextPage": end < all.len(), "hasPreviousPage": begin > 0, "startCursor": format!("Y3Vyc29y{begin}"),
        "endCursor": format!("Y3Vyc29y{end}")});
    let found = json!({"nodes": all[begin.min(end)..end], "pageInfo": page, "totalCount": all.len()});
    Json(json!({"data": {"repository": {"issues": found}}})).into_response()
}

fn at(cursor: &Value) -> Result<usize, ()> {
    match cursor.as_str() {
        None => Ok(0),
        Some(text) => text.strip_prefix("Y3Vyc29y").ok_or(())?.parse().map_err(|_| ()),
    }
}

/// Returns the requested fields of an issue, which do not include a URL.
fn node(issue: &Value) -> Value {
    json!({
        "number": issue["number"], "title": issue["title"], "body": issue["body"], "state": issue["state"].as_str().unwrap().to_uppercase(),
        "databaseId": issue["id"], "author": {"login": issue["user"]["login"]}, "createdAt": issue["created_at"],
        "updatedAt": issue["updated_at"], "labels": {"nodes": []}, "comments": {"totalCount": issue["comments"]}})
}
