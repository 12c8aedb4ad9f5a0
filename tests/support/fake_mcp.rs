//! A streamable HTTP MCP server with configurable misbehaviour.

use super::lab_cluster::{self, LabPod};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Behaviour of the server; may be changed while it runs.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// `tools/call` never responds.
    pub hang: bool,
    /// `tools/list` returns the same cursor forever.
    pub endless_pages: bool,
    /// Tools: name and whether the tool is read-only.
    pub tools: Vec<(&'static str, bool)>,
    /// Input schemas by tool; the default is any object.
    pub schemas: BTreeMap<&'static str, Value>,
    /// `tools/call` closes the connection without a response.
    pub drop_calls: bool,
    /// Raw response to `tools/call`; `ID` is replaced with the request id.
    pub raw: Option<String>,
    /// `tools/call` sends a byte now and then and never ends.
    pub drips: bool,
    /// Required `Authorization` header.
    pub authorization: Option<&'static str>,
    /// Tool results and whether each is an error; other tools return a success text.
    pub answers: Vec<(&'static str, String, bool)>,
    /// Tool descriptions.
    pub descriptions: Vec<(&'static str, String)>,
    /// Redirects every request to this URL with 307.
    pub redirect: Option<String>,
    /// Emulates cluster tools with these pods.
    pub pods: Vec<LabPod>,
    /// Result of `pods_log`.
    pub log: Option<Log>,
    /// Offers a stream that announces changed tools.
    pub announces: bool,
    /// Tool that responds only after `release`.
    pub held: Option<&'static str>,
}

/// A log of any size and its transfer mode.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Size in bytes, by the number of requested lines.
    pub size: fn(u64) -> usize,
    /// Sends no content length.
    pub chunked: bool,
    /// Sends an event stream instead of JSON.
    pub events: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { size: |_| 1_000, chunked: false, events: false }
    }
}

#[derive(Default)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    sessions: Mutex<BTreeSet<String>>,
    messages: watch::Sender<Vec<Value>>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
    released: watch::Sender<bool>,
    announced: watch::Sender<u64>,
}

/// The running server.
pub struct FakeMcp {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for FakeMcp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeMcp {
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_on(behaviour, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_on(behaviour: Behaviour, address: SocketAddr) -> Self {
        let shared = Arc::new(Shared { behaviour: Mutex::new(behaviour), ..Shared::default() });
        let listener =
            super::eventually("the port is free", async || TcpListener::bind(address).await.ok()).await;
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/mcp", post(message).get(stream)).with_state(Arc::clone(&shared));
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Returns a `[[mcp]]` table for the configuration.
    pub fn table(&self, name: &str, extra: &str) -> String {
        format!(
            "[[mcp]]\nname = \"{name}\"\ntransport = \"streamable-http\"\nurl = \"{}\"\n{extra}\n",
            self.url()
        )
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    /// Drops all sessions, as a restart does.
    pub fn forget_sessions(&self) {
        self.shared.sessions.lock().unwrap().clear();
    }

    /// Announces changed tools.
    pub fn announce(&self) {
        self.shared.announced.send_modify(|count| *count += 1);
    }

    /// Lets the held tool respond.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Returns all messages of a method so far.
    pub fn seen(&self, method: &str) -> Vec<Value> {
        self.shared.messages.borrow().iter().filter(|message| message["method"] == method).cloned().collect()
    }

    /// Returns all authorised messages of a method so far, with their headers.
    pub fn requests(&self, method: &str) -> Vec<(HeaderMap, Value)> {
        let all = self.shared.requests.lock().unwrap();
        all.iter().filter(|(_, message)| message["method"] == method).cloned().collect()
    }

    /// Waits until a message of the method has arrived.
    pub async fn wait_for(&self, method: &str) {
        let mut messages = self.shared.messages.subscribe();
        let came = messages.wait_for(|all| all.iter().any(|message| message["method"] == method));
        tokio::time::timeout(super::PATIENCE, came).await.unwrap().unwrap();
    }
}

/// Serves the server's own event stream, if enabled.
async fn stream(State(shared): State<Arc<Shared>>) -> Response {
    if !shared.behaviour.lock().unwrap().announces {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    // Earlier announcements are repeated, because the list may have been read before the stream was opened.
    let announced = shared.announced.subscribe();
    let notices = futures::stream::unfold((announced, 0), move |(mut announced, told)| {
        let event = format!("data: {notice}\n\n");
        async move {
            let count = *announced.wait_for(|count| *count > told).await.ok()?;
            Some((Ok::<_, std::io::Error>(Bytes::from(event)), (announced, count)))
        }
    });
    ([("content-type", "text/event-stream")], axum::body::Body::from_stream(notices)).into_response()
}

async fn message(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let behaviour = shared.behaviour.lock().unwrap().clone();
    let method = message["method"].as_str().unwrap_or_default();
    if let Some(elsewhere) = behaviour.redirect {
        return (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere)]).into_response();
    }
    let key = headers.get("authorization").map(|value| value.to_str().unwrap());
    if behaviour.authorization.is_some() && behaviour.authorization != key {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let session = headers.get("mcp-session-id").map(|value| value.to_str().unwrap().to_owned());
    if method != "initialize" && !session.is_some_and(|id| shared.sessions.lock().unwrap().contains(&id)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    shared.requests.lock().unwrap().push((headers, message.clone()));
    shared.messages.send_modify(|all| all.push(message.clone()));
    let result = match method {
        "initialize" => {
            let id = Uuid::new_v4().simple().to_string();
            shared.sessions.lock().unwrap().insert(id.clone());
            let result = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "1"}});
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
            return ([("mcp-session-id", id)], Json(answer)).into_response();
        }
        "tools/list" => listed(&behaviour),
        "tools/call" if behaviour.hang => std::future::pending().await,
        "tools/call" if behaviour.log.is_some() && message["params"]["name"] == "pods_log" => {
            return log(behaviour.log.unwrap(), &message);
        }
        "tools/call" if behaviour.held.is_some_and(|held| message["params"]["name"] == held) => {
            shared.released.subscribe().wait_for(|released| *released).await.unwrap();
            json!({"content": [{"type": "text", "text": format!("did {}", message["params"]["name"])}]})
        }
        "tools/call" if behaviour.misbehaves() => return misbehaved(behaviour, &message["id"]),
        "tools/call" if behaviour.answers.iter().any(|(tool, ..)| message["params"]["name"] == **tool) => {
            let answer = behaviour.answers.iter().find(|(tool, ..)| message["params"]["name"] == **tool);
            let (_, text, failed) = answer.unwrap();
            json!({"content": [{"type": "text", "text": text}], "isError": failed})
        }
        "tools/call" if !behaviour.pods.is_empty() => {
            let (tool, arguments) =
                (message["params"]["name"].as_str().unwrap(), &message["params"]["arguments"]);
            let (text, failed) = lab_cluster::answer(&behaviour.pods, tool, arguments);
            json!({"content": [{"type": "text", "text": text}], "isError": failed})
        }
        "tools/call" => {
            json!({"content": [{"type": "text", "text": format!("did {}", message["params"]["name"])}]})
        }
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

fn log(log: Log, message: &Value) -> Response {
    const LINE: &str = "a line of a log, as long as lines are\\n";
    let size = (log.size)(message["params"]["arguments"]["tail"].as_u64().unwrap_or(0));
    let text = LINE.repeat(size.div_ceil(LINE.len() - 1));
    let id = &message["id"];
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}error: it is broken"}}]}}}}"#
    );
    let (kind, body) = if log.events {
        ("text/event-stream", format!("data: {answer}\n\n"))
    } else {
        ("application/json", answer)
    };
    let body = if log.chunked {
        let chunks: Vec<_> = body.into_bytes().chunks(1 << 20).map(Bytes::copy_from_slice).collect();
        axum::body::Body::from_stream(futures::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>)))
    } else {
        body.into()
    };
    ([("content-type", kind)], body).into_response()
}

fn listed(behaviour: &Behaviour) -> Value {
    let tool = |(name, reads): &(&'static str, bool)| {
        let schema = behaviour.schemas.get(name).cloned().unwrap_or(json!({"type": "object"}));
        let said = behaviour.descriptions.iter().find(|(tool, _)| tool == name).map(|(_, said)| said);
        json!({"name": name, "description": said, "inputSchema": schema, "annotations": {"readOnlyHint": reads}})
    };
    let tools: Vec<Value> = behaviour.tools.iter().map(tool).collect();
    if behaviour.endless_pages {
        json!({"tools": tools, "nextCursor": "again"})
    } else {
        json!({"tools": tools})
    }
}

impl Behaviour {
    fn misbehaves(&self) -> bool {
        self.drips || self.raw.is_some() || self.drop_calls
    }
}

/// Returns the misbehaving response to a call.
fn misbehaved(behaviour: Behaviour, id: &Value) -> Response {
    let json = [("content-type", "application/json")];
    if let Some(text) = behaviour.raw.filter(|_| !behaviour.drips) {
        return (json, text.replace("ID", &id.to_string())).into_response();
    }
    if behaviour.drips {
        let bytes = futures::stream::unfold((), |()| async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        return (json, axum::body::Body::from_stream(bytes)).into_response();
    }
    let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("broken off")) });
    (json, axum::body::Body::from_stream(broken)).into_response()
}
