//! What people and the tracker say of an incident, and how it comes back.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, eventually};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::process::{Command, Stdio};

async fn incident(app: &TestApp) -> Value {
    app.get("/api/incidents").await.body["incidents"][0].clone()
}

async fn refuses_what_says_nothing(app: &TestApp, url: &str) {
    for (body, wrong) in [
        (json!({"verdict": "fine", "author": "alice"}), "verdict"),
        (json!({"verdict": "corrected", "author": "alice"}), "cause"),
        (json!({"verdict": "note", "author": "alice"}), "note"),
        (json!({"verdict": "confirmed"}), "author"),
        (json!({"verdict": "confirmed", "author": "a", "link": "javascript:alert(1)"}), "link"),
    ] {
        let refused = app.send(url, &body).await;
        assert_eq!(refused.status, 422, "{body}");
        assert!(refused.body["detail"].as_str().unwrap().contains(wrong), "{:?}", refused.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_is_found_and_shown_when_the_cause_comes_again() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await.read_up().await;
    app.report("dns").await;
    let id = incident(&app).await["id"].as_str().unwrap().to_owned();
    let title = incident(&app).await["title"].as_str().unwrap().to_owned();
    let open = app.search(&title, "&kind=incident").await;
    assert_eq!((&open[0]["incident_id"], &open[0]["solved"]), (&json!(id), &Value::Null), "{open:?}");
    let url = format!("/api/incidents/{id}/resolution");
    refuses_what_says_nothing(&app, &url).await;
    let secret = ["hunter2", "hunter2"].concat();
    let note = json!({"verdict": "note", "author": "bob", "fix": "The forwarder of zone internal was moved last week."});
    assert_eq!(app.send(&url, &note).await.status, 201);
    assert_eq!(incident(&app).await["status"], "open", "a note leaves it open");
    let body = json!({"verdict": "corrected", "author": "alice", "cause": format!("The wolpertinger forwarder was down, password={secret}"),
                      "fix": "Restarted the wolpertinger.", "link": "https://git.example.com/ops/commit/1"});
    let said = app.send(&url, &body).await;
    assert_eq!((said.status, &said.body["origin"]), (201, &json!("person")), "{:?}", said.body);
    assert!(!said.body.to_string().contains(&secret), "{:?}", said.body);
    let hits = app.search("wolpertinger", "").await;
    assert_eq!((&hits[0]["incident_id"], &hits[0]["solved"]), (&json!(id), &json!(true)), "{hits:?}");
    let detail = app.get(&format!("/api/incidents/{id}")).await.body;
    assert_eq!(detail["status"], "resolved");
    assert_eq!(detail["resolutions"].as_array().unwrap().len(), 2);
    let messages = app.get("/api/conversations/search?q=wolpertinger").await.body["messages"].clone();
    assert_eq!(
        (&messages[0]["incident_id"], &messages[0]["author"]),
        (&json!(id), &json!("alice")),
        "{messages}"
    );
    let investigated =
        app.get("/api/conversations/search?q=the+log+ends+with+this").await.body["messages"].clone();
    assert_eq!(
        (&investigated[0]["role"], &investigated[0]["author"]),
        (&json!("assistant"), &json!("fake")),
        "{investigated}"
    );
    // The cause comes again: the brief and the new issue say what helped.
    let before = model.requests().len();
    app.report("dns").await;
    let brief = model.requests()[before]["messages"][1]["content"].as_str().unwrap().to_owned();
    let known =
        brief.split("What is known of failures like this one:").nth(1).expect("past incidents are shown");
    assert!(known.contains("(solved)") && known.contains("Restarted the wolpertinger."), "{known}");
    let issue = app.issues().pop().unwrap()["body"].as_str().unwrap().to_owned();
    assert!(
        issue.contains("> alice corrected the cause on ")
            && issue.contains("Fix: Restarted the wolpertinger."),
        "{issue}"
    );
    assert!(!issue.contains(&secret));
    assert_eq!(
        app.send("/api/incidents/00000000-0000-7000-8000-000000000000/resolution", &note).await.status,
        404
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn solved_incidents_rank_above_open_ones() {
    let app = Setup::whole().await.start().await.read_up().await;
    let report = async |pod: &str, line: &str| {
        let log = format!("begin\n{line}\n");
        let answer = app.post(&json!({"namespace": "ci", "pod_name": pod, "log": log}), &[]).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    };
    report("one-pod", "fatal: the blivet of pump alpha has no pressure").await;
    let solved = incident(&app).await["id"].clone();
    report("two-pod", "fatal: the blivet of pump beta has no pressure left").await;
    let order = async || {
        let hits = app.search("blivet pump beta pressure", "&kind=incident").await;
        hits.iter().map(|hit| hit["incident_id"].clone()).collect::<Vec<_>>()
    };
    eventually("both have their vectors", async || {
        let hits = app.search("blivet pump beta pressure", "&kind=incident").await;
        let by_both = |hit: &Value| hit["reasons"].as_array().unwrap().len() == 2;
        (hits.len() == 2 && hits.iter().all(by_both)).then_some(())
    })
    .await;
    let before = order().await;
    assert_eq!(before[1], solved, "the open one is nearer in words");
    let body = json!({"verdict": "confirmed", "author": "alice", "fix": "Opened the valve."});
    app.send(&format!("/api/incidents/{}/resolution", solved.as_str().unwrap()), &body).await;
    eventually("the solved one comes first", async || (order().await[0] == solved).then_some(())).await;
    app.stop().await;
}

/// What the forge and we share.
const OURS: &str = "between-the-two-of-us";

async fn hook(app: &TestApp, kind: &str, delivery: &str, body: &Value, secret: &str) -> (u16, Value) {
    let bytes = body.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(bytes.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let request = app.http.post(format!("{}/api/webhooks/tracker", app.base)).body(bytes);
    let request = request.header("x-gitea-event", kind).header("x-gitea-delivery", delivery);
    let answer = TestApp::read(request.header("x-hub-signature-256", format!("sha256={signature}"))).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_issue_resolves_its_incident() {
    let app = Setup::whole().await.set("REGREEN_WEBHOOK_SECRET", OURS).start().await.read_up().await;
    app.report("dns").await;
    let id = incident(&app).await["id"].as_str().unwrap().to_owned();
    let event = |action: &str, number: i64, repository: &str, sender: &str| {
        json!({"action": action, "issue": {"number": number, "user": {"login": "regreen"}}, "sender": {"login": sender},
               "repository": {"full_name": repository, "html_url": "https://git.example.com/platform/failures"}})
    };
    let ours = "platform/failures";
    let closed = event("closed", 1, ours, "carol");
    assert_eq!(hook(&app, "issues", "1", &closed, "wrong").await.0, 401);
    let unsigned = app.send("/api/webhooks/tracker", &closed).await;
    assert_eq!(unsigned.status, 401);
    let ignored = json!({"status": "ignored"});
    for (kind, body) in [
        ("issues", event("opened", 1, ours, "carol")),
        ("issues", event("closed", 77, ours, "carol")),
        ("issues", event("closed", 1, "platform/other", "carol")),
        ("push", json!({"ref": "main"})),
    ] {
        assert_eq!(hook(&app, kind, "2", &body, OURS).await, (200, ignored.clone()), "{kind} {body}");
    }
    assert_eq!(hook(&app, "issues", "3", &json!({"action": 1}), OURS).await.0, 400);
    let mut comment = event("created", 1, ours, "regreen");
    comment["comment"] = json!({"body": "Seen again", "html_url": "https://git.example.com/c/1"});
    assert_eq!(hook(&app, "issue_comment", "4", &comment, OURS).await.1, ignored, "our own words");
    comment["sender"]["login"] = json!("dave");
    comment["comment"]["body"] = json!("The snorkel of the resolver was blocked.");
    assert_eq!(hook(&app, "issue_comment", "5", &comment, OURS).await.1["status"], "noted");
    assert_eq!(incident(&app).await["status"], "open");
    let mut closed = closed;
    closed["commit_id"] = json!("4f2a91c");
    assert_eq!(hook(&app, "issues", "6", &closed, OURS).await.1["status"], "resolved");
    assert_eq!(hook(&app, "issues", "6", &closed, OURS).await.1, ignored, "delivered twice, stored once");
    let detail = app.get(&format!("/api/incidents/{id}")).await.body;
    assert_eq!(detail["status"], "resolved");
    let said = detail["resolutions"].as_array().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!((&said[1]["author"], &said[1]["origin"]), (&json!("carol"), &json!("tracker")));
    assert_eq!(said[1]["link"], "https://git.example.com/platform/failures/commit/4f2a91c");
    assert_eq!(app.search("snorkel", "").await[0]["incident_id"], json!(id));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_webhooks_are_refused() {
    let app = Setup::whole().await.start().await;
    let answer = app.send("/api/webhooks/tracker", &json!({})).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body["detail"].as_str().unwrap().contains("tracker.webhook_secret"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_becomes_the_draft_of_a_runbook_that_can_be_ingested() {
    let app = Setup::whole().await.start().await.read_up().await;
    let log = "begin\n2026-11-21T10:00:00Z fatal: the frobnicator of node worker-7 ran dry after 12s\n";
    app.post(&json!({"namespace": "ci", "pod_name": "frob-pod", "log": log}), &[]).await;
    let id = incident(&app).await["id"].as_str().unwrap().to_owned();
    let body = json!({"verdict": "corrected", "author": "alice", "cause": "Nobody refilled it.", "fix": "Refill the frobnicator."});
    app.send(&format!("/api/incidents/{id}/resolution"), &body).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frob.md");
    let regreen = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("DATABASE_URL", &app.database);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (written, said) = regreen(&["runbook", "draft", &id, "--out", file.to_str().unwrap()]);
    assert!(written, "{said}");
    let draft = std::fs::read_to_string(&file).unwrap();
    assert!(
        draft.contains("Nobody refilled it.") && draft.contains("- Refill the frobnicator. — alice, "),
        "{draft}"
    );
    assert!(
        !regreen(&["runbook", "draft", &id, "--out", file.to_str().unwrap()]).0,
        "no file is overwritten"
    );
    assert!(regreen(&["runbook", "draft", "#1"]).1.contains("Nobody refilled it."));
    assert!(regreen(&["runbook", "draft", "nothing"]).1.contains("neither an incident's id"));
    let (stored, said) = regreen(&["ingest", file.to_str().unwrap()]);
    assert!(stored && said.contains("1 documents stored"), "{said}");
    let line = "2026-12-24T23:59:59Z fatal: the frobnicator of node worker-31 ran dry after 9m";
    eventually("its signature counts in the running server", async || {
        let hits = app.search(line, "&kind=runbook").await;
        let first = hits.first()?;
        (first["path"] == "frob.md" && first["reasons"][0]["by"] == "signature").then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_asks_for_runbooks_and_past_incidents() {
    let app = Setup::whole().await.start().await.read_up().await;
    let database = app.database.clone();
    app.report("dns").await;
    app.stop().await;
    let script = vec![
        Reply::call(
            "search_runbooks",
            json!({"query": "artifact could not be resolved", "applies_to": ["maven"]}),
        ),
        Reply::call("similar_incidents", json!({"query": "lookup no such host does not resolve"})),
        Reply::call("search_runbooks", json!({"query": "zzzz qqqq"})),
    ];
    let model = FakeModel::start(script).await;
    let app = Setup::whole().await.set("DATABASE_URL", &database).model(&model).start().await.read_up().await;
    assert_eq!(app.report("go-vet").await.status, 200);
    assert_eq!(model.refusals(), Vec::<String>::new());
    let requests = model.requests();
    let messages = requests.last().unwrap()["messages"].as_array().unwrap().clone();
    let results: Vec<&str> =
        messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].as_str().unwrap()).collect();
    assert!(results[0].starts_with("<<data ") && results[0].contains("(maven"), "{}", results[0]);
    assert!(results[1].contains(", open)\n"), "{}", results[1]);
    assert!(results[2].contains("no runbook comes near"), "{}", results[2]);
    app.stop().await;
}
