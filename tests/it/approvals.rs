//! Tools that change something, in chat: offered, but carried out only when a person has approved the very call.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply, Style};
use crate::support::sse::Event;
use crate::support::{Answer, Setup, TestApp, eventually};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::sync::Arc;
use tokio::sync::Notify;

/// A server with a tool that looks and two that change something.
async fn lab() -> FakeMcp {
    let tools = vec![("look", true), ("restart", false), ("scale", false)];
    FakeMcp::start(Behaviour { tools, ..Behaviour::default() }).await
}

async fn setup(lab: &FakeMcp, model: &FakeModel) -> Setup {
    Setup::bare().await.model(model).file(&lab.table("lab", ""))
}

fn restart(name: &str) -> Reply {
    Reply::call("restart", json!({"name": name, "options": {"wait": true, "after": 1.5}}))
}

async fn ask(app: &TestApp, message: &str) -> Value {
    let answer = app.send("/api/chat", &json!({"message": message, "author": "alice"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

/// Asks with a script in which the model calls `restart` once, and returns the call that waits.
async fn asked(app: &TestApp, model: &FakeModel) -> Value {
    model.push(vec![restart("checkout"), Reply::Text("The restart waits for you.")]);
    ask(app, "restart it").await["approvals"][0].clone()
}

async fn decide(app: &TestApp, approval: &Value, body: Value) -> Answer {
    app.send(&format!("/api/approvals/{}", approval["id"].as_str().unwrap()), &body).await
}

async fn approve(app: &TestApp, approval: &Value) -> Answer {
    decide(app, approval, json!({"decision": "approve", "author": "bob"})).await
}

async fn state(app: &TestApp, approval: &Value) -> Value {
    app.get(&format!("/api/approvals/{}", approval["id"].as_str().unwrap())).await.body
}

async fn detail(app: &TestApp, approval: &Value) -> Value {
    let id = approval["conversation_id"].as_str().unwrap();
    app.get(&format!("/api/conversations/{id}")).await.body
}

/// The events of a run, to its end.
async fn events(app: &TestApp, run: &Value) -> Vec<Event> {
    let url = format!("{}/api/chat/{}/events", app.base, run.as_str().unwrap());
    app.events(app.http.get(url)).await.until("done").await
}

fn names(events: &[Event]) -> Vec<&str> {
    let told = events.iter().map(|event| event.name.as_str());
    told.filter(|name| !matches!(*name, "text.delta" | "usage")).collect()
}

fn carried_out(lab: &FakeMcp) -> Vec<Value> {
    let sent = |message: &Value| json!({"name": message["params"]["name"], "arguments": message["params"]["arguments"]});
    lab.seen("tools/call").iter().map(sent).collect()
}

fn offered(request: &Value) -> Vec<String> {
    let tools = request["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn execute(pool: &PgPool, sql: &'static str, approval: &Value) {
    let done = sqlx::query(sql).bind(approval["id"].as_str().unwrap()).execute(pool).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_changes_something_waits_for_a_person() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app =
        setup(&lab, &model).await.set("REGREEN_PUBLIC_URL", "https://regreen.example.org/").start().await;
    model.push(vec![restart("checkout"), Reply::Text("The restart waits for you.")]);
    let body = json!({"message": "restart it", "author": "alice"});
    let mut stream = app.events(app.http.post(format!("{}/api/chat/stream", app.base)).json(&body)).await;
    let told = stream.until("done").await;
    assert_eq!(
        names(&told),
        ["message.start", "tool.started", "approval.required", "tool.finished", "message.start", "done"]
    );
    let required = &told.iter().find(|event| event.name == "approval.required").unwrap().data;
    let done = &told.last().unwrap().data;
    let approval = done["approvals"][0].clone();
    let arguments = json!({"name": "checkout", "options": {"wait": true, "after": 1.5}});
    assert_eq!(
        required,
        &json!({"approval": approval["id"], "tool": "restart", "server": "lab", "arguments": arguments, "expires_at": approval["expires_at"]})
    );
    // Nothing has happened, and the model was told so, with the place where it is decided.
    assert!(carried_out(&lab).is_empty());
    let link = format!("https://regreen.example.org/approvals/{}", approval["id"].as_str().unwrap());
    let messages = model.requests()[1]["messages"].clone();
    let answered = messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    assert!(answered.starts_with("Not carried out.") && answered.contains(&link), "{answered}");
    let text = done["message"]["text"].as_str().unwrap();
    assert!(text.starts_with("The restart waits for you.") && text.contains(&link), "{text}");
    assert_eq!((&approval["state"], &approval["run"]), (&json!("pending"), &done["run"]));
    let listed = app.get("/api/approvals?state=pending").await.body["approvals"].clone();
    assert_eq!((&listed, &detail(&app, &approval).await["approvals"]), (&json!([approval]), &listed));
    assert_eq!(detail(&app, &approval).await["evidence"], json!([]));
    assert!(carried_out(&lab).is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_call_is_carried_out_once_as_it_was_shown() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let approval = asked(&app, &model).await;
    model.push(vec![Reply::Text("It is restarted [E1:1].")]);
    let said = json!({"decision": "approve", "author": "bob", "note": "go ahead"});
    let decided = decide(&app, &approval, said).await;
    assert_eq!((decided.status, &decided.body["approval"]["decided_by"]), (200, &json!("bob")));
    let told = events(&app, &decided.body["run"]).await;
    assert_eq!(names(&told), ["tool.started", "tool.finished", "message.start", "done"]);
    let arguments = json!({"name": "checkout", "options": {"wait": true, "after": 1.5}});
    assert_eq!(carried_out(&lab), [json!({"name": "restart", "arguments": arguments})]);
    let done = &told.last().unwrap().data;
    assert_eq!(
        (&done["message"]["text"], &done["message"]["citations"][0]["verified"]),
        (&json!("It is restarted [E1:1]."), &json!(true))
    );
    // The model read who said what and what came of it.
    let request = model.requests()[2]["messages"].to_string();
    for part in ["bob approved this call of `restart`", "go ahead", "did \\\"restart\\\"", "<<data"] {
        assert!(request.contains(part), "{part}: {request}");
    }
    let after = state(&app, &approval).await;
    assert_eq!(
        (&after["state"], &after["evidence"], &after["told_in"]),
        (&json!("done"), &json!("E1"), &decided.body["run"])
    );
    let conversation = detail(&app, &approval).await;
    let authors: Vec<&Value> =
        conversation["history"].as_array().unwrap().iter().map(|said| &said["author"]).collect();
    assert_eq!(authors, ["alice", "fake", "bob", "fake"]);
    let call = &conversation["runs"][1]["made"]["tool_calls"][0];
    assert_eq!(
        (&call["name"], &call["turn"], &call["failed"]),
        (&json!("restart"), &json!(0), &json!(false))
    );
    let id = approval["conversation_id"].as_str().unwrap();
    let evidence = app.get(&format!("/api/conversations/{id}/evidence/E1")).await;
    assert_eq!(evidence.body, json!("did \"restart\""));
    // It cannot be decided again.
    let again = decide(&app, &approval, json!({"decision": "deny"})).await;
    assert_eq!(again.status, 409);
    assert!(again.body["detail"].as_str().unwrap().contains("bob approved this call already"), "{again:?}");
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    assert_eq!(carried_out(&lab).len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_or_late_is_not_carried_out() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let approval = asked(&app, &model).await;
    model.push(vec![Reply::Text("Then not.")]);
    let denied =
        decide(&app, &approval, json!({"decision": "deny", "author": "bob", "note": "not today"})).await;
    let told = events(&app, &denied.body["run"]).await;
    assert_eq!(told.last().unwrap().data["message"]["text"], "Then not.");
    let request = model.requests().last().unwrap()["messages"].to_string();
    assert!(request.contains("bob denied this call") && request.contains("not today"), "{request}");
    assert_eq!(state(&app, &approval).await["state"], "denied");
    let again = approve(&app, &approval).await;
    assert_eq!(again.status, 409);
    assert!(again.body["detail"].as_str().unwrap().contains("bob denied"), "{again:?}");
    // Too late is too late.
    let late = asked(&app, &model).await;
    let past = "update approvals set expires_at = now() - interval '1 second' where id = $1::uuid";
    execute(&app.pool().await, past, &late).await;
    assert_eq!(state(&app, &late).await["state"], "expired");
    assert_eq!(app.get("/api/approvals?state=pending").await.body["approvals"], json!([]));
    assert_eq!(app.get("/api/approvals?state=expired").await.body["approvals"][0]["id"], late["id"]);
    let refused = approve(&app, &late).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body["detail"].as_str().unwrap().contains("expired"), "{refused:?}");
    assert!(carried_out(&lab).is_empty());
    // Asked again, it waits anew.
    assert_eq!(asked(&app, &model).await["state"], "pending");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_approve_at_once_cause_one_call() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let setup = setup(&lab, &model).await;
    let database = setup.env()["DATABASE_URL"].clone();
    let first = setup.start().await;
    let second = self::setup(&lab, &model).await.set("DATABASE_URL", &database).start().await;
    let approval = asked(&first, &model).await;
    model.push(vec![Reply::Text("Done.")]);
    let (one, other) = tokio::join!(approve(&first, &approval), approve(&second, &approval));
    let (good, app) = if one.status == 200 { (&one, &first) } else { (&other, &second) };
    assert_eq!(one.status + other.status, 200 + 409, "{one:?} {other:?}");
    events(app, &good.body["run"]).await;
    assert_eq!(carried_out(&lab).len(), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conversation_goes_on_when_everything_is_decided() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let scale = |count: i32| Reply::call("scale", json!({"count": count}));
    model.push(vec![restart("a"), restart("a"), scale(2), scale(3), Reply::Text("Three calls wait.")]);
    let answer = ask(&app, "do it all").await;
    // The same call waits once.
    let waiting = answer["approvals"].as_array().unwrap().clone();
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    // Nor is it stored again by a later answer.
    model.push(vec![restart("a"), Reply::Text("It waits already.")]);
    let body = json!({"message": "again", "conversation_id": answer["conversation_id"]});
    assert_eq!(app.send("/api/chat", &body).await.body["approvals"], json!([]));
    assert!(model.requests().last().unwrap().to_string().contains("waits for a person's approval already"));
    let first = approve(&app, &waiting[0]).await;
    assert_eq!((first.status, &first.body["run"]), (200, &Value::Null));
    assert_eq!(decide(&app, &waiting[1], json!({"decision": "deny"})).await.body["run"], Value::Null);
    assert!(carried_out(&lab).is_empty());
    model.push(vec![Reply::Text("Two of three.")]);
    let last = approve(&app, &waiting[2]).await;
    events(&app, &last.body["run"]).await;
    let called: Vec<Value> = carried_out(&lab).iter().map(|call| call["arguments"].clone()).collect();
    let arguments = |index: usize| waiting[index]["arguments"].clone();
    assert_eq!(called, [arguments(0), arguments(2)]);
    let request = model.requests().last().unwrap()["messages"].to_string();
    assert!(request.contains("user denied this call of `scale`"), "{request}");
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_asks_for_eight_calls_at_most() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let calls = (0..10).map(|count| ("scale", json!({"count": count}).to_string())).collect();
    let style = crate::support::fake_model::Style::Whole;
    model.push(vec![Reply::Calls(calls, style), Reply::Text("Eight wait.")]);
    assert_eq!(ask(&app, "scale it").await["approvals"].as_array().unwrap().len(), 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_survives_a_restart() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let setup = setup(&lab, &model).await;
    let database = setup.env()["DATABASE_URL"].clone();
    let app = setup.start().await;
    let [approved, lost, taken] =
        [asked(&app, &model).await, asked(&app, &model).await, asked(&app, &model).await];
    app.stop().await;
    // One process died after a decision and before the call, one in the middle of the call.
    let pool = crate::support::pool(&database).await;
    let decided =
        "update approvals set state = 'approved', decided_at = now(), decided_by = 'bob' where id = $1::uuid";
    execute(&pool, decided, &approved).await;
    execute(&pool, decided, &lost).await;
    let dead = "insert into turns (id, conversation_id, lease_until, started_at)
                select '01a1f000-0000-7000-8000-00000000dead', conversation_id, now() - interval '1 second', now() from approvals where id = $1::uuid";
    execute(&pool, dead, &lost).await;
    let running = "update approvals set state = 'running', told_in = '01a1f000-0000-7000-8000-00000000dead' where id = $1::uuid";
    execute(&pool, running, &lost).await;
    let again = self::setup(&lab, &model).await.set("DATABASE_URL", &database).start().await;
    eventually("what was approved is carried out", async || {
        (state(&again, &approved).await["state"] == "done").then_some(())
    })
    .await;
    let failed = eventually("what was lost is said to be", async || {
        let state = state(&again, &lost).await;
        (state["state"] == "failed" && state["told_in"].is_string()).then_some(state)
    })
    .await;
    assert!(failed["error"].as_str().unwrap().contains("not known whether it was carried out"), "{failed}");
    let history = eventually("the conversation is told", async || {
        let history = detail(&again, &lost).await["history"].clone();
        (history.as_array().unwrap().len() == 4).then_some(history)
    })
    .await;
    assert!(history[2]["text"].as_str().unwrap().contains("not known"), "{history}");
    let taken = approve(&again, &taken).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    events(&again, &taken.body["run"]).await;
    assert_eq!(carried_out(&lab).len(), 2, "the lost one is not repeated");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_while_the_answer_is_written_waits_for_its_end() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let gate = Arc::new(Notify::new());
    model.push(vec![
        restart("checkout"),
        Reply::Gated("It waits", Arc::clone(&gate), " for you."),
        Reply::Text("Restarted."),
    ]);
    let body = json!({"message": "restart it"});
    let mut stream = app.events(app.http.post(format!("{}/api/chat/stream", app.base)).json(&body)).await;
    stream.until("text.delta").await;
    let approval = app.get("/api/approvals?state=pending").await.body["approvals"][0].clone();
    let decided = approve(&app, &approval).await;
    assert_eq!(
        (&decided.body["approval"]["state"], &decided.body["run"]),
        (&json!("approved"), &Value::Null)
    );
    assert!(carried_out(&lab).is_empty());
    gate.notify_one();
    let done = stream.until("done").await.pop().unwrap().data;
    let told = events(&app, &done["next_run"]).await;
    assert_eq!(told.last().unwrap().data["message"]["text"], "Restarted.");
    assert_eq!((carried_out(&lab).len(), &state(&app, &approval).await["state"]), (1, &json!("done")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_calls_from_beginning_and_what_is_not_answered_is_not_repeated() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let table = lab.table("lab", "call_timeout = \"2s\"");
    let app = Setup::bare().await.model(&model).file(&table).start().await;
    model.push(vec![restart("a"), restart("b"), Reply::Text("Both wait.")]);
    let waiting = ask(&app, "restart both").await["approvals"].clone();
    lab.behave(|behaviour| behaviour.hang = true);
    approve(&app, &waiting[0]).await;
    let run = approve(&app, &waiting[1]).await.body["run"].clone();
    lab.wait_for("tools/call").await;
    let url = format!("/api/chat/{}", run.as_str().unwrap());
    assert_eq!(app.ask(reqwest::Method::DELETE, &url, &Value::Null).await.status, 202);
    assert_eq!(events(&app, &run).await.last().unwrap().data["stop_reason"], "cancelled");
    for (index, word) in [(0, "not known whether it was carried out"), (1, "stopped before")] {
        let state = state(&app, &waiting[index]).await;
        assert_eq!(state["state"], "failed");
        assert!(state["error"].as_str().unwrap().contains(word), "{state}");
    }
    assert_eq!(carried_out(&lab).len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_program_says_what_came_of_it() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let setup = setup(&lab, &model).await;
    let database = setup.env()["DATABASE_URL"].clone();
    let app = setup.start().await;
    let approval = asked(&app, &model).await;
    app.stop().await;
    let bare = Setup::bare().await.file(&lab.table("lab", "")).set("DATABASE_URL", &database).start().await;
    let run = approve(&bare, &approval).await.body["run"].clone();
    let done = events(&bare, &run).await.pop().unwrap().data;
    let text = done["message"]["text"].as_str().unwrap();
    assert!(text.contains("`restart` of `lab`: carried out") && text.contains("did \"restart\""), "{text}");
    assert_eq!(done["message"]["citations"][0]["verified"], true, "{done}");
    let conversation = detail(&bare, &approval).await;
    assert_eq!(conversation["runs"][1]["made"]["tool_calls"][0]["name"], "restart");
    bare.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_openai_endpoint_read_what_waits_whatever_the_model_says() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    model.push(vec![restart("checkout"), Reply::Text("All done!")]);
    let body = json!({"model": "troubleshooter", "messages": [{"role": "user", "content": "restart it"}]});
    let answer = app.send("/v1/chat/completions", &body).await;
    let approval = app.get("/api/approvals").await.body["approvals"][0]["id"].clone();
    let text = answer.body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("Not carried out yet") && text.contains(approval.as_str().unwrap()), "{text}");
    assert!(carried_out(&lab).is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_hold_a_secret_are_refused() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let secret = ["hunter2", "hunter2"].concat();
    model
        .push(vec![Reply::call("restart", json!({"password": secret})), Reply::Text("Tell me where it is.")]);
    let answer = ask(&app, "restart it").await;
    assert_eq!((&answer["approvals"], &answer["tool_calls"][0]["failed"]), (&json!([]), &json!(true)));
    let told = model.requests().last().unwrap().to_string();
    assert!(told.contains("name it by reference"), "{told}");
    assert!(!answer.to_string().contains(&secret));
    assert_eq!(app.get("/api/approvals").await.body["approvals"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_tools_are_offered_in_chat_alone_and_only_to_agents_that_may() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    app.report("dns").await;
    assert!(!model.requests().is_empty());
    for request in model.requests() {
        let offered = offered(&request);
        assert!(!offered.iter().any(|tool| tool == "pods_delete" || tool == "create_issue"), "{offered:?}");
    }
    let agents = app.get("/api/agents").await.body["agents"].clone();
    let id = |name: &str| {
        let agent = agents.as_array().unwrap().iter().find(|agent| agent["name"] == name);
        agent.unwrap()["id"].clone()
    };
    for (agent, writes) in
        [("troubleshooter", true), ("failure-analyst", true), ("read-only explainer", false)]
    {
        model.push(vec![Reply::Text("ok")]);
        let answer = app.send("/api/chat", &json!({"message": "hello", "agent_id": id(agent)})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let offered = offered(&model.requests().pop().unwrap());
        assert_eq!(offered.iter().any(|tool| tool == "create_issue"), writes, "{agent}: {offered:?}");
        assert!(!offered.iter().any(|tool| tool == "pods_delete"), "no rule names it: {offered:?}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_that_cannot_be_made_are_refused() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = setup(&lab, &model).await.start().await;
    let approval = asked(&app, &model).await;
    for (body, status, word) in [
        (json!({}), 422, "decision"),
        (json!({"decision": "yes"}), 422, "approve or deny"),
        (json!({"decision": "approve", "note": "x".repeat(4_001)}), 422, "note"),
        (json!({"decision": "approve", "author": "a\nb"}), 422, "author"),
        (json!([]), 400, "object"),
    ] {
        let refused = decide(&app, &approval, body).await;
        assert_eq!(refused.status, status, "{:?}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains(word), "{:?}", refused.body);
    }
    let nobody = "/api/approvals/01a1f000-0000-7000-8000-00000000ffff";
    assert_eq!(app.send(nobody, &json!({"decision": "approve"})).await.status, 404);
    assert_eq!(app.get(nobody).await.status, 404);
    assert_eq!(app.get("/api/approvals?state=maybe").await.status, 422);
    assert_eq!(state(&app, &approval).await["state"], "pending");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_comes_on_top_of_what_is_there() {
    let pool = crate::support::pool(&crate::support::fresh_database().await).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let at = files.iter().position(|file| file.to_string_lossy().contains("_approvals")).unwrap();
    let apply = async |file: &std::path::Path| {
        let sql = std::fs::read_to_string(file).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    for file in &files[..at] {
        apply(file).await;
    }
    let seeded = "insert into conversations (id, title, created_at, updated_at) values ('01a1f000-0000-7000-8000-00000000c001', 't', now(), now());
         insert into turns (id, conversation_id, lease_until, started_at, state, finished_at)
         values ('01a1f000-0000-7000-8000-00000000c002', '01a1f000-0000-7000-8000-00000000c001', now(), now(), 'done', now())";
    sqlx::raw_sql(seeded).execute(&pool).await.unwrap();
    apply(&files[at]).await;
    let asked = "insert into approvals (id, conversation_id, turn_id, server, tool, server_tool, arguments, hash, asked_at, expires_at)
         select id, conversation_id, id, 's', 't', 't', '{}', 'h', now(), now() from turns";
    sqlx::query(asked).execute(&pool).await.unwrap();
    sqlx::query("delete from conversations").execute(&pool).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from approvals").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_begins_no_more_calls_and_what_was_done_stays_on_record() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = Setup::bare().await.model(&model).file(&lab.table("lab", "")).start().await;
    let scale = ("scale", json!({"name": "checkout"}).to_string());
    let restart = ("restart", json!({"name": "checkout"}).to_string());
    model.push(vec![Reply::Calls(vec![restart, scale], Style::Pieces), Reply::Text("Both wait.")]);
    let asked = ask(&app, "restart and scale it").await["approvals"].clone();
    lab.behave(|behaviour| behaviour.held = Some("restart"));
    approve(&app, &asked[0]).await;
    assert_eq!(approve(&app, &asked[1]).await.status, 200);
    lab.wait_for("tools/call").await;
    let path = format!("/api/conversations/{}", asked[0]["conversation_id"].as_str().unwrap());
    assert_eq!(app.ask(reqwest::Method::DELETE, &path, &json!({})).await.status, 204);
    lab.release();
    let recorded = eventually("the call that had begun is on record", async || {
        let entries = app.get("/api/audit?action=tool.call").await.body["entries"].clone();
        entries[0].is_object().then_some(entries)
    })
    .await;
    assert_eq!((&recorded[0]["object"], &recorded[0]["outcome"]), (&json!("lab restart"), &json!("done")));
    let deleted = app.get("/api/audit?action=conversation.delete").await.body["entries"].clone();
    assert_eq!(deleted[0]["object"], asked[0]["conversation_id"]);
    let lines = app.get("/api/audit/export").await.body.as_str().unwrap().to_owned();
    assert!(lines.lines().count() >= 4 && lines.contains("\"approval.approve\""), "{lines}");
    // Its answer ends, and nothing else of it is carried out.
    app.stop().await;
    assert_eq!(lab.seen("tools/call").len(), 1);
}
