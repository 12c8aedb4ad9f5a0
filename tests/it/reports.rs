//! A report's way, from the request to the issue.

use crate::support::fake_model::FakeModel;
use crate::support::{Setup, eventually, every};
use regreen::demo::samples::samples;
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_failure_becomes_an_issue_that_names_its_cause() {
    let app = Setup::whole().await.start().await;
    let ids = regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    for sample in samples() {
        let answer = app.report(sample.slug).await;
        assert_eq!(answer.status, 200, "{}: {:?}", sample.slug, answer.body);
        assert!(
            answer.body["result"].as_str().unwrap().starts_with("Issue created: http://"),
            "{:?}",
            answer.body
        );
        let issue = app.issues().pop().unwrap();
        let text = format!("{} {}", issue["title"], issue["body"]);
        for word in sample.cause_words {
            assert!(text.contains(word), "{}: the issue does not say {word}: {text}", sample.slug);
        }
        let found = format!("Class | {}, ", sample.class.as_str());
        assert!(text.contains(&found), "{}: not {found}: {text}", sample.slug);
        assert!(text.contains("line "), "{}: cites no line", sample.slug);
        let body = issue["body"].as_str().unwrap();
        assert!(body.lines().count() < 60, "{}: {} lines", sample.slug, body.lines().count());
        let shown = ids.replace_all(body, "[id]");
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("issue-{}", sample.slug), format!("# {}\n\n{shown}", issue["title"].as_str().unwrap()));
        });
    }
    assert_eq!(app.issues().len(), samples().len(), "one issue per cause");
    assert!(!format!("{:?}", app.issues()).contains("ghp_"), "no secret is filed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_investigates_and_its_claims_are_checked() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let answer = app.report("compile-error").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(model.refusals(), Vec::<String>::new());
    assert!(every(model.keys(), |key| key == "Bearer key-1"));
    let report = app.get(&format!("/api/reports/{}", answer.body["report_id"].as_str().unwrap())).await.body;
    assert_eq!(report["runs"][0]["analyst"], "fake");
    assert_eq!(report["runs"][0]["stop_reason"], "submitted");
    assert!(report["runs"][0]["tool_calls"].as_array().unwrap().len() >= 2, "every call is on record");
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    for step in ["collect", "place", "investigate", "verify", "publish"] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    let offered: Vec<String> = model.requests()[0]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        offered.contains(&"pods_log".to_owned()) && !offered.contains(&"pods_delete".to_owned()),
        "only tools that look: {offered:?}"
    );
    assert!(!offered.contains(&"create_issue".to_owned()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_cause_is_counted_without_a_model_and_commented_once_an_hour() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    app.report("dns").await;
    let asked = model.requests().len();
    sqlx::raw_sql("update incidents set commented_at = now() - interval '2 hours'")
        .execute(&app.pool().await)
        .await
        .unwrap();
    for _ in 0..3 {
        let again = app.report("dns").await;
        assert!(again.body["result"].as_str().unwrap().starts_with("Known cause, seen "), "{:?}", again.body);
    }
    assert_eq!(model.requests().len(), asked, "no model call for a known cause");
    let issues = app.issues();
    assert_eq!((issues.len(), issues[0]["comments"].as_u64()), (1, Some(1)));
    let incidents = app.get("/api/incidents").await.body;
    assert_eq!(incidents["incidents"][0]["occurrences"], 4);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_comes_back_after_its_issue_was_closed_gets_one_that_links_it() {
    let app = Setup::whole().await.start().await;
    app.report("dns").await;
    let close = json!({"owner": "platform", "repo": "failures", "issue_number": 1, "state": "closed"});
    let closed = app.call(("gitea", "edit_issue"), close, CancellationToken::new()).await.unwrap();
    assert!(!closed.is_error, "{}", closed.text);
    // Just asked: nobody asks again within the minute.
    assert!(app.report("dns").await.body["result"].as_str().unwrap().starts_with("Known cause"));
    sqlx::raw_sql("update incidents set commented_at = now() - interval '2 minutes'")
        .execute(&app.pool().await)
        .await
        .unwrap();
    let back = app.report("dns").await;
    assert!(back.body["result"].as_str().unwrap().starts_with("Issue created: "), "{:?}", back.body);
    let issues = app.issues();
    assert_eq!(issues.len(), 2);
    let body = issues[1]["body"].as_str().unwrap();
    assert!(
        body.contains("> Seen before, 2 times: ") && body.contains("/issues/1. That one was solved"),
        "{body}"
    );
    let incidents = app.get("/api/incidents").await.body["incidents"].clone();
    assert_eq!((&incidents[0]["status"], &incidents[1]["status"]), (&json!("open"), &json!("resolved")));
    assert_eq!(incidents[0]["previous_id"], incidents[1]["id"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_with_one_cause_share_an_incident_and_one_pod_with_two_causes_does_not() {
    let app = Setup::whole().await.start().await;
    let report = async |pipeline: &str, log: &str| {
        let good = format!("https://ci.example.com/runs/{pipeline}");
        let body = json!({"namespace": "ci", "pod_name": "build-pod", "pipeline": pipeline, "log": log, "last_good_run": good});
        let answer = app.post(&body, &[]).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    };
    // The name server is nobody's pipeline; a compiler error is.
    let dns = "$ git fetch\nfatal: unable to access 'https://git.example.com/': Could not resolve host: git.example.com\n";
    report("one", dns).await;
    report("two", dns).await;
    report("one", "src/a.rs:1:1: error: mismatched types\n").await;
    let incidents = app.get("/api/incidents").await.body["incidents"].clone();
    assert_eq!(incidents.as_array().unwrap().len(), 2, "{incidents}");
    let shared = incidents.as_array().unwrap().iter().find(|incident| incident["occurrences"] == 2).unwrap();
    let shown = app.get(&format!("/api/incidents/{}", shared["id"].as_str().unwrap())).await.body;
    assert_eq!(shown["pipelines"], json!(["one", "two"]));
    assert_eq!(shown["last_good_run"], "https://ci.example.com/runs/two");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_cause_is_one_investigation() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let log = "step one\nerror: the part is broken\nexit status 1\n";
    let body = json!({"namespace": "ci", "pod_name": "build-pod", "log": log});
    use futures::StreamExt as _;
    let posts = (0..500).map(|_| app.post(&body, &[]));
    let answers: Vec<_> = futures::stream::iter(posts).buffer_unordered(50).collect().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(app.issues().len(), 1);
    assert_eq!(model.requests().len(), 2, "one investigation");
    assert_eq!(app.get("/api/incidents").await.body["incidents"][0]["occurrences"], 500);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tracker_the_diagnosis_is_the_result() {
    let app = Setup::bare().await.start().await;
    let log = "step 1\nModuleNotFoundError: No module named 'yaml'\n";
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "p", "log": log}), &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let result = answer.body["result"].as_str().unwrap();
    assert!(
        result.contains("The Python module yaml is not installed") && result.contains("E1 lines 2-2"),
        "{result}"
    );
    let report = format!("/api/reports/{}", answer.body["report_id"].as_str().unwrap());
    let collect = app.get(&report).await.body["steps"][0]["detail"].clone();
    assert!(collect.as_str().unwrap().starts_with("1 piece of evidence, 2 lines"), "{collect}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_neither_model_nor_database() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    for slug in ["registry-auth", "git-clone"] {
        assert_eq!(app.report(slug).await.status, 200);
    }
    let seen = format!("{:?}{:?}", model.requests(), app.issues());
    let stored: Vec<String> =
        sqlx::query_scalar("select text from evidence").fetch_all(&app.pool().await).await.unwrap();
    for secret in ["Zk3v9QhX2mB7tR4wY8nL1cD6fG5jK0pS2aE9", "Tr0ub4dor-horse-staple"] {
        assert!(!seen.contains(secret), "{secret} was shown");
        assert!(!stored.iter().any(|text| text.contains(secret)), "{secret} was stored");
    }
    assert!(stored.iter().any(|text| text.contains("[redacted:url-password:1]")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_evidence_fails_with_the_reason() {
    let app = Setup::whole().await.start().await;
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "nobody-knows"}), &[]).await;
    assert_eq!(answer.status, 502, "{:?}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("not found"), "{:?}", answer.body);
    assert!(answer.body["report_id"].is_string());
    let id = answer.body["report_id"].as_str().unwrap().to_owned();
    eventually("it is failed", async || {
        (app.get(&format!("/api/reports/{id}")).await.body["status"] == "failed").then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_could_not_be_recorded_is_found_by_its_marker() {
    let app = Setup::whole().await.start().await;
    let first = app.report("helm-upgrade").await;
    // As after a crash between filing and recording, with the report given up.
    let lost = "update incidents set issue_url = null, issue_number = null";
    sqlx::raw_sql(lost).execute(&app.pool().await).await.unwrap();
    let second = app.report("helm-upgrade").await;
    assert_eq!(first.body["result"], second.body["result"]);
    assert_eq!(app.issues().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_good_run_said_too_is_not_the_cause() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_EXCERPT_TOKENS", "200").start().await;
    let noise: String = (0..200).map(|n| format!("error: cannot read the optional file {n}\n")).collect();
    let good = format!("{noise}all 12 checks passed\n");
    let bad = format!("{noise}the number of checks is 11, wanted 12\nexit status 1\n");
    let body = json!({"namespace": "ci", "pod_name": "p", "log": bad, "good_log": good});
    let answer = app.post(&body, &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let brief = model.requests()[0]["messages"][1]["content"].to_string();
    assert!(
        brief.contains("the number of checks is 11") && brief.contains("(as in the last good run)"),
        "{brief}"
    );
    assert!(brief.matches("cannot read the optional file").count() < 30, "{brief}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_logs_are_kept_and_addresses_replaced_only_when_asked() {
    let log = "password=hunter2hunter2 of person@example.com\nerror: broken\n";
    let body = json!({"namespace": "ci", "pod_name": "p", "log": log});
    for (asked, raw, address) in [("no", None, true), ("yes", Some(log.to_owned()), false)] {
        let setup = Setup::bare().await.set("REGREEN_KEEP_RAW", asked).set("REGREEN_REDACT_EMAILS", asked);
        let app = setup.start().await;
        app.post(&body, &[]).await;
        let kept: (Option<String>, String) =
            sqlx::query_as("select raw, text from evidence").fetch_one(&app.pool().await).await.unwrap();
        assert_eq!(kept.0, raw);
        assert_eq!(kept.1.contains("person@example.com"), address, "{}", kept.1);
        assert!(!kept.1.contains("hunter2"));
        app.stop().await;
    }
}
