//! A small MCP server over both HTTP transports: the older HTTP+SSE and streamable HTTP.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Revisions this server speaks, newest first.
const REVISIONS: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Messages that may wait for a slow reader.
const BUFFER: usize = 64;

/// What a tool does with its arguments.
pub(super) type Run = Box<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// A tool and what it does. The text of an `Err` is told to the caller as a failed call.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) read_only: bool,
    pub(super) schema: Value,
    pub(super) run: Run,
}

/// What a server offers.
pub(super) struct Offer {
    pub(super) name: &'static str,
    pub(super) tools: Vec<Tool>,
}

struct Shared {
    offer: Offer,
    /// Open event streams of the older transport.
    streams: Mutex<HashMap<String, mpsc::Sender<String>>>,
    /// Sessions of the newer one.
    sessions: Mutex<HashSet<String>>,
    stop: CancellationToken,
}

/// Routes of both transports: `/sse` with `/messages`, and `/mcp`.
pub(super) fn router(offer: Offer, stop: CancellationToken) -> Router {
    let shared = Arc::new(Shared { offer, streams: Mutex::default(), sessions: Mutex::default(), stop });
    Router::new()
        .route("/sse", get(open_stream))
        .route("/messages", post(take_message))
        .route("/mcp", post(streamable).delete(end_session))
        .layer(axum::middleware::from_fn(only_local))
        .with_state(shared)
}

/// A page of another site must not reach a server on loopback (DNS rebinding).
async fn only_local(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let local = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| {
            let host = text.trim_start_matches("http://").trim_start_matches("https://");
            host.starts_with("127.0.0.1") || host.starts_with("localhost") || host.starts_with("[::1]")
        })
    };
    let headers = request.headers();
    if ["origin", "host"].iter().filter_map(|name| headers.get(*name)).all(local) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this server is for programs on the same machine").into_response()
    }
}

async fn open_stream(
    State(shared): State<Arc<Shared>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let session = Uuid::new_v4().simple().to_string();
    let (sender, receiver) = mpsc::channel(BUFFER);
    let endpoint = Event::default().event("endpoint").data(format!("/messages?session={session}"));
    shared.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(session, sender);
    let messages = ReceiverStream::new(receiver).map(|text| Event::default().event("message").data(text));
    let events = futures::stream::once(async { endpoint }).chain(messages).map(Ok);
    let stop = shared.stop.clone();
    Sse::new(events.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::default())
}

async fn take_message(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let session = query.get("session").cloned().unwrap_or_default();
    let stream = shared.streams.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned();
    let Some(stream) = stream else {
        return (StatusCode::NOT_FOUND, "no such session").into_response();
    };
    if let Some(answer) = answer(&shared.offer, &body)
        && stream.send(answer.to_string()).await.is_err()
    {
        shared.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        return (StatusCode::GONE, "the event stream is closed").into_response();
    }
    StatusCode::ACCEPTED.into_response()
}

async fn streamable(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let session = headers.get("mcp-session-id").and_then(|value| value.to_str().ok());
    let begins =
        serde_json::from_slice::<Value>(&body).is_ok_and(|message| message["method"] == "initialize");
    let known = |id: &str| shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).contains(id);
    match session {
        Some(id) if !known(id) => return (StatusCode::NOT_FOUND, "no such session").into_response(),
        None if !begins => return (StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing").into_response(),
        _ => {}
    }
    let Some(answer) = answer(&shared.offer, &body) else {
        return StatusCode::ACCEPTED.into_response();
    };
    let mut response = Json(answer).into_response();
    if begins {
        let id = Uuid::new_v4().simple().to_string();
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("mcp-session-id", value);
        }
        shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }
    response
}

async fn end_session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> StatusCode {
    let id = headers.get("mcp-session-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    if known { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// The answer to one JSON-RPC message; notifications and responses have none.
fn answer(offer: &Offer, body: &[u8]) -> Option<Value> {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return Some(failure(&Value::Null, -32_700, "the message is not JSON"));
    };
    let id = message.get("id").cloned()?;
    let Some(method) = message["method"].as_str() else {
        // A response to a request of ours: we make none.
        return message
            .get("result")
            .or(message.get("error"))
            .is_none()
            .then(|| failure(&id, -32_600, "no method"));
    };
    let params = &message["params"];
    let result = match method {
        "initialize" => {
            let asked = params["protocolVersion"].as_str().unwrap_or_default();
            let revision = REVISIONS.iter().find(|known| **known == asked).unwrap_or(&REVISIONS[0]);
            json!({
                "protocolVersion": revision,
                "capabilities": {"tools": {"listChanged": false}},
                "serverInfo": {"name": offer.name, "version": env!("CARGO_PKG_VERSION")},
            })
        }
        "ping" => json!({}),
        "tools/list" => json!({"tools": offer.tools.iter().map(listed).collect::<Vec<_>>()}),
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            let Some(tool) = offer.tools.iter().find(|tool| tool.name == name) else {
                return Some(failure(&id, -32_602, &format!("unknown tool: {name}")));
            };
            called(tool, &params["arguments"])
        }
        other => return Some(failure(&id, -32_601, &format!("unknown method: {other}"))),
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn listed(tool: &Tool) -> Value {
    json!({
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.schema,
        "annotations": {"readOnlyHint": tool.read_only, "destructiveHint": !tool.read_only && tool.name.contains("delete")},
    })
}

fn called(tool: &Tool, arguments: &Value) -> Value {
    let required = tool.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if arguments.get(name).is_none() {
            let text = format!("the argument `{name}` is missing");
            return json!({"content": [{"type": "text", "text": text}], "isError": true});
        }
    }
    match (tool.run)(arguments) {
        Ok(Value::String(text)) => json!({"content": [{"type": "text", "text": text}], "isError": false}),
        Ok(value) => {
            let structured = if value.is_object() { value.clone() } else { json!({"result": value}) };
            json!({"content": [{"type": "text", "text": value.to_string()}], "structuredContent": structured, "isError": false})
        }
        Err(text) => json!({"content": [{"type": "text", "text": text}], "isError": true}),
    }
}

fn failure(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// Serves on a loopback port until the token fires; returns the address.
pub(super) async fn serve(
    router: Router,
    shutdown: &crate::shutdown::Shutdown,
) -> anyhow::Result<std::net::SocketAddr> {
    use axum::serve::ListenerExt as _;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        // Small answers should not wait for more to send; without it they only get slower.
        let _ = stream.set_nodelay(true);
    });
    let stop = shutdown.token().clone();
    shutdown.spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        {
            tracing::error!(%error, "a stand-in server ended");
        }
    });
    Ok(address)
}
