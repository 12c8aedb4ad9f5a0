//! Answers of MCP servers that are larger than is taken, over every transport: an error of their own call, and nobody else's.

use crate::support::fake_mcp::{Behaviour, FakeMcp, Log};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, eventually, real_servers};
use regreen::mcp::CallError;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

fn cluster(log: Log) -> Behaviour {
    let tools = vec![("pods_log", true), ("pods_get", true), ("events_list", true), ("wait", true)];
    let schema =
        json!({"type": "object", "properties": {"namespace": {}, "name": {}, "tail": {"type": "integer"}}});
    Behaviour {
        tools,
        schemas: [("pods_log", schema)].into(),
        log: Some(log),
        held: Some("wait"),
        ..Behaviour::default()
    }
}

async fn call(app: &TestApp, server: &str, tool: &str, arguments: Value) -> Result<String, CallError> {
    app.call((server, tool), arguments, CancellationToken::new()).await.map(|result| result.text)
}

/// The numbers of lines that were asked for.
fn tails(server: &FakeMcp) -> Vec<u64> {
    let calls = server.seen("tools/call");
    let logs = calls.iter().filter(|call| call["params"]["name"] == "pods_log");
    logs.map(|call| call["params"]["arguments"]["tail"].as_u64().unwrap()).collect()
}

async fn service(server: &FakeMcp) -> TestApp {
    let setup = Setup::whole().await.set("REGREEN_CLUSTER_SERVER", "fake");
    let setup = setup.set("REGREEN_CLUSTER_LOG_LINES", "100000");
    setup.file(&server.table("fake", "call_timeout = \"2m\"")).start().await
}

/// Reports a pod without a log, and what became of the report.
async fn reported(app: &TestApp) -> Value {
    let body = json!({"namespace": "ci", "pod_name": "checkout-pod"});
    let accepted = app.post(&body, &[("prefer", "respond-async")]).await;
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    let place = accepted.headers["location"].to_str().unwrap();
    eventually("the report is done", async || {
        let report = app.get(place).await.body;
        assert_ne!(report["status"], "failed", "{report}");
        (report["status"] == "done").then_some(report)
    })
    .await
}

fn collected(report: &Value) -> &str {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == "collect").unwrap()["detail"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_too_large_is_asked_for_again_with_less_and_the_session_stays() {
    let size = |tail| match tail {
        // Beyond what is read of an answer, beyond what is taken of a text, and neither.
        100_000 => 80 * MIB,
        25_000 => 40 * MIB,
        _ => 5_000,
    };
    let server = FakeMcp::start(cluster(Log { size, ..Log::default() })).await;
    let app = service(&server).await;
    let other = call(&app, "fake", "wait", json!({}));
    let report = async {
        server.wait_for("tools/call").await;
        let report = reported(&app).await;
        server.release();
        report
    };
    let (other, report) = tokio::join!(other, report);
    assert_eq!(other.unwrap(), "did \"wait\"", "another call of the session is not disturbed");
    assert_eq!(server.seen("initialize").len(), 1, "the session stays");
    assert_eq!(tails(&server), [100_000, 25_000, 6_250]);
    let detail = collected(&report);
    assert!(detail.contains("only its last 6250 lines were read: with the 100000"), "{detail}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_too_large_with_any_tail_is_a_gap() {
    let server = FakeMcp::start(cluster(Log { size: |_| 80 * MIB, ..Log::default() })).await;
    let app = service(&server).await;
    let report = reported(&app).await;
    let detail = collected(&report);
    assert!(detail.contains("larger than 64 MiB"), "{detail}");
    assert_eq!(
        tails(&server),
        [100_000, 25_000, 6_250, 1_562, 390, 100],
        "and the report is not begun again"
    );
    assert_eq!(server.seen("initialize").len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_told_in_words_that_a_result_is_too_large() {
    let server = FakeMcp::start(cluster(Log { size: |_| 80 * MIB, ..Log::default() })).await;
    let model =
        FakeModel::start(vec![Reply::call("pods_log", json!({"tail": 9})), Reply::Text("Too large.")]).await;
    let app = Setup::bare().await.model(&model).file(&server.table("fake", "")).start().await;
    let answer = app.send("/api/chat", &json!({"message": "what does it say?", "author": "alice"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let told = model.requests().last().unwrap()["messages"].to_string();
    assert!(told.contains("larger than 64 MiB") && told.contains("ask for less"), "{told}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_ends_its_own_call_however_it_is_sent() {
    let server = FakeMcp::start(cluster(Log::default())).await;
    let app = Setup::bare().await.file(&server.table("fake", "call_timeout = \"2m\"")).start().await;
    let other = call(&app, "fake", "wait", json!({}));
    let calls = async {
        server.wait_for("tools/call").await;
        for (chunked, events) in [(false, false), (true, false), (true, true)] {
            let log = |size| Some(Log { size, chunked, events });
            server.behave(|behaviour| behaviour.log = log(|_| 80 * MIB));
            let refused = call(&app, "fake", "pods_log", json!({"tail": 1})).await;
            let expected = CallError::TooLarge { server: "fake".into(), tool: "pods_log".into(), limit: 64 };
            assert_eq!(refused, Err(expected), "chunked: {chunked}, events: {events}");
            // More than rmcp's own limit for JSON.
            server.behave(|behaviour| behaviour.log = log(|_| 17 * MIB));
            let taken = call(&app, "fake", "pods_log", json!({"tail": 1})).await.unwrap();
            assert!(taken.len() >= 17 * MIB, "{}", taken.len());
        }
        server.release();
    };
    let (other, ()) = tokio::join!(other, calls);
    assert_eq!(other.unwrap(), "did \"wait\"");
    assert_eq!(server.seen("initialize").len(), 1, "one session for all of them");
    app.stop().await;
}

/// Over standard streams or, with a port, over the older transport with one event stream. The id of an answer comes last.
const LARGE: &str = r#"
const port = Number(process.argv[2]);
let down;
const send = (message) => port ? down.write(`event: message\ndata: ${message}\n\n`) : process.stdout.write(message + '\n');
const answer = (id, result) => send(`{"result":${JSON.stringify(result)},"jsonrpc":"2.0","id":${id}}`);
const text = (text) => ({content: [{type: 'text', text}]});
let waits;
const receive = (line) => {
  const {id, method, params} = JSON.parse(line);
  if (method === 'initialize') answer(id, {protocolVersion: params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 's', version: '1'}});
  else if (method === 'tools/list') answer(id, {tools: ['log', 'wait', 'release', 'who'].map((name) => ({name, inputSchema: {type: 'object'}, annotations: {readOnlyHint: true}}))});
  else if (method === 'ping') answer(id, {});
  else if (method === 'tools/call') {
    if (params.name === 'log') answer(id, text('{"id": 99}\n'.repeat(params.arguments.size / 11)));
    else if (params.name === 'wait') waits = id;
    else if (params.name === 'release') { answer(waits, text('waited')); answer(id, text('released')); }
    else answer(id, text(sessions + ' ' + process.pid));
  }
};
let sessions = 1;
if (!port) require('readline').createInterface({input: process.stdin}).on('line', receive);
else {
  sessions = 0;
  require('http').createServer((request, response) => {
    if (request.method === 'GET') {
      sessions += 1;
      down = response;
      response.writeHead(200, {'content-type': 'text/event-stream'});
      response.write('event: endpoint\ndata: /messages\n\n');
    } else {
      let body = '';
      request.on('data', (data) => body += data).on('end', () => { response.writeHead(202).end(); receive(body); });
    }
  }).listen(port, '127.0.0.1');
}
"#;

async fn large_over(app: &TestApp) {
    let who = call(app, "s", "who", json!({})).await.unwrap();
    assert!(who.starts_with("1 "), "{who}");
    let waits = call(app, "s", "wait", json!({}));
    let calls = async {
        let refused = call(app, "s", "log", json!({"size": 80 * MIB})).await;
        let expected = CallError::TooLarge { server: "s".into(), tool: "log".into(), limit: 64 };
        assert_eq!(refused, Err(expected));
        assert!(call(app, "s", "log", json!({"size": 17 * MIB})).await.unwrap().len() > 16 * MIB);
        call(app, "s", "release", json!({})).await.unwrap();
    };
    let (waited, ()) = tokio::join!(waits, calls);
    assert_eq!(waited.unwrap(), "waited");
    assert_eq!(
        call(app, "s", "who", json!({})).await.unwrap(),
        who,
        "the session and the process are the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_or_event_that_is_too_large_ends_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server.js");
    std::fs::write(&script, LARGE).unwrap();
    let table = |rest: &str| format!("[[mcp]]\nname = \"s\"\ncall_timeout = \"2m\"\n{rest}\n");
    let command = format!("transport = \"stdio\"\ncommand = [\"node\", \"{}\"]", script.display());
    let app = Setup::bare().await.file(&table(&command)).start().await;
    large_over(&app).await;
    app.stop().await;

    let port = real_servers::free_port();
    let child = std::process::Command::new("node").arg(&script).arg(port.to_string()).spawn();
    let mut child = child.unwrap();
    let url = format!("http://127.0.0.1:{port}/sse");
    let app = Setup::bare()
        .await
        .file(&table(&format!("transport = \"sse\"\nurl = \"{url}\"")))
        .start_unsettled()
        .await;
    eventually("it is connected", async || app.mcp().is_connected("s").then_some(())).await;
    large_over(&app).await;
    app.stop().await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_large_ends_its_own_call() {
    let server = real_servers::websocket_on(real_servers::free_port()).await;
    let table = format!(
        "[[mcp]]\nname = \"s\"\ncall_timeout = \"2m\"\ntransport = \"websocket\"\nurl = \"{}\"\nheaders = {{ authorization = \"Bearer t\" }}\n",
        server.url
    );
    let app = Setup::bare().await.file(&table).start().await;
    let echo = async |size: usize| {
        call(&app, "s", "echo", json!({"text": "0123456789abcde\n", "times": size / 16})).await
    };
    assert!(echo(17 * MIB).await.unwrap().len() > 16 * MIB, "more than a frame has by default");
    // Larger than is taken, and so large that the connection ends: the call is answered all the same.
    for size in [80 * MIB, 140 * MIB] {
        let refused = echo(size).await;
        assert!(matches!(refused, Err(CallError::TooLarge { .. })), "{size}: {refused:?}");
        eventually("it goes on", async || echo(16).await.ok()).await;
    }
    app.stop().await;
}
