//! MCP servers that are added over the API.

use crate::support::{Setup, TestApp, eventually};
use regreen::demo::cluster;
use regreen::shutdown::Shutdown;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

async fn connected(app: &TestApp, name: &str) -> Value {
    eventually("the server is connected", async || {
        let status = app.get(&format!("/api/mcp-servers/{name}")).await.body;
        (status["state"] == "connected").then_some(status)
    })
    .await
}

async fn another(database: &str) -> Setup {
    Setup::bare().await.set("DATABASE_URL", database).set("REGREEN_ADDED_URLS", "127.0.0.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_server_connects_everywhere_survives_a_restart_and_goes() {
    let stand_in = Shutdown::new();
    let url = cluster::start(&stand_in).await.unwrap();
    let setup = Setup::bare().await.set("REGREEN_ADDED_URLS", "127.0.0.1");
    let database = setup.env()["DATABASE_URL"].clone();
    let first = setup.start().await;
    let second = another(&database).await.start().await;
    let settings =
        json!({"name": "lab", "transport": "sse", "url": url, "deny": ["pods_list*"], "headers": null});
    let added = first.send("/api/mcp-servers", &settings).await;
    assert_eq!((added.status, &added.body["added"]), (201, &json!(true)), "{:?}", added.body);
    assert_eq!(first.send("/api/mcp-servers", &settings).await.status, 409);
    for app in [&first, &second] {
        let status = connected(app, "lab").await;
        assert!(status["latency_ms"].is_number() && status["tools"].as_i64().unwrap() >= 4, "{status}");
    }
    let tools = first.get("/api/mcp-servers/lab/tools").await.body["tools"].clone();
    let policy = |name: &str| {
        let tool = tools.as_array().unwrap().iter().find(|tool| tool["name"] == name);
        tool.map(|tool| {
            let decisions = ["chat", "triage", "page"].map(|place| tool["policy"][place]["decision"].clone());
            (tool["access"].clone(), decisions, tool["input_schema"]["type"].clone())
        })
    };
    let all = |decision: &str| [json!(decision), json!(decision), json!(decision)];
    assert_eq!(policy("pods_log"), Some((json!("read"), all("allow"), json!("object"))), "{tools}");
    assert_eq!(policy("pods_delete"), Some((json!("write"), all("deny"), json!("object"))), "{tools}");
    assert_eq!(policy("pods_list_in_namespace"), None);
    assert_eq!(first.send("/api/mcp-servers/lab/reconnect", &Value::Null).await.status, 202);
    connected(&first, "lab").await;
    first.stop().await;
    let again = another(&database).await.start().await;
    connected(&again, "lab").await;
    let url = "/api/mcp-servers/lab";
    assert_eq!(again.ask(Method::DELETE, url, &Value::Null).await.status, 204);
    assert_eq!(again.get(url).await.status, 404);
    eventually("the other replica lets go of it", async || {
        (second.get(url).await.status == 404).then_some(())
    })
    .await;
    assert!(second.mcp().known(None).is_empty());
    assert_eq!(again.ask(Method::DELETE, url, &Value::Null).await.status, 404);
    second.stop().await;
    again.stop().await;
    stand_in.finish(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_to_an_added_server_is_refused() {
    let app = Setup::whole().await.set("REGREEN_ADDED_URLS", "x, 10.0.0.7").start().await;
    for (settings, status, word) in [
        (json!({"name": "a", "transport": "sse", "url": "http://y/"}), 422, "added_servers.urls"),
        (json!({"name": "a", "transport": "sse", "url": "http://u:p@x/"}), 422, "user or a password"),
        (
            json!({"name": "a", "transport": "streamable-http", "url": "http://0xa9fea9fe/latest/"}),
            422,
            "link-local",
        ),
        (
            json!({"name": "a", "transport": "websocket", "url": "ws://[::ffff:169.254.169.254]/"}),
            422,
            "link-local",
        ),
        (
            json!({"name": "a", "transport": "stdio", "command": ["sh", "-c", "id"]}),
            422,
            "added_servers.commands",
        ),
        (
            json!({"name": "a", "transport": "sse", "url": "http://x/", "headers": {"a": "plain"}}),
            422,
            "env:NAME",
        ),
        (
            json!({"name": "a", "transport": "sse", "url": "http://x/", "headers": {"a": "env:PATH"}}),
            422,
            "added_servers.secrets",
        ),
        (json!({"transport": "sse", "url": "http://x/"}), 422, "name"),
        (json!({"name": "openshift", "transport": "sse", "url": "http://x/"}), 409, "openshift"),
    ] {
        let refused = app.send("/api/mcp-servers", &settings).await;
        assert_eq!(refused.status, status, "{:?}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains(word), "{:?}", refused.body);
    }
    let own = app.ask(Method::DELETE, "/api/mcp-servers/openshift", &Value::Null).await;
    assert_eq!(own.status, 409, "{:?}", own.body);
    let all = app.get("/api/mcp-servers").await.body["servers"].clone();
    let names: Vec<&Value> = all.as_array().unwrap().iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["openshift", "gitea"]);
    assert_eq!(app.get("/api/mcp-servers/nobody/tools").await.status, 404);
    assert_eq!(app.send("/api/mcp-servers/nobody/reconnect", &Value::Null).await.status, 404);
    app.stop().await;
}
