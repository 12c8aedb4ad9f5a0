//! Questions and answers: cited, streamed, resumed, stopped, and given when there is no model.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::sse::Event;
use crate::support::{Answer, Setup, TestApp, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

async fn ask(app: &TestApp, body: Value) -> Answer {
    app.send("/api/chat", &body).await
}

async fn incident(app: &TestApp, slug: &str) -> Value {
    app.report(slug).await;
    app.get("/api/incidents").await.body["incidents"][0].clone()
}

fn texts(events: &[Event]) -> String {
    let deltas = events.iter().filter(|event| event.name == "text.delta");
    deltas.map(|event| event.data["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_an_incident_cites_its_evidence_and_what_tools_told() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let incident = incident(&app, "dns").await;
    model.push(vec![
        Reply::call("pods_list_in_namespace", json!({"namespace": "ci"})),
        Reply::Text("The log says so [E1:3], the pods too [E4:1-2]."),
    ]);
    let secret = ["hunter2", "hunter2"].concat();
    let question = format!("why do you think so? password={secret}");
    let answer =
        ask(&app, json!({"incident_id": incident["id"], "message": question, "author": "alice"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let message = &answer.body["message"];
    assert_eq!(
        (&message["author"], &answer.body["stop_reason"]),
        (&json!("fake"), &json!("answered")),
        "{message}"
    );
    let citations = message["citations"].as_array().unwrap();
    assert_eq!(citations.len(), 2, "{message}");
    for citation in citations {
        assert_eq!(citation["verified"], true, "{citation}");
        let piece = app.get(citation["url"].as_str().unwrap()).await;
        let first = citation["quote"].as_str().unwrap().lines().next().unwrap().to_owned();
        assert!(!first.is_empty() && piece.body.as_str().unwrap().contains(&first), "{citation}");
    }
    assert!(citations[1]["url"].as_str().unwrap().starts_with("/api/conversations/"), "{citations:?}");
    assert_eq!(answer.body["tool_calls"][0]["name"], "pods_list_in_namespace");
    assert_eq!(answer.body["usage"], json!({"input_tokens": 200, "output_tokens": 40}));
    let asked = model.requests().last().unwrap().to_string();
    assert!(asked.contains(incident["title"].as_str().unwrap()) && !asked.contains(&secret), "{asked}");
    // It went on in the incident's own conversation, where the investigation stands.
    let conversation = answer.body["conversation_id"].as_str().unwrap();
    let detail = app.get(&format!("/api/conversations/{conversation}")).await.body;
    assert_eq!(detail["incident_id"], incident["id"]);
    let authors: Vec<&Value> =
        detail["history"].as_array().unwrap().iter().map(|said| &said["author"]).collect();
    assert_eq!(authors, ["report", "fake", "alice", "fake"]);
    assert_eq!(detail["runs"][0]["made"]["claims_verified"], 2);
    assert_eq!(detail["evidence"][0]["label"], "E4");
    assert!(!detail.to_string().contains(&secret));
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn citations_that_lead_nowhere_are_given_back_once_and_marked() {
    let model = FakeModel::start(vec![
        Reply::Text("See [E9:1]."),
        Reply::Text("See [E8:1], it is `invented-host.example.org`."),
    ])
    .await;
    let app = Setup::bare().await.model(&model).start().await;
    let answer = ask(&app, json!({"message": "what is it?"})).await;
    let message = &answer.body["message"];
    assert_eq!(
        (&message["citations"][0]["mark"], &message["citations"][0]["verified"]),
        (&json!("E8:1"), &json!(false))
    );
    assert_eq!(message["not_found"], json!(["invented-host.example.org"]));
    assert_eq!(model.requests().len(), 2);
    assert!(model.requests()[1].to_string().contains("lead nowhere: E9:1"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_read_on_where_it_broke_off() {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("Half ", Arc::clone(&gate), "and half.")]).await;
    let app = Setup::bare().await.model(&model).start().await;
    let body = json!({"message": "tell me"});
    let mut stream = app.events(app.http.post(format!("{}/api/chat/stream", app.base)).json(&body)).await;
    let seen = stream.until("text.delta").await;
    let (run, conversation) = (stream.run.clone(), stream.conversation.clone());
    drop(stream);
    // One answer at a time.
    let again = ask(&app, json!({"message": "and?", "conversation_id": conversation})).await;
    assert_eq!((again.status, again.body["title"].as_str()), (409, Some("Conflict")), "{:?}", again.body);
    let url = format!("{}/api/chat/{run}/events", app.base);
    let last = seen.last().unwrap().id.to_string();
    let mut resumed = app.events(app.http.get(&url).header("last-event-id", &last)).await;
    gate.notify_one();
    let rest = resumed.until("done").await;
    let all: Vec<Event> = seen.into_iter().chain(rest).collect();
    assert_eq!(texts(&all), "Half and half.");
    let ids: Vec<i64> = all.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=i64::try_from(ids.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(all.last().unwrap().data["message"]["text"], "Half and half.");
    assert_eq!(all[0].name, "message.start");
    // Another process, or this one later, reads the same from the database.
    let pool = app.pool().await;
    eventually("all events are kept", async || {
        let kept = sqlx::query_scalar::<_, i64>("select count(*) from events where stream = $1::uuid");
        let kept = kept.bind(&run).fetch_one(&pool).await.unwrap();
        (kept == i64::try_from(all.len()).unwrap()).then_some(())
    })
    .await;
    let mut later = app.events(app.http.get(&url)).await;
    assert_eq!(later.until("done").await, all);
    assert_eq!(later.next().await, None);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_stopped_and_what_was_written_is_kept() {
    let never = Arc::new(Notify::new());
    let gated = || Reply::Gated("As far as it went", Arc::clone(&never), "no");
    let model = FakeModel::start(vec![gated(), gated()]).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_CHAT_ON_DISCONNECT", "stop").start().await;
    let ask = app.http.post(format!("{}/api/chat/stream", app.base)).json(&json!({"message": "go"}));
    let mut stream = app.events(ask.try_clone().unwrap()).await;
    stream.until("text.delta").await;
    let url = format!("/api/chat/{}", stream.run);
    assert_eq!(app.ask(Method::DELETE, &url, &Value::Null).await.status, 202);
    let done = stream.until("done").await.pop().unwrap();
    assert_eq!(done.data["stop_reason"], "cancelled");
    assert_eq!(done.data["message"]["text"], "As far as it went");
    assert_eq!(app.ask(Method::DELETE, &url, &Value::Null).await.status, 409);
    assert_eq!(app.ask(Method::DELETE, "/api/chat/none", &Value::Null).await.status, 404);
    // Leaving stops it too, where that is configured.
    let mut stream = app.events(ask).await;
    stream.until("text.delta").await;
    let (run, conversation) = (stream.run.clone(), stream.conversation.clone());
    drop(stream);
    // Not before it has ended: another reader would keep it going.
    eventually("the answer has ended", async || {
        let detail = app.get(&format!("/api/conversations/{conversation}")).await.body;
        detail["running"].is_null().then_some(())
    })
    .await;
    let events = format!("{}/api/chat/{run}/events", app.base);
    let last = app.events(app.http.get(&events)).await.until("done").await.pop().unwrap();
    assert_eq!(last.data["stop_reason"], "cancelled");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_process_died_is_told_and_does_not_block() {
    let app = Setup::bare().await.start().await;
    let first = ask(&app, json!({"message": "hello"})).await.body;
    let conversation = first["conversation_id"].as_str().unwrap();
    let run = "01a1f000-0000-7000-8000-00000000dead";
    let dead = "insert into turns (id, conversation_id, lease_until, started_at) values ($1::uuid, $2::uuid, now() - interval '1 second', now())";
    sqlx::query(dead).bind(run).bind(conversation).execute(&app.pool().await).await.unwrap();
    let mut events = app.events(app.http.get(format!("{}/api/chat/{run}/events", app.base))).await;
    assert!(events.until("failed").await[0].data["detail"].as_str().unwrap().contains("broke off"));
    assert_eq!(ask(&app, json!({"message": "again", "conversation_id": conversation})).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_record_answers() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole()
        .await
        .model(&model)
        .set("REGREEN_MODEL_MAX_ATTEMPTS", "1")
        .start()
        .await
        .read_up()
        .await;
    let incident = incident(&app, "dns").await;
    model.push(vec![Reply::Text("")]);
    let empty = ask(&app, json!({"message": "my pod says ImagePullBackOff"})).await.body;
    assert!(empty["message"]["text"].as_str().unwrap().contains("its answer was empty"), "{empty}");
    model.push(vec![Reply::Status(500, json!({"error": {"message": "kaputt"}}), None)]);
    let answer = ask(&app, json!({"incident_id": incident["id"], "message": "what now?"})).await;
    let message = &answer.body["message"];
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("The model fake did not answer") && text.contains("## Runbooks"), "{text}");
    assert!(text.contains(incident["title"].as_str().unwrap()), "{text}");
    assert_eq!(
        (&message["author"], &message["citations"][0]["verified"]),
        (&json!("rules"), &json!(true)),
        "{message}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_is_said_in_chat() {
    let app = Setup::whole().await.start().await;
    let incident = incident(&app, "dns").await;
    let say = async |message: &str| {
        let body = json!({"incident_id": incident["id"], "message": message, "author": "alice"});
        ask(&app, body).await.body["message"]["text"].as_str().unwrap().to_owned()
    };
    assert!(say("/correct").await.starts_with("Nothing was stored."));
    let said = say("/correct The wolpertinger was down\nfix: Restarted it").await;
    assert!(
        said.contains("alice corrected the cause") && said.ends_with("The incident is resolved."),
        "{said}"
    );
    let detail = app.get(&format!("/api/incidents/{}", incident["id"].as_str().unwrap())).await.body;
    let stored = &detail["resolutions"][0];
    assert_eq!(
        (&stored["origin"], &stored["author"], &detail["status"]),
        (&json!("chat"), &json!("alice"), &json!("resolved"))
    );
    assert_eq!(app.search("wolpertinger", "&kind=incident").await[0]["incident_id"], incident["id"]);
    let nothing = ask(&app, json!({"message": "/note x"})).await.body;
    assert!(nothing["message"]["text"].as_str().unwrap().contains("about no incident"), "{nothing}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_are_summed_up_once() {
    let long = "The runner of team blue has the tag big-disk. ".repeat(12);
    let long: &'static str = Box::leak(long.into_boxed_str());
    let model = FakeModel::start(vec![
        Reply::Text(long),
        Reply::Text("Summary: the tag is big-disk."),
        Reply::Text("second"),
        Reply::Text("third"),
    ])
    .await;
    let app = Setup::bare().await.model(&model).set("REGREEN_CHAT_HISTORY_TOKENS", "100").start().await;
    let first = ask(&app, json!({"message": "which tag?"})).await.body;
    let conversation = &first["conversation_id"];
    for message in ["and the second?", "and the third?"] {
        let answer = ask(&app, json!({"message": message, "conversation_id": conversation})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    let requests: Vec<String> = model.requests().iter().map(ToString::to_string).collect();
    assert_eq!(requests.len(), 4, "summed up once");
    assert!(requests[1].contains("Sum up this part"));
    for request in &requests[2..] {
        assert!(
            request.contains("Summary: the tag is big-disk.") && !request.contains("team blue"),
            "{request}"
        );
    }
    assert!(requests[3].contains("and the second?") && requests[3].contains("second"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_cannot_be_asked_are_refused() {
    let app = Setup::bare().await.start().await;
    let nobody = "01a1f000-0000-7000-8000-00000000ffff";
    for (body, status, word) in [
        (json!({}), 422, "message"),
        (json!({"message": "  "}), 422, "message"),
        (json!({"message": "x".repeat(100_001)}), 422, "100000"),
        (json!({"message": "x", "agent_id": "me"}), 422, "agent_id"),
        (json!({"message": "x", "agent_id": nobody}), 404, "agent"),
        (json!({"message": "x", "conversation_id": nobody}), 404, "conversation"),
        (json!({"message": "x", "incident_id": nobody}), 404, "incident"),
        (json!([]), 400, "object"),
    ] {
        for path in ["/api/chat", "/api/chat/stream"] {
            let refused = app.send(path, &body).await;
            assert_eq!(refused.status, status, "{:?}", refused.body);
            assert!(refused.body["detail"].as_str().unwrap().contains(word), "{:?}", refused.body);
        }
    }
    assert_eq!(app.get(&format!("/api/chat/{nobody}/events")).await.status, 404);
    app.stop().await;
}
