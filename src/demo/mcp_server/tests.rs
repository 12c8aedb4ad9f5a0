//! Tests of both transports over loopback, with raw HTTP and with the product's client library.

use super::*;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::json;
use std::time::Duration;

/// A server with one tool of each effect.
struct TestServer {
    base: String,
    client: Client,
    shutdown: Shutdown,
}

fn offer() -> Offer {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
    let tool =
        |name, effect, run| Tool { name, description: "For tests", effect, schema: schema.clone(), run };
    Offer {
        name: "test-server",
        tools: vec![
            tool("echo", Effect::Reads, Box::new(|arguments| Ok(arguments["text"].clone()))),
            tool("list", Effect::Reads, Box::new(|arguments| Ok(json!([arguments["text"]])))),
            tool("keep", Effect::Adds, Box::new(|arguments| Ok(json!({"kept": arguments})))),
            tool("drop", Effect::Destroys, Box::new(|_| Err("nothing is dropped here".to_owned()))),
        ],
    }
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client")
}

async fn start() -> TestServer {
    let shutdown = Shutdown::new();
    let (listener, address) = bind().await.expect("a port");
    serve(listener, offer(), Router::new().route("/page", get(|| async { "a page" })), &shutdown);
    TestServer { base: format!("http://{address}"), client: client(), shutdown }
}

fn message(id: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call(id: u32, tool: &str, arguments: Value) -> Value {
    message(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

impl TestServer {
    fn post(&self, message: &Value) -> RequestBuilder {
        self.client.post(format!("{}/mcp", self.base)).header("accept", "application/json").json(message)
    }

    /// Initialises a streamable HTTP session.
    async fn begin(&self) -> String {
        let hello = message(0, "initialize", json!({"protocolVersion": "2025-06-18"}));
        let response = self.post(&hello).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        response.headers()["mcp-session-id"].to_str().expect("text").to_owned()
    }

    async fn ask(&self, session: &str, message: &Value) -> Value {
        let response = self.post(message).header("mcp-session-id", session).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }
}

/// Reader of the HTTP+SSE stream.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(server: &TestServer) -> (Self, String) {
        let response = server.client.get(format!("{}/sse", server.base)).send().await.expect("a stream");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { response, text: String::new() };
        let (kind, path) = events.next().await.expect("a first event");
        assert_eq!(kind, "endpoint");
        (events, format!("{}{path}", server.base))
    }

    /// Returns kind and data of the next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("event: ").zip(field("data: "));
                self.text = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            let chunk = self.response.chunk().await.expect("the stream goes on")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    async fn answer(&mut self) -> Value {
        let (kind, data) = self.next().await.expect("an answer");
        assert_eq!(kind, "message");
        serde_json::from_str(&data).expect("JSON")
    }
}

async fn send(server: &TestServer, url: &str, message: &Value) -> StatusCode {
    server.client.post(url).json(message).send().await.expect("an answer").status()
}

#[tokio::test]
async fn the_older_transport_answers_over_its_stream() {
    let server = start().await;
    let (mut events, url) = Events::open(&server).await;
    let hello = message(1, "initialize", json!({"protocolVersion": "2024-11-05"}));
    assert_eq!(send(&server, &url, &hello).await, StatusCode::ACCEPTED);
    let answer = events.answer().await;
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(answer["result"]["serverInfo"]["name"], "test-server");
    let silent = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(send(&server, &url, &silent).await, StatusCode::ACCEPTED);
    assert_eq!(
        send(&server, &url, &call(2, "echo", json!({"text": "one\ntwo"}))).await,
        StatusCode::ACCEPTED
    );
    let answer = events.answer().await;
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(2), &json!("one\ntwo")));
}

#[tokio::test]
async fn a_stream_that_was_closed_is_no_session_any_more() {
    let server = start().await;
    let (events, url) = Events::open(&server).await;
    drop(events);
    // The server notices it at the next access to the connection.
    let forgotten =
        async { while send(&server, &url, &message(1, "ping", json!({}))).await != StatusCode::NOT_FOUND {} };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("the session is forgotten");
    let unknown = format!("{}/messages?session=00000000-0000-4000-8000-000000000000", server.base);
    assert_eq!(send(&server, &unknown, &json!({})).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn stopping_ends_open_streams() {
    let server = start().await;
    let (mut events, _) = Events::open(&server).await;
    server.shutdown.token().cancel();
    assert_eq!(events.next().await, None);
    assert!(server.shutdown.finish(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn the_newer_transport_keeps_sessions() {
    let server = start().await;
    let ping = message(1, "ping", json!({}));
    let status = |request: RequestBuilder| async { request.send().await.expect("an answer").status() };
    assert_eq!(status(server.post(&ping)).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(server.post(&ping).header("mcp-session-id", "none")).await, StatusCode::NOT_FOUND);
    let session = server.begin().await;
    assert_eq!(server.ask(&session, &ping).await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    let silent = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    assert_eq!(status(server.post(&silent).header("mcp-session-id", &session)).await, StatusCode::ACCEPTED);
    let end = || server.client.delete(format!("{}/mcp", server.base)).header("mcp-session-id", &session);
    assert_eq!(status(end()).await, StatusCode::NO_CONTENT);
    assert_eq!(status(end()).await, StatusCode::NOT_FOUND);
    assert_eq!(status(server.post(&ping).header("mcp-session-id", &session)).await, StatusCode::NOT_FOUND);
    assert_eq!(
        status(server.client.get(format!("{}/mcp", server.base))).await,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn answers_come_in_the_form_asked_for() {
    let server = start().await;
    let session = server.begin().await;
    let request = |accept: &str| {
        let url = format!("{}/mcp", server.base);
        let request = server.client.post(url).header("mcp-session-id", &session).header("accept", accept);
        request.json(&message(7, "ping", json!({})))
    };
    let response = request("application/json, text/event-stream").send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("text");
    assert!(text.starts_with("event: message\ndata: {"), "{text}");
    assert_eq!(request("text/html").send().await.expect("an answer").status(), StatusCode::NOT_ACCEPTABLE);
    let old = request("application/json").header("mcp-protocol-version", "1999-01-01");
    assert_eq!(old.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let server = start().await;
    let session = server.begin().await;
    let listed = server.ask(&session, &message(1, "tools/list", json!({}))).await;
    let hints: Vec<_> = listed["result"]["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| (&tool["annotations"]["readOnlyHint"], &tool["annotations"]["destructiveHint"]))
        .map(|(read, destroy)| (read == true, destroy == true))
        .collect();
    assert_eq!(hints, [(true, false), (true, false), (false, false), (false, true)]);
    let result = |tool: &'static str, arguments: Value| {
        let (server, session) = (&server, &session);
        async move { server.ask(session, &call(2, tool, arguments)).await["result"].clone() }
    };
    let kept = result("keep", json!({"text": "a", "other": null})).await;
    assert_eq!(kept["structuredContent"], json!({"kept": {"text": "a"}}));
    assert_eq!(result("list", json!({"text": "a"})).await["structuredContent"], json!({"result": ["a"]}));
    let refused = result("drop", json!({"text": "a"})).await;
    assert_eq!(
        (&refused["isError"], &refused["content"][0]["text"]),
        (&json!(true), &json!("nothing is dropped here"))
    );
    for wrong in [json!({}), json!({"text": 1}), json!([1]), Value::Null] {
        assert_eq!(result("echo", wrong.clone()).await["isError"], true, "{wrong}");
    }
}

#[test]
fn errors_have_the_codes_of_json_rpc() {
    let offer = offer();
    let code =
        |body: &str| protocol::answer(&offer, body.as_bytes()).map(|answer| answer["error"]["code"].clone());
    let text = |value: &Value| value.to_string();
    assert_eq!(code("{"), Some(json!(-32_700)));
    assert_eq!(code("7"), Some(json!(-32_600)));
    assert_eq!(code("[]"), Some(json!(-32_600)));
    assert_eq!(code(r#"{"id": 1, "method": "ping"}"#), Some(json!(-32_600)));
    assert_eq!(code(r#"{"jsonrpc": "2.0", "id": null, "method": "ping"}"#), Some(json!(-32_600)));
    assert_eq!(code(r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#), None);
    assert_eq!(code(r#"{"jsonrpc": "2.0", "method": "notifications/unheard-of"}"#), None);
    assert_eq!(code(&text(&message(1, "resources/list", json!({})))), Some(json!(-32_601)));
    assert_eq!(code(&text(&call(1, "no-such-tool", json!({})))), Some(json!(-32_602)));
    assert_eq!(code(&text(&message(1, "tools/list", json!({"cursor": "2"})))), Some(json!(-32_602)));
}

#[test]
fn a_batch_is_answered_in_order_without_its_notifications() {
    let silent = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let batch = json!([message(1, "ping", json!({})), silent, message(2, "nothing", json!({}))]);
    let answers = protocol::answer(&offer(), batch.to_string().as_bytes()).expect("answers");
    let ids: Vec<_> = answers.as_array().expect("a list").iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(1), json!(2)]);
    assert_eq!(protocol::answer(&offer(), json!([silent]).to_string().as_bytes()), None);
}

#[test]
fn an_unknown_revision_gets_the_newest() {
    for (asked, agreed) in [("2025-03-26", "2025-03-26"), ("2099-01-01", "2025-11-25"), ("", "2025-11-25")] {
        let hello = message(1, "initialize", json!({"protocolVersion": asked}));
        let answer = protocol::answer(&offer(), hello.to_string().as_bytes()).expect("an answer");
        assert_eq!(answer["result"]["protocolVersion"], agreed);
    }
}

#[tokio::test]
async fn only_this_machine_is_let_in() {
    let server = start().await;
    let status = |name: &'static str, value: &'static str| {
        let request = server.client.get(format!("{}/page", server.base)).header(name, value);
        async { request.send().await.expect("an answer").status() }
    };
    for host in ["localhost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(status("host", host).await, StatusCode::OK, "{host}");
    }
    for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com:80", "127.0.0.1@example.com"]
    {
        assert_eq!(status("host", host).await, StatusCode::FORBIDDEN, "{host}");
    }
    assert_eq!(status("origin", "http://localhost:3000").await, StatusCode::OK);
    for origin in ["null", "https://example.com", "http://localhost.example.com", "file://"] {
        assert_eq!(status("origin", origin).await, StatusCode::FORBIDDEN, "{origin}");
    }
}

#[tokio::test]
async fn the_client_library_works_with_it() {
    use rmcp::ServiceExt as _;
    use rmcp::model::CallToolRequestParams;
    use rmcp::transport::StreamableHttpClientTransport;
    use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
    let server = start().await;
    let settings = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", server.base));
    let session =
        ().serve(StreamableHttpClientTransport::with_client(client(), settings)).await.expect("a session");
    assert_eq!(session.list_all_tools().await.expect("tools").len(), 4);
    let mut params = CallToolRequestParams::new("echo");
    params.arguments = json!({"text": "hello"}).as_object().cloned();
    let result = serde_json::to_value(session.call_tool(params).await.expect("a result")).expect("JSON");
    assert_eq!(result["content"][0]["text"], "hello");
    session.cancel().await.expect("ends");
}
