//! Servers that die, come back, or change their tools, over every transport.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, eventually, real_servers};
use regreen::mcp::CallError;
use serde_json::json;
use std::process::Command;
use tokio_util::sync::CancellationToken;

/// A server on standard streams that gets a second tool once the first was called, and says so.
const CHANGING: &str = r#"
const tools = [{name: 'first', inputSchema: {type: 'object'}, annotations: {readOnlyHint: true}}];
const send = (message) => process.stdout.write(JSON.stringify({jsonrpc: '2.0', ...message}) + '\n');
require('readline').createInterface({input: process.stdin}).on('line', (line) => {
  const {id, method, params} = JSON.parse(line);
  if (method === 'initialize') send({id, result: {protocolVersion: params.protocolVersion, capabilities: {tools: {listChanged: true}}, serverInfo: {name: 's', version: '1'}}});
  else if (method === 'tools/list') send({id, result: {tools}});
  else if (method === 'tools/call') {
    tools.push({name: 'second', inputSchema: {type: 'object'}});
    send({method: 'notifications/tools/list_changed'});
    send({id, result: {content: [{type: 'text', text: String(process.pid)}]}});
  }
});
"#;

async fn call(app: &TestApp, server: &str, tool: &str) -> Result<String, CallError> {
    let arguments = json!({"message": "hello"});
    app.call((server, tool), arguments, CancellationToken::new()).await.map(|result| result.text)
}

async fn changing() -> (TestApp, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server.js");
    std::fs::write(&script, CHANGING).unwrap();
    let table = format!(
        "[[mcp]]\nname = \"s\"\ntransport = \"stdio\"\ncommand = [\"node\", \"{}\"]\n",
        script.display()
    );
    (Setup::bare().await.file(&table).start().await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_of_tools_is_read_again() {
    let (app, _folder) = changing().await;
    assert!(app.mcp().find("s", "second").is_none());
    call(&app, "s", "first").await.unwrap();
    eventually("the second tool appears", async || app.mcp().find("s", "second").map(|_| ())).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_child_is_started_again_and_ends_with_the_service() {
    let (app, _folder) = changing().await;
    let first = call(&app, "s", "first").await.unwrap();
    assert!(Command::new("kill").args(["-9", &first]).status().unwrap().success());
    let second = eventually("a new child answers", async || {
        call(&app, "s", "first").await.ok().filter(|pid| *pid != first)
    })
    .await;
    app.stop().await;
    let alive = || Command::new("kill").args(["-0", &second]).output().unwrap().status.success();
    eventually("the child is gone", async || (!alive()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_that_is_dropped_is_opened_again() {
    let port = real_servers::free_port();
    let first = real_servers::everything_on(port, "sse", "/sse").await;
    let table = format!("[[mcp]]\nname = \"s\"\ntransport = \"sse\"\nurl = \"{}\"\n", first.url);
    let app = Setup::bare().await.file(&table).start().await;
    assert!(call(&app, "s", "echo").await.unwrap().contains("hello"));
    drop(first);
    eventually("the loss is noticed", async || (!app.mcp().is_connected("s")).then_some(())).await;
    let _second = real_servers::everything_on(port, "sse", "/sse").await;
    eventually("it answers again", async || call(&app, "s", "echo").await.ok()).await;
    app.stop().await;
}

fn cluster_tools() -> Behaviour {
    Behaviour {
        tools: vec![("pods_log", true), ("pods_get", true), ("events_list", true)],
        ..Behaviour::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_waits_for_a_cluster_that_is_away() {
    let gone = FakeMcp::start(cluster_tools()).await;
    let (address, table) = (gone.address, gone.table("openshift", ""));
    drop(gone);
    let app = Setup::bare().await.file(&table).start().await;
    let accepted =
        app.post(&json!({"namespace": "ci", "pod_name": "p"}), &[("prefer", "respond-async")]).await;
    let place = accepted.headers["location"].to_str().unwrap().to_owned();
    let _server = FakeMcp::start_on(cluster_tools(), address).await;
    eventually("the report is done", async || (app.get(&place).await.body["status"] == "done").then_some(()))
        .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_hands_back_what_runs() {
    let model = FakeModel::start(vec![Reply::Hang]).await;
    let app = Setup::whole().await.model(&model).start().await;
    let pod = regreen::demo::samples::sample("go-vet").unwrap().pod;
    app.post(&json!({"namespace": "ci", "pod_name": pod}), &[("prefer", "respond-async")]).await;
    eventually("the model is asked", async || (!model.requests().is_empty()).then_some(())).await;
    let pool = app.pool().await;
    app.stop().await;
    let (status, attempts): (String, i32) =
        sqlx::query_as("select status, attempts from reports").fetch_one(&pool).await.unwrap();
    assert_eq!((status.as_str(), attempts), ("queued", 0), "a stop is not a crash");
}
