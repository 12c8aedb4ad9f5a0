//! What a collector of OpenTelemetry gets of a report, and what others get to go on with.

use crate::support::collector::{Collector, text};
use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::replica::{Replica, http};
use crate::support::{Setup, TestApp, chaos, every};
use opentelemetry_proto::tonic::trace::v1::Span;
use regreen::telemetry::trace::{self, FutureExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const KEY: &str = "Bearer collectors-own-key";

/// The spans of one trace.
struct Tree(Vec<Span>);

impl Tree {
    fn all(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> &Span {
        let found = self.all(name);
        let names: Vec<&str> = self.0.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(found.len(), 1, "{name} in {names:?}");
        found[0]
    }

    fn under(&self, parent: &Span) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    }

    /// Names of what stands under a span, in order of begin.
    fn parts(&self, parent: &Span) -> Vec<&str> {
        let mut parts = self.under(parent);
        parts.sort_by_key(|span| span.start_time_unix_nano);
        parts.into_iter().map(|span| span.name.as_str()).collect()
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    text(found.unwrap_or_else(|| panic!("no {key} in {span:?}")).value.as_ref())
}

fn number(span: &Span, key: &str) -> i64 {
    attribute(span, key).parse().unwrap()
}

/// A report of a failure whose log holds a secret, traced by its pipeline; the log of the process, and the model's secret.
async fn investigated(collector: &Collector, model: &FakeModel) -> (String, String) {
    let secret = ["hunter2", "hunter2"].concat();
    let setup = Setup::whole()
        .await
        .model(model)
        .set("REGREEN_OTLP_URL", &collector.url)
        .set("REGREEN_OTLP_HEADERS", &format!("authorization={KEY}"))
        .set("REGREEN_SERVICE_NAME", "regreen-lab")
        .set("REGREEN_LOG_FORMAT", "json");
    let replica = Replica::serve(&setup).ready().await;
    let mut body = chaos::failed("dns");
    body["log"] = json!(format!("password={secret}\nerror: no such host {secret}.example\n"));
    let answer = http()
        .post(format!("{}/report-failure", replica.base))
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let (status, log) = replica.terminate().await;
    assert!(status.success(), "{log}");
    (log, secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_traced_from_its_pipeline_to_its_issue() {
    let (collector, model) = (Collector::start(KEY).await, FakeModel::start(Vec::new()).await);
    let (log, secret) = investigated(&collector, &model).await;
    let spans = collector.spans();
    let tree = Tree(spans.into_iter().filter(|span| hex::encode(&span.trace_id) == TRACE).collect());
    assert!(every(collector.services(), |service| service == "regreen-lab"));

    let intake = tree.one("POST /report-failure");
    assert_eq!(hex::encode(&intake.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(number(intake, "http.response.status_code"), 200);
    let triage = tree.one("triage");
    assert_eq!(triage.parent_span_id, intake.span_id);
    assert_eq!(tree.parts(triage), ["queue", "collect", "place", "investigate", "publish"]);
    let queue = tree.one("queue");
    assert!(queue.start_time_unix_nano >= intake.start_time_unix_nano);
    assert!(queue.end_time_unix_nano <= tree.one("collect").start_time_unix_nano);
    let called = |part: &str| {
        tree.under(tree.one(part)).iter().filter(|span| span.name.starts_with("tools/call")).count()
    };
    assert!(called("collect") >= 3 && called("publish") >= 1);
    let agent = tree.one("invoke_agent triage");
    assert_eq!(agent.parent_span_id, tree.one("investigate").span_id);
    let asked = tree.all("chat fake");
    assert_eq!(asked.len(), model.requests().len());
    assert!(every(&asked, |span| span.parent_span_id == agent.span_id));
    let used = |key: &str| asked.iter().map(|span| number(span, key)).sum::<i64>();
    for key in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        assert!(used(key) > 0 && used(key) == number(agent, key), "{key}: {}", used(key));
    }
    for span in asked.iter().copied().chain([agent]) {
        assert_eq!(attribute(span, "gen_ai.provider.name"), "openai");
        assert_eq!(attribute(span, "gen_ai.request.model"), "fake");
    }
    assert_eq!(attribute(asked[0], "gen_ai.response.finish_reasons"), "tool_calls");
    assert_eq!(attribute(agent, "gen_ai.agent.name"), "triage");
    assert_eq!(attribute(agent, "regreen.stop_reason"), "submitted");
    assert_eq!(tree.one("execute_tool submit_diagnosis").parent_span_id, agent.span_id);
    assert!(model.traces().iter().all(|told| told.contains(TRACE)) && model.traces().len() == asked.len());

    nothing_told(&collector, &[&secret, "key-1", KEY, "no such host"]);
    logs_belong(&collector, &log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_traced_as_part_of_its_conversation() {
    let collector = Collector::start(KEY).await;
    let model = FakeModel::start(vec![Reply::Text("Nothing runs.")]).await;
    let setup = Setup::bare().await.model(&model).set("REGREEN_OTLP_URL", &collector.url);
    let setup = setup.set("REGREEN_OTLP_HEADERS", &format!("authorization={KEY}"));
    let replica = Replica::serve(&setup).ready().await;
    let asked = http().post(format!("{}/api/chat", replica.base)).json(&json!({"message": "What runs?"}));
    let answer = TestApp::try_read(asked).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let (status, log) = replica.terminate().await;
    assert!(status.success(), "{log}");
    assert!(
        !log.contains('\x1b') && log.contains("regreen::"),
        "no colours in a file, and who says it: {log}"
    );
    let tree = Tree(collector.spans());
    for name in ["answer", "invoke_agent troubleshooter", "chat fake"] {
        let conversation = attribute(tree.one(name), "gen_ai.conversation.id");
        assert_eq!(answer.body["conversation_id"], *conversation, "{name}");
    }
    assert_eq!(attribute(tree.one("chat fake"), "gen_ai.response.finish_reasons"), "stop");
}

/// No word of a log, and no secret, in whatever was sent.
fn nothing_told(collector: &Collector, words: &[&str]) {
    let sent = format!("{:?} {:?}", collector.spans(), collector.logs());
    for word in words {
        assert!(!sent.contains(word), "{word} was sent");
    }
}

/// Each line of the work on the report names it and its trace, and the collector got the same line as part of the trace.
fn logs_belong(collector: &Collector, log: &str) {
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done = lines.iter().find(|line| line["fields"]["message"] == "report done").unwrap();
    assert_eq!(done["span"]["trace"], done["fields"]["report"], "{done}");
    assert_eq!(done["span"]["trace_id"], TRACE, "{done}");
    let sent = collector.logs();
    let record = sent.iter().find(|record| text(record.body.as_ref()) == "report done").unwrap();
    assert_eq!(hex::encode(&record.trace_id), TRACE);
    assert_eq!(record.severity_text, "INFO");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_get_the_trace_they_are_called_for_and_none_otherwise() {
    let server = FakeMcp::start(Behaviour { tools: vec![("look", true)], ..Behaviour::default() }).await;
    let app = Setup::bare().await.file(&server.table("fake", "")).start().await;
    let told = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let call = || app.call(("fake", "look"), json!({}), CancellationToken::new());
    call().await.unwrap();
    call().with_context(trace::parent(Some(&told))).await.unwrap();
    let traces: Vec<Value> = server
        .seen("tools/call")
        .iter()
        .map(|message| message["params"]["_meta"]["traceparent"].clone())
        .collect();
    assert_eq!(traces, [Value::Null, Value::from(told)]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_or_is_away_delays_nobody() {
    let collector = Collector::start("Bearer another").await;
    for url in [&*collector.url, "http://127.0.0.1:9"] {
        let setup = Setup::bare().await.set("REGREEN_OTLP_URL", url);
        let replica = Replica::serve(&setup).ready().await;
        let body = json!({"namespace": "ci", "pod_name": "p", "log": "error: x\n"});
        assert_eq!(replica.report(&body, "one").await.unwrap().status, 202);
        let (status, log) = replica.terminate().await;
        assert!(status.success(), "{log}");
        assert_eq!(log.matches("traces and logs cannot be sent to `telemetry.otlp_url`").count(), 1, "{log}");
    }
    assert!(collector.spans().is_empty());
}
