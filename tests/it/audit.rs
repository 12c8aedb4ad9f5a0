//! What a service does is on record: who, what, when, how it ended, how long it took; found by request, report and run.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply, Style};
use crate::support::{Answer, Setup, TestApp, eventually, every};
use regreen::domain::{Actor, AuditAction, AuditEvent};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

/// The rows that fit, oldest first.
async fn rows(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.get(&format!("/api/audit?limit=200{query}")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let mut rows = answer.body["entries"].as_array().unwrap().clone();
    rows.reverse();
    rows
}

fn of<'a>(rows: &'a [Value], action: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["action"] == action).collect()
}

fn id(answer: &Answer) -> String {
    answer.body["report_id"].as_str().unwrap().to_owned()
}

fn regreen(arguments: &[&str], database: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.args(arguments).env_clear().env("DATABASE_URL", database).env("REGREEN_LOG", "error");
    command.stdin(Stdio::null()).output().unwrap()
}

fn is_hash(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_on_record_from_its_request_to_its_issue() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let body = json!({"namespace": "ci", "pod_name": regreen::demo::samples::sample("oom").unwrap().pod});
    let answer = app.post(&body, &[("x-request-id", "pipeline-77")]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let report = id(&answer);

    let asked = rows(&app, "&trace=pipeline-77").await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((&asked[0]["action"], &asked[0]["object"]), (&json!("report.accept"), &json!(report)));
    assert_eq!((&asked[0]["actor"], &asked[0]["outcome"]), (&json!("user"), &json!("done")));

    let all = rows(&app, &format!("&about={report}")).await;
    let actions: Vec<&str> = all.iter().map(|row| row["action"].as_str().unwrap()).collect();
    for action in
        ["report.accept", "report.collect", "run", "report.diagnose", "issue.create", "report.finish"]
    {
        assert_eq!(of(&all, action).len(), 1, "{action} in {actions:?}");
    }
    // What was asked of servers: the log, the pod and its events, and the issue.
    let tools = of(&all, "tool.call");
    let named: Vec<&str> = tools.iter().map(|row| row["object"].as_str().unwrap()).collect();
    for tool in ["openshift pods_get", "openshift pods_log", "openshift events_list", "gitea create_issue"] {
        assert!(named.contains(&tool), "{tool} in {named:?}");
    }
    let log = tools.iter().find(|row| row["object"] == "openshift pods_log").unwrap();
    assert!(log["data"]["arguments"].as_str().unwrap().contains("\"namespace\":\"ci\""), "{log}");
    assert!(is_hash(&log["data"]["arguments_hash"]) && is_hash(&log["data"]["result_hash"]), "{log}");
    assert!(log["duration_ms"].is_i64() && log["data"]["result_bytes"].as_i64() > Some(100), "{log}");
    // Evidence is proved by its hash, not repeated.
    let collected = of(&all, "report.collect")[0];
    let stored = app.get(&format!("/api/reports/{report}/evidence/E1")).await.body;
    assert_eq!(collected["data"]["evidence"]["E1"], regreen::domain::hash(stored.as_str().unwrap()));

    let run = of(&all, "run")[0];
    assert_eq!((&run["data"]["analyst"], &run["outcome"]), (&json!("fake"), &json!("done")));
    let mine = rows(&app, &format!("&run={}", run["run"].as_str().unwrap())).await;
    let asked = of(&mine, "model.call");
    assert_eq!(asked.len(), model.requests().len());
    assert!(every(&asked, |row| row["object"] == "fake" && row["trace"] == report.as_str()));
    assert!(asked.iter().all(|row| is_hash(&row["data"]["request"]) && is_hash(&row["data"]["response"])));
    assert!(asked.iter().all(|row| row["data"]["output_tokens"].as_i64() > Some(0)));
    assert_ne!(asked[0]["data"]["request"], asked[1]["data"]["request"]);
    assert_eq!(mine.len(), asked.len() + 2, "the run and its diagnosis: {mine:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_a_run_did_and_the_export_has_it_too() {
    let app = Setup::whole().await.start().await;
    let report = id(&app.report("dns").await);
    let run =
        of(&rows(&app, &format!("&about={report}")).await, "run")[0]["run"].as_str().unwrap().to_owned();
    let page = app.get(&format!("/reports/{report}")).await.body.as_str().unwrap().to_owned();
    assert!(
        page.contains(&format!("/audit?run={run}")) && page.contains(&format!("/audit?about={report}")),
        "{page}"
    );
    let page = app.get(&format!("/audit?run={run}")).await.body.as_str().unwrap().to_owned();
    assert!(
        page.contains("model.call") && page.contains("report.diagnose") && !page.contains("report.accept"),
        "{page}"
    );
    assert!(page.contains("rules: submitted") && page.contains(&format!("export?run={run}")), "{page}");
    let lines = app.get(&format!("/api/audit/export?run={run}")).await.body.as_str().unwrap().to_owned();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3 && lines.iter().all(|line| line["run"] == run.as_str()), "{lines:?}");
    assert_eq!(app.get("/api/audit?run=x").await.status, 422);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_on_record_as_failed() {
    let script = (0..50).map(|_| Reply::Status(500, json!("boom"), None)).collect();
    let model = FakeModel::start(script).await;
    let app = Setup::whole().await.model(&model).start().await;
    let report = id(&app.report("dns").await);
    let all = rows(&app, &format!("&about={report}")).await;
    let runs: Vec<(&Value, &Value)> =
        of(&all, "run").iter().map(|run| (&run["data"]["analyst"], &run["outcome"])).collect();
    assert_eq!(runs, [(&json!("fake"), &json!("failed")), (&json!("rules"), &json!("done"))]);
    let asked = of(&all, "model.call")[0];
    assert_eq!((&asked["object"], &asked["outcome"]), (&json!("fake"), &json!("failed")));
    assert!(asked["detail"].as_str().unwrap().contains("5 attempts"), "{asked}");

    // A pod that is not there and no log: the report fails, and what was asked for it is kept.
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "nobody"}), &[]).await;
    assert_ne!(answer.status, 200, "{:?}", answer.body);
    let all = rows(&app, &format!("&about={}", id(&answer))).await;
    let finished = of(&all, "report.finish")[0];
    assert_eq!(finished["outcome"], "failed");
    assert!(of(&all, "tool.call").iter().any(|call| call["outcome"] == "failed"), "{all:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_and_approvals_are_on_record_and_so_are_refusals_by_time() {
    let lab =
        FakeMcp::start(Behaviour { tools: vec![("restart", false), ("look", true)], ..Behaviour::default() })
            .await;
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::bare().await.model(&model).file(&lab.table("lab", "")).start().await;
    let restart = |name: &str| vec![("restart", json!({"name": name}).to_string())];
    model.push(vec![
        Reply::Calls(vec![("look", "{}".into())], Style::Pieces),
        Reply::Calls(restart("checkout"), Style::Pieces),
        Reply::Text("It waits."),
        Reply::Text("It was restarted."),
    ]);
    let answer = app.send("/api/chat", &json!({"message": "look, then restart checkout"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let approval = answer.body["approvals"][0].clone();
    let (conversation, approval) = (
        approval["conversation_id"].as_str().unwrap().to_owned(),
        approval["id"].as_str().unwrap().to_owned(),
    );
    let asked = rows(&app, &format!("&object={approval}")).await;
    assert_eq!(asked[0]["action"], "approval.ask");
    let decided = app
        .send(&format!("/api/approvals/{approval}"), &json!({"decision": "approve", "author": "bob"}))
        .await;
    assert_eq!(decided.status, 200, "{:?}", decided.body);
    let all = eventually("the call is carried out and told", async || {
        let all = rows(&app, &format!("&about={conversation}")).await;
        (of(&all, "run").len() == 2).then_some(all)
    })
    .await;
    assert_eq!((of(&all, "chat.ask").len(), of(&all, "chat.go_on").len()), (1, 1), "{all:?}");
    let steps: Vec<Value> =
        rows(&app, &format!("&object={approval}")).await.iter().map(|row| row["action"].clone()).collect();
    assert_eq!(steps, ["approval.ask", "approval.approve", "approval.carry_out"]);
    let calls = rows(&app, "&action=tool.call").await;
    let calls: Vec<&Value> = calls.iter().map(|call| &call["object"]).collect();
    assert_eq!(calls, ["lab look", "lab restart"], "what waited was not called");
    // What the first run did: two requests, one call.
    let first = of(&all, "run")[0]["run"].as_str().unwrap();
    let mine = rows(&app, &format!("&run={first}")).await;
    assert_eq!((of(&mine, "model.call").len(), of(&mine, "tool.call").len()), (3, 1), "{mine:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_are_in_no_row() {
    let lab = FakeMcp::start(Behaviour { tools: vec![("look", true)], ..Behaviour::default() }).await;
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::bare().await.model(&model).file(&lab.table("lab", "")).start().await;
    let secret = ["ghp_", "zY8xW7vU6tS5rQ4pO3nM2lK1jI9hG8fE7dC6"].concat();
    model.push(vec![
        Reply::call("look", json!({"token": secret, "url": format!("https://x:{secret}@forge.example.com")})),
        Reply::call(
            "submit_diagnosis",
            json!({"title": format!("Authentication failed for the token {secret}"), "cause": secret, "class": "configuration", "confidence": "high",
                "claims": [{"statement": format!("Authentication failed for {secret}"), "evidence": "E1", "quote": "fatal: Authentication failed for"}]}),
        ),
    ]);
    let log =
        format!("fetching\nfatal: Authentication failed for 'https://x:{secret}@forge.example.com/a.git'\n");
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "p", "log": log}), &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert!(lab.seen("tools/call").is_empty(), "what holds a secret is not sent");
    let lines = app.get("/api/audit/export").await.body.as_str().unwrap().to_owned();
    assert!(lines.contains("\"refused\"") && lines.contains("for the token [redacted"), "{lines}");
    assert!(!lines.contains(&secret[4..]), "{lines}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_stops_are_on_record_and_the_command_verifies_the_chain() {
    let setup = Setup::whole().await;
    let database = setup.env()["DATABASE_URL"].clone();
    let app = setup.start().await;
    app.report("dns").await;
    let started = rows(&app, "&action=server.start").await;
    assert!(started[0]["detail"].as_str().unwrap().contains(env!("CARGO_PKG_VERSION")), "{started:?}");
    assert!(is_hash(&started[0]["data"]["settings"]));
    app.stop().await;
    let whole = regreen(&["audit", "verify", "--json"], &database);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let verified: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&verified["unsealed"], &verified["broken"]), (&json!(0), &Value::Null), "sealed by the stop");
    let head = verified["head"].as_str().unwrap();
    let known = regreen(&["audit", "verify", "--head", head], &database);
    assert_eq!(known.status.code(), Some(0), "{known:?}");
    assert!(String::from_utf8_lossy(&known.stdout).contains("The chain holds."), "{known:?}");
    let wrong = regreen(&["audit", "verify", "--head", "00"], &database);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("64 hexadecimal digits"), "{wrong:?}");

    let pool = crate::support::pool(&database).await;
    let last: String = sqlx::query_scalar("select action from audit order by seq desc limit 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(last, "server.stop");
    let sql = "begin; set local session_replication_role = replica; update audit set outcome = 'done' where seq = 3; update audit set actor = 'nobody' where seq = 3; commit";
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    let broken = regreen(&["audit", "verify"], &database);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    assert!(String::from_utf8_lossy(&broken.stdout).contains("DOES NOT HOLD at place 3"), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_drops_the_months_that_are_past_their_time() {
    let setup = Setup::bare().await.set("REGREEN_AUDIT_RETENTION", "400d");
    let pool = crate::support::pool(&setup.env()["DATABASE_URL"]).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let old = regreen::clock::now() - chrono::TimeDelta::days(500);
    regreen::db::audit::add_months(&pool, old).await.unwrap();
    let event = AuditEvent::new(&Actor::service(""), AuditAction::ToolTry, old).on("thing", "old");
    regreen::db::audit::add(&pool, &event).await.unwrap();
    regreen::db::audit::seal(&pool).await.unwrap();
    let app = setup.start().await;
    let dropped = eventually("the old month is dropped and that is sealed", async || {
        let dropped = rows(&app, "&action=audit.drop").await;
        dropped.iter().find(|row| row["data"]["rows"] == 1 && row["seq"].is_i64()).cloned()
    })
    .await;
    assert_eq!(dropped["object"], format!("audit_{}", old.format("%Y_%m")), "{dropped}");
    assert!(rows(&app, "&object=old").await.is_empty());
    let verified = regreen::db::audit::verify(&pool, None).await.unwrap();
    assert_eq!((verified.dropped, verified.broken), (1, None));
    app.stop().await;
}
