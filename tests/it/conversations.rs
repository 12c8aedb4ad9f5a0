//! Conversations and agents over the API.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

async fn ask(app: &TestApp, body: Value) -> Value {
    let answer = app.send("/api/chat", &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn titles(app: &TestApp, query: &str) -> Vec<String> {
    let page = app.get(&format!("/api/conversations?{query}")).await;
    assert_eq!(page.status, 200, "{:?}", page.body);
    let all = page.body["conversations"].as_array().unwrap().clone();
    all.iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_found_renamed_exported_and_removed() {
    let model = FakeModel::start(vec![Reply::Text("Use a wolpertinger."), Reply::Text("Hm.")]).await;
    let app = Setup::bare().await.model(&model).start().await;
    let first = ask(&app, json!({"message": "How is a **volume** grown?\nplease"})).await;
    ask(&app, json!({"message": "Second question"})).await;
    let id = first["conversation_id"].as_str().unwrap().to_owned();
    assert_eq!(titles(&app, "").await, ["Second question: Hm.", "How is a **volume** grown?"]);
    assert_eq!(titles(&app, "text=wolpertinger").await, ["How is a **volume** grown?"]);
    assert_eq!(titles(&app, "text=nothing").await, [""; 0]);
    assert_eq!(titles(&app, "until=2020-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(titles(&app, "since=2020-01-01T00:00:00Z&limit=1").await, ["Second question: Hm."]);
    let page = app.get("/api/conversations?limit=1").await.body;
    let next = page["next"].as_str().unwrap();
    assert_eq!(titles(&app, &format!("limit=1&before={next}")).await, ["How is a **volume** grown?"]);
    assert_eq!(app.get("/api/conversations?since=yesterday").await.status, 422);
    let url = format!("/api/conversations/{id}");
    let renamed = app.ask(Method::PATCH, &url, &json!({"title": "Growing volumes"})).await;
    assert_eq!((renamed.status, &renamed.body["title"]), (200, &json!("Growing volumes")));
    assert_eq!(app.ask(Method::PATCH, &url, &json!({"title": "a\nb"})).await.status, 422);
    let markdown = app.get(&format!("{url}/export")).await;
    assert!(markdown.headers["content-disposition"].to_str().unwrap().ends_with(".md\""));
    let text = markdown.body.as_str().unwrap();
    assert!(
        text.starts_with("# Growing volumes\n\n## user (") && text.contains("Use a wolpertinger."),
        "{text}"
    );
    let whole = app.get(&format!("{url}/export?format=json")).await.body;
    assert_eq!(whole["history"].as_array().unwrap().len(), 2);
    assert_eq!(app.get(&format!("{url}/export?format=docx")).await.status, 422);
    assert_eq!(app.ask(Method::DELETE, &url, &Value::Null).await.status, 204);
    assert_eq!(app.ask(Method::DELETE, &url, &Value::Null).await.status, 404);
    assert_eq!(app.get(&url).await.status, 404);
    let left = sqlx::query(
        "select (select count(*) from messages where conversation_id = $1::uuid) + (select count(*) from documents where conversation_id = $1::uuid)
              + (select count(*) from turns where conversation_id = $1::uuid) + (select count(*) from chunks where text like '%wolpertinger%')
              + (select count(*) from tool_calls c left join runs r on r.id = c.run_id where r.id is null) as n",
    );
    let left = left.bind(&id).fetch_one(&app.pool().await).await.unwrap();
    assert_eq!(left.get::<i64, _>("n"), 0, "really gone");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_choose_prompt_model_and_tools() {
    let model = FakeModel::start(vec![Reply::Text("ok"), Reply::Text("ok"), Reply::Text("ok")]).await;
    let app = Setup::whole().await.model(&model).start().await;
    let shipped = app.get("/api/agents").await.body["agents"].clone();
    let names: Vec<&str> =
        shipped.as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["troubleshooter", "failure-analyst", "read-only explainer"]);
    for (body, status, word) in [
        (json!({"name": "a"}), 422, "prompt"),
        (json!({"prompt": "p"}), 422, "name"),
        (json!({"name": "a", "prompt": "Hi {{ nobody }}"}), 422, "undefined"),
        (json!({"name": "a", "prompt": "Hi {{ "}), 422, "syntax"),
        (json!({"name": "a", "prompt_file": "issue"}), 422, "agent-"),
        (json!({"name": "a", "prompt_file": "agent-nobody"}), 422, "agent-nobody"),
        (json!({"name": "a", "prompt": "p", "tools": ["x["]}), 422, "glob"),
        (json!({"name": "a", "prompt": "p", "temperature": 3}), 422, "temperature"),
        (json!({"name": "troubleshooter", "prompt": "p"}), 409, "troubleshooter"),
    ] {
        let refused = app.send("/api/agents", &body).await;
        assert_eq!(refused.status, status, "{body} {:?}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains(word), "{:?}", refused.body);
    }
    let own = json!({"name": "poet", "prompt": "You are {{ name }}, in rhymes.", "model": "other", "temperature": 0.5,
                     "tools": ["pods_*", "search_runbooks"], "turns": 3});
    let made = app.send("/api/agents", &own).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let answer = ask(&app, json!({"message": "hello", "agent_id": made.body["id"]})).await;
    let request = model.requests().pop().unwrap();
    assert_eq!((&request["model"], &request["temperature"]), (&json!("other"), &json!(0.5)));
    assert!(request["messages"][0]["content"].as_str().unwrap().starts_with("You are poet, in rhymes."));
    let mut tools: Vec<&str> = request["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    tools.sort_unstable();
    // What changes something is offered by the same globs, behind a person's approval; what destroys is not.
    assert_eq!(tools, ["pods_get", "pods_list_in_namespace", "pods_log", "search_runbooks"]);
    // The conversation stays with its agent.
    ask(&app, json!({"message": "more", "conversation_id": answer["conversation_id"]})).await;
    assert_eq!(model.requests().pop().unwrap()["model"], "other");
    let url = format!("/api/agents/{}", made.body["id"].as_str().unwrap());
    let changed = app.ask(Method::PATCH, &url, &json!({"description": "rhymes", "model": null})).await;
    assert_eq!(
        (&changed.body["description"], &changed.body["model"], &changed.body["turns"]),
        (&json!("rhymes"), &Value::Null, &json!(3))
    );
    let builtin = format!("/api/agents/{}", shipped[0]["id"].as_str().unwrap());
    assert_eq!(app.ask(Method::PATCH, &builtin, &json!({"name": "x"})).await.status, 409);
    assert_eq!(app.ask(Method::DELETE, &builtin, &Value::Null).await.status, 409);
    assert_eq!(app.ask(Method::DELETE, &url, &Value::Null).await.status, 204);
    assert_eq!(app.get(&url).await.status, 404);
    // Its conversation is answered by a shipped one.
    ask(&app, json!({"message": "and now", "conversation_id": answer["conversation_id"]})).await;
    assert_eq!(model.requests().pop().unwrap()["model"], "fake");
    app.stop().await;
}
