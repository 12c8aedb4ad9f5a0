//! A proxy in front of a forge's MCP server that delays calls that create issues: the caller times out, and the forge
//! receives the call later.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Treatment of calls that create issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creates {
    /// Delayed.
    Wait,
    /// Forwarded to the forge.
    Arrive,
    /// Dropped.
    Vanish,
    /// Answered with an error by the tool.
    Fail,
}

struct Shared {
    forge: String,
    http: reqwest::Client,
    creates: watch::Sender<Creates>,
    /// Called tools in order.
    calls: watch::Sender<Vec<String>>,
    /// Number of dropped calls.
    vanished: watch::Sender<usize>,
}

/// The running proxy.
pub struct LateTracker {
    pub url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for LateTracker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl LateTracker {
    pub async fn before(forge: &str, creates: Creates) -> Self {
        let shared = Arc::new(Shared {
            forge: forge.to_owned(),
            http: super::http_without_tls().build().unwrap(),
            creates: watch::Sender::new(creates),
            calls: watch::Sender::default(),
            vanished: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = Router::new().route("/mcp", post(message)).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, server }
    }

    pub fn creates(&self, creates: Creates) {
        self.shared.creates.send_replace(creates);
    }

    /// Returns the number of calls of a tool.
    pub fn count(&self, tool: &str) -> usize {
        self.shared.calls.borrow().iter().filter(|name| *name == tool).count()
    }

    /// Waits until a tool was called this many times.
    pub async fn called(&self, tool: &str, times: usize) {
        let mut calls = self.shared.calls.subscribe();
        let came = calls.wait_for(|all| all.iter().filter(|name| *name == tool).count() >= times);
        tokio::time::timeout(super::PATIENCE, came).await.unwrap().unwrap();
    }

    /// Waits until this many calls were dropped.
    pub async fn vanished(&self, times: usize) {
        let mut vanished = self.shared.vanished.subscribe();
        let lost = vanished.wait_for(|count| *count >= times);
        tokio::time::timeout(super::PATIENCE, lost).await.unwrap().unwrap();
    }
}

async fn message(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let tool = message["params"]["name"].as_str().filter(|_| message["method"] == "tools/call");
    // Read before other tasks learn of the call and change it.
    let fails = tool == Some("create_issue") && *shared.creates.borrow() == Creates::Fail;
    if let Some(tool) = tool {
        shared.calls.send_modify(|all| all.push(tool.to_owned()));
    }
    if fails {
        let result = json!({"content": [{"type": "text", "text": "no such label"}], "isError": true});
        return Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response();
    }
    // A separate task continues when the caller has given up.
    let is_create = tool == Some("create_issue");
    tokio::spawn(async move { pass(&shared, &headers, body, is_create).await }).await.unwrap()
}

async fn pass(shared: &Shared, headers: &HeaderMap, body: Bytes, is_create: bool) -> Response {
    if is_create {
        let mut creates = shared.creates.subscribe();
        let now = *creates.wait_for(|creates| *creates != Creates::Wait).await.unwrap();
        if now == Creates::Vanish {
            shared.vanished.send_modify(|count| *count += 1);
            return StatusCode::GATEWAY_TIMEOUT.into_response();
        }
    }
    let mut request = shared.http.post(&shared.forge).body(body);
    for name in ["content-type", "accept", "mcp-session-id", "mcp-protocol-version"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let kept: Vec<_> = ["content-type", "mcp-session-id"]
        .into_iter()
        .filter_map(|name| Some((name, answer.headers().get(name)?.clone())))
        .collect();
    let bytes = answer.bytes().await.unwrap();
    let mut response = (status, bytes).into_response();
    for (name, value) in kept {
        response.headers_mut().insert(name, value);
    }
    response
}
