//! Models that cannot call tools, and contexts that hold little: how they are asked, and that they are asked so for good.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, every};
use reqwest::Method;
use serde_json::{Value, json};

/// What shows that a model can call, however it is asked.
const READY: &str = r#"{"tool": "report_ready", "arguments": {"word": "green"}}"#;

fn no_tools() -> Reply {
    Reply::Status(400, json!({"error": {"message": "registry/tiny:1b does not support tools"}}), None)
}

fn search() -> Reply {
    Reply::Text(r#"{"tool": "search_evidence", "arguments": {"pattern": "E0308"}}"#)
}

fn conclusion() -> &'static str {
    let arguments = json!({
        "title": "Mismatched types", "class": "code", "confidence": "high", "cause": "The types are mismatched.",
        "claims": [{"statement": "The types are mismatched", "evidence": "E1", "quote": "error[E0308]: mismatched types"}]});
    json!({"tool": "submit_diagnosis", "arguments": arguments}).to_string().leak()
}

fn fenced(object: &str) -> Reply {
    Reply::Text(format!("I am done.\n```json\n{object}\n```").leak())
}

async fn start(model: &FakeModel, way: &str) -> TestApp {
    Setup::whole().await.model(model).set("REGREEN_MODEL_TOOL_CALLS", way).start().await
}

/// Reports the sample; the investigation's last run.
async fn run(app: &TestApp) -> Value {
    let answer = app.report("compile-error").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let report = app.get(&format!("/api/reports/{}", answer.body["report_id"].as_str().unwrap())).await.body;
    report["runs"].as_array().unwrap().last().unwrap().clone()
}

fn concluded(run: &Value, turns: u32) {
    assert_eq!((&run["analyst"], &run["stop_reason"]), (&json!("fake"), &json!("submitted")), "{run}");
    assert_eq!((&run["turns"], &run["claims_verified"]), (&json!(turns), &json!(1)), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_tools_is_asked_by_a_schema_from_then_on() {
    let script = vec![no_tools(), Reply::Text(READY), search(), Reply::Text(conclusion())];
    let model = FakeModel::start(script).await;
    let app = start(&model, "auto").await;
    let run = run(&app).await;
    concluded(&run, 2);
    let requests = model.requests();
    assert_eq!(requests.len(), 4, "one that is refused, one that finds out, two that work");
    assert!(requests[0]["tools"].is_array() && requests[1]["tools"].is_null());
    for request in &requests[1..] {
        assert_eq!(request["response_format"]["type"], "json_schema", "{request}");
    }
    let turn = &requests[3];
    let system = turn["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("## search_evidence") && system.contains("\"pattern\": string"), "{system}");
    let asked = turn["messages"].as_array().unwrap();
    assert_eq!(asked[2]["content"], r#"{"tool": "search_evidence", "arguments": {"pattern":"E0308"}}"#);
    let result = asked[3]["content"].as_str().unwrap();
    assert!(asked[3]["role"] == "user" && result.starts_with("Result of `search_evidence`:"), "{result}");
    let calls = run["tool_calls"].as_array().unwrap();
    assert!(every(calls, |call| call["failed"] == false), "{calls:?}");
    assert_eq!(model.refusals(), Vec::<String>::new());
    // What was found out is not asked again, by agents of other settings neither.
    model.push(vec![Reply::Text(r#"{"tool": "answer", "arguments": {"text": "It is the compiler."}}"#)]);
    let question = json!({"message": "why?", "temperature": 0.1});
    let answer = app.send("/api/chat", &question).await;
    assert_eq!(answer.body["message"]["text"], "It is the compiler.", "{:?}", answer.body);
    assert_eq!(model.requests().len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_only_writes_is_read() {
    let prose = || Reply::Text("I am ready, and the word is green.");
    let call = r#"{"tool": "search_evidence", "arguments": {"pattern": "E0308"}}"#;
    // Natively, by a question, by a schema: prose. Then as text.
    let model = FakeModel::start(vec![prose(), prose(), prose(), fenced(call), fenced(conclusion())]).await;
    let app = start(&model, "auto").await;
    concluded(&run(&app).await, 2);
    let last = model.requests().pop().unwrap();
    assert!(last["tools"].is_null() && last["response_format"].is_null(), "{last}");
    assert_eq!(model.refusals(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_calls_is_not_questioned() {
    let model = FakeModel::start(Vec::new()).await;
    let app = start(&model, "auto").await;
    concluded(&run(&app).await, 2);
    // From now on prose is what the model wants to say.
    model.push(vec![Reply::Text("It is the compiler.")]);
    let answer = app.send("/api/chat", &json!({"message": "why?"})).await;
    assert_eq!(answer.body["message"]["text"], "It is the compiler.");
    assert_eq!(model.requests().len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_schemas_is_asked_without_them() {
    let refusal = Reply::Status(400, json!({"error": {"message": "response_format is not supported"}}), None);
    let model = FakeModel::start(vec![refusal, search(), Reply::Text(conclusion())]).await;
    let app = start(&model, "schema").await;
    concluded(&run(&app).await, 2);
    let asked: Vec<bool> =
        model.requests().iter().map(|request| request["response_format"].is_object()).collect();
    assert_eq!(asked, [true, false, false]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_an_answer_see_its_words_and_no_calls() {
    let calls = r#"{"tool": "similar_incidents", "arguments": {"text": "the build"}}"#;
    let shown = "Write {\"tool\": \"similar_incidents\", \"arguments\": {\"text\": \"x\"}} to look.";
    let written = [
        ("schema", r#"{"tool": "answer", "arguments": {"text": "Nothing is known."}}"#, "Nothing is known."),
        ("text", "Nothing is known.", "Nothing is known."),
        // An object within words is shown, not called.
        ("text", shown, shown),
    ];
    for (way, answer, says) in written {
        let model = FakeModel::start(vec![Reply::Text(calls), Reply::Text(answer)]).await;
        let app = Setup::bare().await.model(&model).set("REGREEN_MODEL_TOOL_CALLS", way).start().await;
        let told = app.ask(Method::POST, "/api/chat", &json!({"message": "known?"})).await;
        assert_eq!(told.status, 200, "{:?}", told.body);
        assert_eq!(told.body["message"]["text"], says, "{way}");
        assert_eq!(told.body["tool_calls"][0]["name"], "similar_incidents", "{way}: {}", told.body);
        let run = told.body["run"].as_str().unwrap();
        let mut events = app.events(app.http.get(format!("{}/api/chat/{run}/events", app.base))).await;
        let heard: String = events
            .until("done")
            .await
            .iter()
            .filter(|event| event.name == "text.delta")
            .map(|event| event.data["text"].as_str().unwrap())
            .collect();
        assert_eq!(heard, says, "{way}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_context_is_given_what_it_holds() {
    let too_long = || {
        Reply::Status(
            400,
            json!({"error": {"message": "maximum context length is 4096 tokens", "code": "context_length_exceeded"}}),
            None,
        )
    };
    let log = format!(
        "{}error: cannot write /data/out: No space left on device (os error 28)\n{}",
        "[12:01:07] copied the object 7 of many in 40 ms, error rate 0\n".repeat(9).repeat(40),
        (0..4_000)
            .map(|n| format!("failed step {n:x} of error {n}: cleanup {} done\n", n * 7))
            .collect::<String>()
    );
    let model = FakeModel::start(vec![too_long(), too_long(), too_long()]).await;
    let app = Setup::bare().await.model(&model).start().await.read_up().await;
    let body = json!({"namespace": "ci", "pod_name": "p", "log": log});
    let answer = app.post(&body, &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let requests = model.requests();
    let sizes: Vec<usize> =
        requests[..4].iter().map(|request| request["messages"].to_string().len()).collect();
    assert!(sizes.windows(2).all(|pair| pair[1] <= pair[0]) && sizes[3] * 2 < sizes[0], "{sizes:?}");
    // Prompt, tools and brief of the last one: at four letters for a token, below the 4,096 that the model takes.
    assert!(requests[3].to_string().len() < 4_096 * 4, "{}", requests[3].to_string().len());
    let brief = requests[3]["messages"][1]["content"].as_str().unwrap();
    assert!(brief.contains("E1:361: error: cannot write /data/out"), "{brief}");
    let numbered = brief.lines().filter(|line| line.contains("cleanup"));
    assert!(
        every(numbered.clone(), |line| line.split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok())),
        "{brief}"
    );
    let report = app.get(&format!("/api/reports/{}", answer.body["report_id"].as_str().unwrap())).await.body;
    assert_eq!(report["runs"][0]["analyst"], "fake", "{report}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_in_a_small_context() {
    let away = || Reply::Status(400, json!({"error": {"message": "not now"}}), None);
    let model = FakeModel::start(vec![Reply::Text(conclusion())]).await;
    let app = Setup::whole().await.model(&model).set("REGREEN_AGENT_CONTEXT_TOKENS", "3000").start().await;
    app.report("compile-error").await;
    let incident = app.get("/api/incidents").await.body["incidents"][0].clone();
    let told = || Reply::Text("The types differ.");
    let mut question = json!({"incident_id": incident["id"], "message": "Why did this fail?"});
    // What is on record answers in the model's place, at length, and is part of the next questions.
    for author in ["rules", "rules", "rules", "fake"] {
        // A summary of what was said before may be asked for first.
        model.push(if author == "fake" { vec![told(), told()] } else { vec![away(), away()] });
        let answer = app.send("/api/chat", &question).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.body["message"]["author"], author, "{:?}", answer.body);
        question["conversation_id"] = answer.body["conversation_id"].clone();
        model.drop_script();
    }
    let last = model.requests().pop().unwrap();
    let size = last["messages"].to_string().len() + last["tools"].to_string().len();
    assert!(size < 3_000 * 4 && !last["tools"].as_array().unwrap().is_empty(), "{size}: {last}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_ends_without_words_shows_what_was_looked_up() {
    let look = |n: u32| Reply::call("search_evidence", json!({"pattern": format!("E0308|{n}")}));
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    app.report("compile-error").await;
    let incident = app.get("/api/incidents").await.body["incidents"][0].clone();
    model.push(vec![
        Reply::call("pods_list_in_namespace", json!({"namespace": "ci"})),
        look(1),
        Reply::Text(""),
    ]);
    let asked = model.requests().len();
    let answer =
        app.send("/api/chat", &json!({"incident_id": incident["id"], "message": "what runs there?"})).await;
    let text = answer.body["message"]["text"].as_str().unwrap();
    assert!(text.contains("its answer was empty") && text.contains("## What was looked up"), "{text}");
    assert!(text.contains("result of pods_list_in_namespace; it begins with [E4:1-"), "{text}");
    assert!(
        answer.body["message"]["citations"].as_array().unwrap().iter().any(|cited| cited["evidence"] == "E4")
    );
    assert!(model.requests().len() > asked);
    app.stop().await;
}
