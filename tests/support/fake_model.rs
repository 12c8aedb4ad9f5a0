//! A model endpoint on loopback that streams scripted answers and rejects an invalid history like real providers.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Chunking of tool calls in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Pieces,
    Whole,
    NoIndex,
    EmptyIds,
    PlainJson,
}

/// A scripted answer.
#[derive(Debug, Clone)]
pub enum Reply {
    Calls(Vec<(&'static str, String)>, Style),
    Text(&'static str),
    /// The rest follows when the gate opens.
    Gated(&'static str, Arc<Notify>, &'static str),
    Status(u16, Value, Option<&'static str>),
    /// The stream breaks off.
    Broken,
    /// Text before a tool call.
    Says(&'static str, &'static str, Value),
    /// Another reply with this usage; null omits it.
    Told(Value, Box<Reply>),
    /// This body with this content type.
    Raw(&'static str, String),
    /// The same bytes, repeated without end.
    Endless(&'static str),
    Hang,
}

impl Reply {
    pub fn call(name: &'static str, arguments: Value) -> Self {
        Self::Calls(vec![(name, arguments.to_string())], Style::Pieces)
    }

    /// Returns the reply with this usage; null omits it.
    pub fn told(self, usage: Value) -> Self {
        Self::Told(usage, Box::new(self))
    }
}

#[derive(Default)]
struct Journal {
    script: Mutex<VecDeque<Reply>>,
    latency: Mutex<std::time::Duration>,
    requests: Mutex<Vec<Value>>,
    refusals: Mutex<Vec<String>>,
    keys: Mutex<Vec<String>>,
    traces: Mutex<Vec<String>>,
}

/// The running endpoint.
pub struct FakeModel {
    pub url: String,
    journal: Arc<Journal>,
    server: JoinHandle<()>,
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeModel {
    /// Starts with a script; after its end, answers as an analyst that searches once and cites the result.
    pub async fn start(script: Vec<Reply>) -> Self {
        Self::start_on(script, 0).await
    }

    /// Starts on the given port.
    pub async fn start_on(script: Vec<Reply>, port: u16) -> Self {
        let journal = Arc::new(Journal { script: Mutex::new(script.into()), ..Journal::default() });
        let router =
            Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&journal));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, journal, server }
    }

    /// Sets the response time of further answers.
    pub fn take(&self, latency: std::time::Duration) {
        *self.journal.latency.lock().unwrap() = latency;
    }

    /// Appends replies to the script.
    pub fn push(&self, replies: Vec<Reply>) {
        self.journal.script.lock().unwrap().extend(replies);
    }

    /// Discards the remaining script.
    pub fn drop_script(&self) {
        self.journal.script.lock().unwrap().clear();
    }

    pub fn requests(&self) -> Vec<Value> {
        self.journal.requests.lock().unwrap().clone()
    }

    pub fn keys(&self) -> Vec<String> {
        self.journal.keys.lock().unwrap().clone()
    }

    /// Returns the `traceparent` of each request that had one.
    pub fn traces(&self) -> Vec<String> {
        self.journal.traces.lock().unwrap().clone()
    }

    /// Returns rejected histories; a passing test has none.
    pub fn refusals(&self) -> Vec<String> {
        self.journal.refusals.lock().unwrap().clone()
    }
}

async fn complete(State(journal): State<Arc<Journal>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let key = headers.get("authorization").map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    journal.keys.lock().unwrap().push(key);
    let trace = headers.get("traceparent").map(|told| told.to_str().unwrap().to_owned());
    journal.traces.lock().unwrap().extend(trace);
    journal.requests.lock().unwrap().push(request.clone());
    if let Err(problem) = check(&request) {
        journal.refusals.lock().unwrap().push(problem.clone());
        return (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": problem, "code": null}})))
            .into_response();
    }
    let latency = *journal.latency.lock().unwrap();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reply = journal.script.lock().unwrap().pop_front();
    match reply.unwrap_or_else(|| analyst(&request)) {
        Reply::Hang => std::future::pending().await,
        Reply::Told(usage, reply) => {
            let (parts, body) = respond(*reply).into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let usual = usual_usage().to_string();
            assert!(text.contains(&usual), "{text}");
            Response::from_parts(parts, Body::from(text.replace(&usual, &usage.to_string())))
        }
        reply => respond(reply),
    }
}

fn respond(reply: Reply) -> Response {
    match reply {
        Reply::Hang | Reply::Told(..) => unreachable!("answered by whoever calls"),
        Reply::Status(status, body, after) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            response
        }
        Reply::Raw(kind, body) => ([("content-type", kind)], body).into_response(),
        Reply::Endless(piece) => {
            let piece = Bytes::from(piece.repeat(64 * 1024 / piece.len()));
            let pieces = futures::stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
            ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
        }
        Reply::Broken => events(&[json!({"choices": [{"delta": {"content": "the rea"}}]})], false),
        Reply::Text(text) => {
            events(&[json!({"choices": [{"delta": {"content": text}}]}), finish("stop")], true)
        }
        Reply::Gated(first, gate, rest) => gated(first, gate, rest),
        Reply::Says(text, name, arguments) => {
            let call = json!({"index": 0, "id": "c0", "function": {"name": name, "arguments": arguments.to_string()}});
            let delta = json!({"content": text, "tool_calls": [call]});
            events(&[json!({"choices": [{"delta": delta}]}), finish("tool_calls")], true)
        }
        Reply::Calls(calls, style) => tool_calls(&calls, style),
    }
}

fn gated(first: &str, gate: Arc<Notify>, rest: &str) -> Response {
    let line = |value: Value| Ok::<_, Infallible>(format!("data: {value}\n\n"));
    let said = |text: &str| json!({"choices": [{"delta": {"content": text}}]});
    let before = futures::stream::iter([line(said(first))]);
    let after = [line(said(rest)), line(finish("stop")), Ok("data: [DONE]\n\n".to_owned())];
    let after = futures::stream::once(async move { gate.notified().await })
        .flat_map(move |()| futures::stream::iter(after.clone()));
    ([("content-type", "text/event-stream")], Body::from_stream(before.chain(after))).into_response()
}

fn usual_usage() -> Value {
    json!({"prompt_tokens": 100, "completion_tokens": 20})
}

pub(super) fn finish(reason: &str) -> Value {
    json!({"choices": [{"delta": {}, "finish_reason": reason}], "usage": usual_usage(), "x_extra": 1})
}

pub(super) fn events(chunks: &[Value], done: bool) -> Response {
    let mut text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if done {
        text.push_str("data: [DONE]\n\n");
    }
    ([("content-type", "text/event-stream")], Body::from(text)).into_response()
}

fn tool_calls(calls: &[(&'static str, String)], style: Style) -> Response {
    let delta = |value: Value| json!({"choices": [{"delta": {"tool_calls": [value]}}]});
    let mut chunks = Vec::new();
    if style == Style::PlainJson {
        let calls: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(index, (name, arguments))| json!({"id": format!("c{index}"), "type": "function", "function": {"name": name, "arguments": arguments}}))
            .collect();
        let answer = json!({"choices": [{"message": {"content": null, "tool_calls": calls}, "finish_reason": "tool_calls"}]});
        return Json(answer).into_response();
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let middle = arguments.len() / 2;
        match style {
            Style::Pieces => {
                chunks.push(delta(json!({"index": index, "id": format!("c{index}"), "function": {"name": name, "arguments": ""}})));
                chunks.push(delta(json!({"index": index, "function": {"arguments": arguments[..middle]}})));
                chunks.push(delta(json!({"index": index, "function": {"arguments": arguments[middle..]}})));
            }
            Style::NoIndex => {
                chunks.push(delta(json!({"id": format!("c{index}"), "function": {"name": name, "arguments": arguments[..middle]}})));
                chunks.push(delta(json!({"function": {"arguments": arguments[middle..]}})));
            }
            Style::EmptyIds => chunks.push(delta(
                json!({"index": 0, "id": "", "function": {"name": name, "arguments": arguments}}),
            )),
            Style::Whole | Style::PlainJson => {
                chunks.push(delta(json!({"index": index, "id": format!("c{index}"), "function": {"name": name, "arguments": arguments}})));
            }
        }
    }
    chunks.push(finish("tool_calls"));
    events(&chunks, true)
}

/// Searches the evidence, then cites the last line found.
fn analyst(request: &Value) -> Reply {
    let found =
        request["messages"].as_array().unwrap().iter().rev().filter(|message| message["role"] == "tool");
    let lines: Vec<String> = found
        .flat_map(|message| {
            message["content"].as_str().unwrap().lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let cited = lines.iter().rev().find_map(|line| {
        let (label, rest) = line.split_once(':')?;
        let (number, text) = rest.split_once(": ")?;
        Some((label.to_owned(), number.parse::<u32>().ok()?, text.to_owned()))
    });
    match cited {
        None => Reply::call("search_evidence", json!({"pattern": "error|failed|denied"})),
        Some((label, number, text)) => Reply::call(
            "submit_diagnosis",
            json!({
                "title": format!("Found: {text}"), "cause": format!("The log ends with this: {text}"), "class": "code", "confidence": "high",
                "claims": [{"statement": format!("It says: {text}"), "evidence": label, "first_line": number, "last_line": number, "quote": text}],
                "next_steps": []}),
        ),
    }
}

/// Validates a history by the rules of real providers.
pub(super) fn check(request: &Value) -> Result<(), String> {
    let tools = request["tools"].as_array().cloned().unwrap_or_default();
    let mut names = BTreeSet::new();
    for tool in &tools {
        let name = tool["function"]["name"].as_str().ok_or("a tool without a name")?;
        let legal = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !legal || !names.insert(name) {
            return Err(format!("illegal or repeated tool name {name}"));
        }
        if tool["function"]["parameters"]["type"] != "object" {
            return Err(format!("parameters of {name} are no object schema"));
        }
    }
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (index, message) in request["messages"].as_array().ok_or("no messages")?.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role != "tool" && !open.is_empty() {
            return Err(format!("message {index}: calls {open:?} were not answered"));
        }
        match role {
            "system" if index == 0 => {}
            "user" if message["content"].is_string() => {}
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                if !open.remove(id) || !message["content"].is_string() {
                    return Err(format!("message {index}: answers no open call"));
                }
            }
            "assistant" => {
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let id = call["id"].as_str().unwrap_or_default();
                    let arguments = call["function"]["arguments"].as_str().unwrap_or("x");
                    if id.is_empty()
                        || !open.insert(id.to_owned())
                        || serde_json::from_str::<Value>(arguments).is_err()
                    {
                        return Err(format!("message {index}: a call with a bad id or arguments"));
                    }
                }
            }
            other => return Err(format!("message {index}: role {other} does not belong here")),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("calls {open:?} were not answered")) }
}
