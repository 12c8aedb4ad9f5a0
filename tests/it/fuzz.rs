//! A short run of the fuzz targets: the corpus, and what a seeded mutator makes of it.

#[path = "../fuzz/checks.rs"]
mod checks;

use crate::support::Setup;
use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use regreen::config::ModelEndpoint;
use regreen::llm::{Model as _, OpenAi, Request};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Mutations of each input of the corpus.
const MUTATIONS: usize = 60;
/// Pieces that lead somewhere.
const PIECES: [&str; 16] = [
    "\u{1b}[31m",
    "\r\u{1b}[K",
    "\r",
    "\n\n",
    "error: ",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END ",
    "data:\n  a: ",
    "password=",
    "é\u{301}",
    "2026-01-01T00:00:00.1Z stdout F ",
    "{\"log\":\"",
    "exit status 1\n",
    "\u{0}",
    "…",
    "://a:b@c",
];

fn mutated(input: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 => drop(bytes.splice(at..at, random.choice(PIECES).unwrap().bytes())),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.usize(..200)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            _ => drop(bytes.drain(at..(at + random.usize(..40)).min(bytes.len()))),
        }
    }
    bytes
}

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let mut random = fastrand::Rng::with_seed(11);
    for path in inputs {
        let input = std::fs::read(path).unwrap();
        check(&input);
        for _ in 0..MUTATIONS {
            check(&mutated(&input, &mut random));
        }
    }
}

#[test]
fn clean_holds() {
    run("clean", checks::clean);
}

#[test]
fn excerpt_holds() {
    run("excerpt", checks::excerpt);
}

#[test]
fn redact_holds() {
    run("redact", checks::redact);
}

#[test]
fn fingerprint_holds() {
    run("fingerprint", checks::fingerprint);
}

/// Bodies that break parsers.
fn odd_bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "nul",
        "null",
        "[]",
        "7",
        "\"text\"",
        "{",
        "{}",
        "{\"a\":1e999}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":1,\"a\":2}",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(b"{\"a\":\"\xff\xfe\"}".to_vec());
    bodies.push("[".repeat(100_000).into_bytes());
    bodies.push("{\"a\":".repeat(100_000).into_bytes());
    bodies.push(format!("{{\"a\":{}{}}}", "[".repeat(120), "]".repeat(120)).into_bytes());
    bodies
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-z]{1,8}".prop_map(Value::from),
        Just(Value::from("\u{0}\u{202e}\u{feff}")),
        Just(Value::from("x".repeat(5_000))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every operation that takes JSON: its method, its path and the names of its fields.
pub fn operations() -> Vec<(reqwest::Method, String, Vec<String>)> {
    let api = serde_json::to_value(regreen::api::openapi()).unwrap();
    let mut found = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let name = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()).unwrap_or_default();
            let mut fields = BTreeSet::new();
            properties(&api, &api["components"]["schemas"][name], &mut fields);
            found.push((method.to_uppercase().parse().unwrap(), called(path), fields.into_iter().collect()));
        }
    }
    found
}

/// A path with something in the place of its parameters.
pub fn called(path: &str) -> String {
    path.replace("{id}", "01a20002-ce71-73fb-ae3e-7ffcf5c8eeeb").replace(['{', '}'], "")
}

fn properties(api: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    found.extend(schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let name = part["$ref"].as_str().and_then(|to| to.rsplit('/').next()).unwrap_or_default();
        properties(api, &api["components"]["schemas"][name], found);
        properties(api, part, found);
    }
}

/// Whatever comes, the answer is one of ours: never a 500, and an error in problem details.
#[tokio::test(flavor = "multi_thread")]
async fn every_json_route_answers_any_body() {
    let app = Setup::bare().await.set("REGREEN_BODY_LIMIT", "400000").start().await;
    let all = operations();
    assert!(all.len() >= 8, "{all:?}");
    let mut runner = TestRunner::deterministic();
    let mut before = String::new();
    for (method, path, fields) in all {
        let mut bodies = odd_bodies();
        for _ in 0..20 {
            let wanted = prop::sample::subsequence(fields.clone(), 0..=fields.len());
            let names = wanted.new_tree(&mut runner).unwrap().current();
            let object: serde_json::Map<String, Value> = names
                .into_iter()
                .map(|name| (name, any_json().new_tree(&mut runner).unwrap().current()))
                .collect();
            bodies.push(Value::Object(object).to_string().into_bytes());
        }
        for body in bodies {
            let shown = String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
            let request = app.http.request(method.clone(), format!("{}{path}", app.base));
            let request = request
                .header("content-type", "application/json")
                .header("prefer", "respond-async")
                .body(body);
            let answer = request.timeout(crate::support::PATIENCE).send().await;
            let answer = answer
                .unwrap_or_else(|error| panic!("{method} {path}: {error:?} to {shown}, after {before}"));
            let status = answer.status().as_u16();
            before = format!("{status} to {shown}");
            assert!(status < 500, "{method} {path} answered {status} to {shown}");
            if status >= 400 && !path.starts_with("/v1/") {
                let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
                assert_eq!(kind, "application/problem+json", "{method} {path} answered {status} to {shown}");
            }
        }
    }
    app.stop().await;
}

const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"I look\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"search_evidence\",\"arguments\":\"{\\\"pattern\\\"\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":\\\"x\\\"}\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";

/// A stream in any state ends in a completion or an error, and what is called has a name and an id.
#[tokio::test(flavor = "multi_thread")]
async fn model_streams_hold() {
    let model = FakeModel::start(Vec::new()).await;
    let settings = ModelEndpoint {
        url: model.url.clone(),
        api_key: None,
        name: "fake".into(),
        tool_calls: regreen::domain::ToolCalls::Native,
        temperature: None,
        max_output_tokens: None,
        request_timeout: crate::support::PATIENCE,
        idle_timeout: crate::support::PATIENCE,
        max_attempts: 1,
        backoff: std::time::Duration::ZERO,
    };
    let openai = OpenAi::new(settings, regreen::app::http_client().unwrap(), std::sync::Arc::default());
    let request = Request {
        messages: vec![regreen::domain::Message::User { text: "why?".into() }],
        tools: std::sync::Arc::from([]),
        choice: regreen::llm::ToolChoice::Any,
        account: None,
    };
    let mut random = fastrand::Rng::with_seed(12);
    let mut whole = 0;
    for round in 0..400 {
        let body =
            if round == 0 { STREAM.as_bytes().to_vec() } else { mutated(STREAM.as_bytes(), &mut random) };
        let body = String::from_utf8_lossy(&body).into_owned();
        let kind = if round % 10 == 9 { "application/json" } else { "text/event-stream" };
        model.push(vec![Reply::Raw(kind, body.clone())]);
        if let Ok(completion) = openai.complete(&request).await {
            whole += 1;
            assert!(
                completion.tool_calls.iter().all(|call| !call.id.is_empty() && !call.name.is_empty()),
                "{body}"
            );
        }
    }
    assert!(whole > 0 && whole < 400, "{whole}");
}

/// A server's answer in any state is a result or an error, and the next call works.
#[tokio::test(flavor = "multi_thread")]
async fn mcp_answers_hold() {
    let tools = vec![("look", true)];
    let server = FakeMcp::start(Behaviour { tools, ..Behaviour::default() }).await;
    let table = server.table("fake", "call_timeout = \"200ms\"\nconnect_timeout = \"2s\"");
    let app = Setup::bare().await.file(&table).start().await;
    let good = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"did it"},{"type":"image","data":"aGk=","mimeType":"image/png"}],"structuredContent":{"a":[1,2]},"isError":false}}"#;
    let mut random = fastrand::Rng::with_seed(13);
    let call = async || {
        let token = tokio_util::sync::CancellationToken::new();
        app.call(("fake", "look"), serde_json::json!({}), token).await
    };
    for _ in 0..60 {
        let answer = String::from_utf8_lossy(&mutated(good.as_bytes(), &mut random)).into_owned();
        server.behave(|behaviour| behaviour.raw = Some(answer));
        let _ = call().await;
    }
    server.behave(|behaviour| behaviour.raw = Some(good.to_owned()));
    let result = crate::support::eventually("it works again", async || call().await.ok()).await;
    assert!(result.text.starts_with("did it"), "{result:?}");
    app.stop().await;
}

/// An event stream that is no stream, or one event without an end: the session ends, and memory is bounded because the
/// connection is closed.
#[tokio::test(flavor = "multi_thread")]
async fn event_streams_of_servers_hold() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    let table =
        format!("[[mcp]]\nname = \"s\"\ntransport = \"sse\"\nurl = \"{url}\"\nconnect_timeout = \"30s\"\n");
    let app = Setup::bare().await.file(&table).start_unsettled().await;
    let mut random = fastrand::Rng::with_seed(14);
    let stream = b"event: endpoint\ndata: /messages\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n";
    for _ in 0..8 {
        let (mut client, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        client.write_all(head).await.unwrap();
        let _ = client.write_all(&mutated(stream, &mut random)).await;
        // Whatever it sends back is not answered.
        drop(client);
    }
    let endless = async {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = client.read(&mut asked).await.unwrap_or(0);
            if !asked[..read].starts_with(b"GET /sse") {
                continue;
            }
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ";
            client.write_all(head).await.unwrap();
            let (piece, mut written) = (vec![b'x'; 1 << 20], 0_usize);
            while client.write_all(&piece).await.is_ok() {
                written += 1;
                assert!(written < 200, "an event of {written} MiB is still read");
            }
            return written;
        }
    };
    let written =
        tokio::time::timeout(crate::support::PATIENCE, endless).await.expect("the connection is closed");
    assert!(written >= 60, "it was closed early: {written} MiB");
    app.stop().await;
}
