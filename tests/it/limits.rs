//! How much is let in: rates by address, open streams, answers in the making, reporters that wait, and a queue with an end.

use crate::access::key;
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Answer, Setup, TestApp, eventually};
use regreen::domain::Role;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

async fn from(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = app.http.get(format!("{}{path}", app.base));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    TestApp::read(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_again() {
    // One a minute: no test runs long enough for another one.
    let setup =
        Setup::bare().await.set("REGREEN_LIMIT_REQUESTS", "1").set("REGREEN_LIMIT_REQUESTS_BURST", "2");
    let app = setup.start().await;
    let first = app.get("/api/reports").await;
    assert_eq!((first.status, header(&first, "ratelimit-policy")), (200, "\"requests\";q=2;w=120"));
    assert!(header(&first, "ratelimit").starts_with("\"requests\";r=1;t="), "{:?}", first.headers);
    assert_eq!(app.get("/api/reports").await.status, 200);
    let refused = app.get("/api/reports").await;
    assert_eq!((refused.status, header(&refused, "content-type")), (429, "application/problem+json"));
    assert_eq!(refused.body["title"], "Too Many Requests");
    assert!(refused.body["detail"].as_str().unwrap().contains("`limits.requests_per_minute`"), "{refused:?}");
    let wait: u32 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(header(&refused, "ratelimit").starts_with("\"requests\";r=0;"), "{:?}", refused.headers);
    // People get a page, clients of the OpenAI API its own form, and nobody's word for another address is taken.
    let page = from(&app, "/", &[("accept", "text/html")]).await;
    assert_eq!((page.status, header(&page, "content-type")), (429, "text/html; charset=utf-8"));
    assert!(page.body.as_str().unwrap().contains("<h1>429 Too Many Requests</h1>"));
    let models = from(&app, "/v1/models", &[]).await;
    assert_eq!((models.status, &models.body["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(models.body["error"]["code"], "rate_limit_exceeded");
    assert!(!header(&models, "retry-after").is_empty());
    assert_eq!(from(&app, "/api/reports", &[("x-forwarded-for", "192.0.2.7")]).await.status, 429);
    // What keeps the service alive and the pages readable is not counted.
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(app.get(path).await.status, 200);
    }
    assert_eq!(app.get("/static/style.css").await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_counts_by_itself() {
    let setup = Setup::bare()
        .await
        .set("REGREEN_LIMIT_REQUESTS", "1")
        .set("REGREEN_LIMIT_REQUESTS_BURST", "1")
        .set("REGREEN_TRUSTED_PROXIES", "127.0.0.0/8, ::1");
    let app = setup.start().await;
    let asked = async |client: &str| from(&app, "/api/reports", &[("x-forwarded-for", client)]).await.status;
    assert_eq!([asked("192.0.2.1").await, asked("192.0.2.1").await], [200, 429]);
    assert_eq!(asked("192.0.2.2").await, 200);
    assert_eq!(asked("203.0.113.9, 192.0.2.2").await, 429, "what a client writes in front changes nothing");
    assert_eq!([asked("2001:db8:1:1::1").await, asked("2001:db8:1:1::2").await], [200, 429]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_show_who_they_are_count_by_name_too() {
    let setup = Setup::bare()
        .await
        .set("REGREEN_AUTH", "keys")
        .set("REGREEN_LIMIT_REQUESTS", "1")
        .set("REGREEN_LIMIT_REQUESTS_BURST", "1")
        .set("REGREEN_TRUSTED_PROXIES", "127.0.0.0/8");
    let app = setup.start().await;
    let keys = [key(&app, Role::Viewer, &[]).await, key(&app, Role::Viewer, &[]).await];
    let asked = async |key: &str, client: &str| {
        let bearer = format!("Bearer {key}");
        from(&app, "/api/reports", &[("authorization", &bearer), ("x-forwarded-for", client)]).await.status
    };
    assert_eq!(asked(&keys[0], "192.0.2.1").await, 200);
    assert_eq!(asked(&keys[0], "192.0.2.2").await, 429, "the same caller from another address");
    assert_eq!(asked(&keys[1], "192.0.2.1").await, 429, "another caller from the same address");
    assert_eq!(asked(&keys[1], "192.0.2.3").await, 200);
    // Guessing keys is counted by address.
    assert_eq!([asked("rgn_x", "192.0.2.9").await, asked("rgn_y", "192.0.2.9").await], [401, 429]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_questions_have_rates_of_their_own() {
    let setup = Setup::bare()
        .await
        .set("REGREEN_LIMIT_REPORTS", "1")
        .set("REGREEN_LIMIT_REPORTS_BURST", "1")
        .set("REGREEN_LIMIT_QUESTIONS", "1")
        .set("REGREEN_LIMIT_QUESTIONS_BURST", "1");
    let app = setup.start().await;
    let body = json!({"namespace": "ci", "pod_name": "a", "log": "error: one"});
    let asynchronous = [("prefer", "respond-async")];
    assert_eq!(app.post(&body, &asynchronous).await.status, 202);
    let refused = app.post(&body, &asynchronous).await;
    assert_eq!((refused.status, header(&refused, "ratelimit-policy")), (429, "\"reports\";q=1;w=60"));
    assert_eq!(app.send("/api/chat", &json!({"message": "why?"})).await.status, 200);
    assert_eq!(app.send("/api/chat/stream", &json!({"message": "why?"})).await.status, 429);
    let question = json!({"model": "troubleshooter", "messages": [{"role": "user", "content": "why?"}]});
    let refused = app.send("/v1/chat/completions", &question).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(app.get("/api/reports").await.status, 200, "other requests go on");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_early_and_still_knows_what_it_accepted() {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("Let me think.", Arc::clone(&gate), "")]).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_QUEUE_MAX_WAITING", "1").start().await;
    let report =
        |pod: &str| json!({"namespace": "ci", "pod_name": pod, "log": format!("error: {pod} is broken")});
    let asynchronous = |key: &'static str| [("prefer", "respond-async"), ("idempotency-key", key)];
    let accepted = app.post(&report("one"), &asynchronous("one")).await;
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    let refused = app.post(&report("two"), &asynchronous("two")).await;
    assert_eq!((refused.status, header(&refused, "retry-after")), (503, "30"), "{:?}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("`queue.max_waiting`"), "{:?}", refused.body);
    let repeated = app.post(&report("one"), &asynchronous("one")).await;
    assert_eq!((repeated.status, &repeated.body["report_id"]), (202, &accepted.body["report_id"]));
    assert_eq!(app.post(&report("three"), &asynchronous("one")).await.status, 409, "another request's key");
    gate.notify_one();
    eventually("there is room again", async || {
        let answer = app.post(&report("two"), &asynchronous("two")).await;
        (answer.status == 202).then_some(())
    })
    .await;
    let stored = app.get("/api/reports").await.body["reports"].as_array().unwrap().len();
    assert_eq!(stored, 2, "what was refused left nothing behind");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_into_a_queue_is_accepted_up_to_its_end_and_not_beyond() {
    let never = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("Let me think.", never, "")]).await;
    let setup = Setup::bare().await.model(&model).set("REGREEN_QUEUE_MAX_WAITING", "5");
    let app = setup.set("REGREEN_QUEUE_CONCURRENCY", "1").start().await;
    let post = async |n: u32| {
        let report =
            json!({"namespace": "ci", "pod_name": format!("pod-{n}"), "log": format!("error: part {n}")});
        app.post(&report, &[("prefer", "respond-async")]).await.status
    };
    let statuses = futures::future::join_all((0..40).map(post)).await;
    let count = |status: u16| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((count(202), count(503)), (5, 35), "{statuses:?}");
    assert_eq!(app.get("/api/reports").await.body["reports"].as_array().unwrap().len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_so_many_waiting_reporters_the_others_are_not_held() {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("Let me think.", Arc::clone(&gate), "")]).await;
    let setup = Setup::bare()
        .await
        .model(&model)
        .set("REGREEN_LIMIT_WAITS", "1")
        .set("REGREEN_QUEUE_CONCURRENCY", "1");
    let app = setup.start().await;
    let report =
        |pod: &str| json!({"namespace": "ci", "pod_name": pod, "log": format!("error: {pod} is broken")});
    let (one, two) = (report("one"), report("two"));
    let (one, two) = (app.post(&one, &[]), app.post(&two, &[]));
    // One of them is held, as the model thinks; the other one is told at once where its outcome will be.
    let (first, other) = futures::future::select(Box::pin(one), Box::pin(two)).await.factor_first();
    assert_eq!((first.status, &first.body["status"]), (202, &json!("accepted")));
    assert!(header(&first, "location").starts_with("/api/reports/"));
    assert_eq!(header(&first, "preference-applied"), "");
    gate.notify_one();
    assert_eq!(other.await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_counted_until_their_readers_leave() {
    let app = Setup::bare().await.set("REGREEN_LIMIT_STREAMS", "1").start().await;
    let open = async || app.http.get(format!("{}/live", app.base)).send().await.unwrap();
    let first = open().await;
    assert_eq!(first.status(), 200);
    let refused = app.get("/live").await;
    assert_eq!((refused.status, header(&refused, "retry-after")), (429, "5"));
    assert!(refused.body["detail"].as_str().unwrap().contains("`limits.streams`"), "{:?}", refused.body);
    assert_eq!(app.get("/api/reports").await.status, 200);
    drop(first);
    eventually("the place is free again", async || (open().await.status() == 200).then_some(())).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_find_no_room_while_as_many_answers_are_made_as_may_be() {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("Slowly ", Arc::clone(&gate), "said.")]).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_LIMIT_ANSWERS", "1").start().await;
    let stream = app.http.post(format!("{}/api/chat/stream", app.base)).json(&json!({"message": "why?"}));
    let mut events = app.events(stream).await;
    events.until("text.delta").await;
    let refused = app.send("/api/chat", &json!({"message": "and why?"})).await;
    assert_eq!((refused.status, header(&refused, "retry-after")), (503, "5"), "{:?}", refused.body);
    let question: Value =
        json!({"model": "troubleshooter", "messages": [{"role": "user", "content": "why?"}]});
    let refused = app.send("/v1/chat/completions", &question).await;
    assert_eq!((refused.status, header(&refused, "retry-after")), (503, "5"));
    assert_eq!(refused.body["error"]["code"], "overloaded");
    gate.notify_one();
    events.until("done").await;
    eventually("there is room again", async || {
        let answer = app.send("/api/chat", &json!({"message": "and why?"})).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let known = app.get("/api/conversations").await.body["conversations"].as_array().unwrap().len();
    assert_eq!(known, 2, "what was refused left no conversation");
    app.stop().await;
}
