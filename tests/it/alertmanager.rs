//! Alerts that become reports: the webhook, and the real Alertmanager in front of it.

use super::access::key;
use crate::support::real_servers::{self, tool};
use crate::support::{Answer, Setup, TestApp, eventually};
use regreen::domain::Role;
use serde_json::{Value, json};
use std::process::Command;

const FINGERPRINT: &str = "9f86d081884c7d65";

fn alert(fingerprint: &str, labels: Value) -> Value {
    json!({
        "status": "firing", "labels": labels, "startsAt": "2026-11-20T10:00:00.123Z", "endsAt": "0001-01-01T00:00:00Z",
        "annotations": {"summary": "Pod restarts\nagain and again"}, "generatorURL": "http://prometheus/graph?g0",
        "fingerprint": fingerprint,
    })
}

fn notification(alerts: &[Value]) -> Value {
    json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "regreen", "alerts": alerts,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager"})
}

async fn send(app: &TestApp, key: &str, alerts: &[Value]) -> Answer {
    let request = app.http.post(format!("{}/webhooks/alertmanager", app.base)).json(&notification(alerts));
    TestApp::read(request.bearer_auth(key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_alert_about_a_pod_is_a_report_once() {
    let app = Setup::whole().await.start().await;
    let sample = regreen::demo::samples::sample("oom").unwrap();
    let labels = json!({"alertname": "KubePodCrashLooping", "namespace": sample.namespace, "pod": sample.pod,
        "job": "kube-state-metrics", "job_name": "nightly", "api_key": "password=hunter2hunter2"});
    let mut firing = alert(FINGERPRINT, labels);
    let first = send(&app, "", &[firing.clone()]).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let id = first.body["accepted"][0]["report_id"].as_str().unwrap().to_owned();
    assert_eq!(
        first.body,
        json!({"accepted": [{"fingerprint": FINGERPRINT, "report_id": id}], "ignored": []})
    );
    // Another notification of the same alert, as its annotations go on.
    firing["annotations"]["summary"] = json!("12 restarts");
    assert_eq!(send(&app, "", &[firing.clone()]).await.body, first.body);
    let report = eventually("the report is done", async || {
        let report = app.get(&format!("/api/reports/{id}")).await.body;
        (report["status"] == "done").then_some(report)
    })
    .await;
    assert_eq!((&report["pod_name"], &report["task"]), (&json!(sample.pod), &json!("nightly")));
    let kinds: Vec<&str> =
        report["evidence"].as_array().unwrap().iter().map(|piece| piece["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds.contains(&"log")), ("alert", true), "{kinds:?}");
    let text = app.get(&format!("/api/reports/{id}/evidence/E1")).await.body.to_string();
    for line in ["label alertname: KubePodCrashLooping", "annotation summary: Pod restarts\\n    again"] {
        assert!(text.contains(line) && !text.contains("hunter2"), "{text}");
    }
    // It fires again on another day.
    firing["startsAt"] = json!("2026-11-21T10:00:00Z");
    assert_ne!(send(&app, "", &[firing]).await.body["accepted"][0]["report_id"], id.as_str());
    let counted = app.get("/metrics").await.body.as_str().unwrap().to_owned();
    assert!(counted.contains("regreen_alerts_total{outcome=\"repeated\"}"), "{counted}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_pods_trouble_is_ignored_and_said() {
    let app = Setup::bare().await.start().await;
    let mut resolved = alert("a1", json!({"namespace": "ci", "pod": "p"}));
    resolved["status"] = json!("resolved");
    let alerts = [
        resolved,
        alert("a2", json!({"alertname": "Watchdog"})),
        alert("a3", json!({"namespace": "ci", "pod": "Not A Pod"})),
        alert("a4", json!({"pod": "p"})),
        alert("a5", json!({"namespace": "ci", "pod": "p"})),
        alert("../../x", json!({"namespace": "ci", "pod": "p"})),
    ];
    let answer = send(&app, "", &alerts).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.body["accepted"].as_array().unwrap().len(), 1);
    assert_eq!(answer.body["accepted"][0]["fingerprint"], "a5");
    let said = answer.body["ignored"].as_array().unwrap().iter();
    let said: Vec<&str> = said.map(|ignored| ignored["reason"].as_str().unwrap()).collect();
    let expected =
        ["not firing", "no label `pod`", "`pod` is not a pod name", "`namespace` is required", "fingerprint"];
    assert!(
        said.len() == expected.len() && said.iter().zip(expected).all(|(said, word)| said.contains(word)),
        "{said:?}"
    );
    assert_eq!(app.get("/api/reports").await.body["reports"].as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_were_cut_off_are_counted() {
    let app = Setup::bare().await.start().await;
    let mut cut = notification(&[]);
    cut["truncatedAlerts"] = json!(100_000_007);
    let count = async || {
        let counted = app.get("/metrics").await.body.as_str().unwrap().to_owned();
        let count = counted
            .lines()
            .find_map(|line| line.strip_prefix("regreen_alerts_total{outcome=\"truncated\"} "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let before = count().await;
    let answer = TestApp::read(app.http.post(format!("{}/webhooks/alertmanager", app.base)).json(&cut)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(count().await - before, 100_000_007);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_notification_are_refused() {
    let app = Setup::bare().await.start().await;
    let post = |body: String| {
        let request = app.http.post(format!("{}/webhooks/alertmanager", app.base)).body(body);
        TestApp::read(request.header("content-type", "application/json"))
    };
    let large = alert("a1", json!({"namespace": "ci", "pod": "p", "note": "x".repeat(1024 * 1024)}));
    for (body, status, said) in [
        ("{".to_owned(), 400, "not valid JSON"),
        ("[]".to_owned(), 422, "not a notification"),
        (json!({"alerts": [{"status": "firing"}]}).to_string(), 422, "missing field"),
        (notification(&[large]).to_string(), 413, "max_alerts"),
    ] {
        let refused = post(body).await;
        assert_eq!(refused.status, status, "{}", refused.body);
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        assert!(refused.body["detail"].as_str().unwrap().contains(said), "{}", refused.body);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reports_alerts_of_its_own_namespaces() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let bound = key(&app, Role::Reporter, &["team-a"]).await;
    let (own, other) = (
        alert("a1", json!({"namespace": "team-a", "pod": "p"})),
        alert("a2", json!({"namespace": "team-b", "pod": "p"})),
    );
    let both = send(&app, &bound, &[other.clone(), own]).await;
    assert_eq!((both.status, &both.body["accepted"][0]["fingerprint"]), (202, &json!("a1")), "{}", both.body);
    assert!(both.body["ignored"][0]["reason"].as_str().unwrap().contains("`team-b`"), "{}", both.body);
    // None of them: Alertmanager's own log tells of it.
    let none = send(&app, &bound, std::slice::from_ref(&other)).await;
    assert_eq!(none.status, 403, "{}", none.body);
    assert_eq!(send(&app, "rgn_wrong", &[other]).await.status, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_beyond_the_queues_length_are_sent_again() {
    let app = Setup::bare()
        .await
        .set("REGREEN_QUEUE_MAX_WAITING", "1")
        .set("MCP_OPENSHIFT_URL", "http://127.0.0.1:9/sse")
        .start_unsettled()
        .await;
    let pod = |fingerprint: &str, pod: &str| alert(fingerprint, json!({"namespace": "ci", "pod": pod}));
    let both = [pod("a1", "one"), pod("a2", "two")];
    let full = send(&app, "", &both).await;
    assert_eq!(full.status, 503, "{}", full.body);
    assert!(full.headers.contains_key("retry-after"));
    let first = send(&app, "", &both[..1]).await;
    assert_eq!(first.status, 202, "it was taken before: {}", first.body);
    app.stop().await;
}

/// The real one, with a route to Regreen, and where it listens.
fn alertmanager(base: &str, key: &str, folder: &std::path::Path) -> (Command, u16) {
    let config = format!(
        "route: {{receiver: regreen, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1s}}\n\
         receivers:\n- name: regreen\n  webhook_configs:\n  - url: {base}/webhooks/alertmanager\n    send_resolved: false\n\
         \x20   http_config:\n      authorization: {{credentials: {key}}}\n"
    );
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, config).unwrap();
    let port = real_servers::free_port();
    let program = tool("prometheus-alertmanager/usr/bin/prometheus-alertmanager");
    let mut command = Command::new(&program);
    command.current_dir(program.parent().unwrap());
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.path={}", folder.display()));
    command.args([&format!("--web.listen-address=127.0.0.1:{port}"), "--cluster.listen-address="]);
    (command, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_alertmanager_reports_a_pod() {
    let app = Setup::whole().await.set("REGREEN_AUTH", "keys").start().await;
    let sample = regreen::demo::samples::sample("oom").unwrap();
    let reporter = key(&app, Role::Reporter, &[sample.namespace]).await;
    let folder = tempfile::tempdir().unwrap();
    let (command, port) = alertmanager(&app.base, &reporter, folder.path());
    let server = real_servers::start(command, port).await;
    let labels =
        json!({"alertname": "KubePodCrashLooping", "namespace": sample.namespace, "pod": sample.pod});
    let alerts = json!([{"labels": labels, "annotations": {"summary": "It restarts"}}]);
    let sent = TestApp::read(app.http.post(server.url.replace("/mcp", "/api/v2/alerts")).json(&alerts)).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    // It repeats itself each second.
    eventually("the alert was sent twice", async || {
        let figures = TestApp::read(app.http.get(server.url.replace("/mcp", "/metrics"))).await.body;
        let sent = figures.as_str().unwrap().lines().find_map(|line| {
            line.strip_prefix("alertmanager_notifications_total{integration=\"webhook\"} ")?
                .parse::<u32>()
                .ok()
        });
        (sent? > 1).then_some(())
    })
    .await;
    let list = app.http.get(format!("{}/api/reports", app.base)).bearer_auth(&reporter);
    let reports = TestApp::read(list).await.body["reports"].clone();
    assert_eq!(reports.as_array().unwrap().len(), 1, "{reports}");
    assert_eq!(reports[0]["pod_name"], sample.pod);
    app.stop().await;
}
