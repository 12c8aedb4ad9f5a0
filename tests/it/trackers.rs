//! Trackers of the field: GitHub's official MCP server in front of a stand-in of its API, and servers that answer as others do.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::github::{Github, WEB, comment_on, issue};
use crate::support::real_servers::tool;
use crate::support::{Setup, TestApp, eventually};
use serde_json::{Value, json};
use std::process::Command;

const LOG: &str = "step one\nModuleNotFoundError: No module named 'yaml'\nexit status 1\n";

fn body() -> Value {
    json!({"namespace": "ci", "pod_name": "p", "log": LOG})
}

/// A service whose issues go to GitHub; nothing else of it is set.
async fn at_github(github: &Github) -> TestApp {
    let setup = Setup::bare().await.file(&github.table()).set("REGREEN_TRACKER_SERVER", "github");
    setup.set("REGREEN_TRACKER_OWNER", "platform").set("REGREEN_TRACKER_REPO", "failures").start().await
}

/// Reports, and waits for the end with each try of the queue made due at once.
async fn to_the_end(app: &TestApp, report: &Value) -> Value {
    let answer = app.post(report, &[("prefer", "respond-async")]).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let (id, pool) = (answer.body["report_id"].as_str().unwrap(), app.pool().await);
    eventually("the report ends", async || {
        let due = "update graphile_worker._private_jobs set run_at = now() where locked_at is null and attempts > 0";
        sqlx::query(due).execute(&pool).await.unwrap();
        let report = app.get(&format!("/api/reports/{id}")).await.body;
        matches!(report["status"].as_str(), Some("done" | "failed")).then_some(report)
    })
    .await
}

fn ours(issues: &[Value]) -> Vec<&Value> {
    issues.iter().filter(|issue| issue["body"].as_str().unwrap().contains("regreen:incident:")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_incident_is_one_issue_at_github_found_again_over_several_pages() {
    let github = Github::start().await;
    let app = at_github(&github).await;
    assert!(app.mcp().is_connected("github"), "{:?}", app.mcp().status());
    // It is filed, nobody hears of it, and 120 issues of others come after it.
    github.moods.lock().unwrap().loses_answers = true;
    let answer = app.post(&body(), &[("prefer", "respond-async")]).await;
    let id = answer.body["report_id"].as_str().unwrap().to_owned();
    eventually("the issue is filed", async || (github.issues().len() == 1).then_some(())).await;
    github.others_file(120);
    let pool = app.pool().await;
    let done = eventually("the report ends", async || {
        let due = "update graphile_worker._private_jobs set run_at = now() where locked_at is null and attempts > 0";
        sqlx::query(due).execute(&pool).await.unwrap();
        let report = app.get(&format!("/api/reports/{id}")).await.body;
        matches!(report["status"].as_str(), Some("done" | "failed")).then_some(report)
    })
    .await;
    assert_eq!(done["result"], format!("Issue created: {WEB}/platform/failures/issues/1"), "{done}");
    assert!(github.count("POST /api/graphql") >= 3, "it is on the third page");
    for _ in 0..3 {
        let again = to_the_end(&app, &body()).await;
        assert!(
            again["result"].as_str().unwrap().contains(&format!("{WEB}/platform/failures/issues/1")),
            "{again}"
        );
    }
    assert_eq!(
        (ours(&github.issues()).len(), github.count("POST /api/v3/repos/platform/failures/issues")),
        (1, 1)
    );
    // Closed there, the cause comes back: another incident, and an issue of its own whose address is told.
    github.moods.lock().unwrap().loses_answers = false;
    github.close(1);
    let earlier = "update incidents set issue_checked_at = now() - interval '2 hours', commented_at = now() - interval '2 hours'";
    sqlx::query(earlier).execute(&pool).await.unwrap();
    let back = to_the_end(&app, &body()).await;
    assert_eq!(back["result"], format!("Issue created: {WEB}/platform/failures/issues/122"), "{back}");
    // And a comment, when it is seen again.
    sqlx::query(earlier).execute(&pool).await.unwrap();
    to_the_end(&app, &body()).await;
    assert_eq!((ours(&github.issues()).len(), github.issues()[121]["comments"].clone()), (2, json!(1)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_filed_blindly_while_github_lists_nothing_and_the_report_ends() {
    let github = Github::start().await;
    let app = at_github(&github).await;
    {
        let mut moods = github.moods.lock().unwrap();
        (moods.loses_answers, moods.lists_nothing) = (true, true);
    }
    let ended = to_the_end(&app, &body()).await;
    let said = ended["error"].as_str().or(ended["result"].as_str()).unwrap_or_default().to_owned();
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(
        said.contains("whether the issue was filed is not known, and the tracker cannot be asked")
            && said.contains("(tried "),
        "{ended}"
    );
    assert_eq!((github.issues().len(), github.count("POST /api/v3/repos/platform/failures/issues")), (1, 1));
    // When it can be asked again, the issue is found.
    *github.moods.lock().unwrap() = Default::default();
    let next = to_the_end(&app, &body()).await;
    assert!(
        next["result"].as_str().unwrap().ends_with(&format!("{WEB}/platform/failures/issues/1")),
        "{next}"
    );
    assert_eq!(github.issues().len(), 1);
    app.stop().await;
}

/// What the stand-in says is what GitHub's description of its API says, by the types made of it.
#[test]
fn the_stand_in_of_github_is_as_github_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let types = tool("npm/node_modules/@octokit/openapi-types/types.d.ts");
    let of = ("platform", "failures");
    let text = format!(
        "import type {{ components }} from {:?};\n\
         type Schemas = components[\"schemas\"];\n\
         export const issue: Schemas[\"issue\"] = {};\nexport const comment: Schemas[\"issue-comment\"] = {};\n",
        types.with_extension("").with_extension(""),
        issue(of, 1, "t", "b"),
        comment_on(of, 1, "b"),
    );
    let file = folder.path().join("said.ts");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut tsc = Command::new("node");
        tsc.arg(tool("npm/node_modules/typescript/bin/tsc"))
            .args(["--noEmit", "--strict", "--skipLibCheck"])
            .arg(&file);
        let done = tsc.output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let (fits, said) = check(&text);
    assert!(fits, "{said}");
    let (fits, _) = check(&text.replace("\"html_url\"", "\"page\""));
    assert!(!fits, "what lacks a field is seen");
}

fn text(names: &[&str], required: &[&str], more: Value) -> Value {
    let mut properties: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    properties.extend(more.as_object().unwrap().clone());
    json!({"type": "object", "properties": properties, "required": required})
}

/// The tools of GitHub's newer servers, by their published schemas.
fn newer() -> Behaviour {
    let write = text(
        &["owner", "repo", "title", "body"],
        &["method", "owner", "repo"],
        json!({"method": {"type": "string", "enum": ["create", "update"]}, "issue_number": {"type": "number"},
            "labels": {"type": "array", "items": {"type": "string"}}, "show_ui": {"type": "boolean"},
            "state": {"type": "string", "enum": ["open", "closed"]}}),
    );
    let read = text(
        &["owner", "repo"],
        &["method", "owner", "repo", "issue_number"],
        json!({"method": {"type": "string", "enum": ["get", "get_comments", "get_sub_issues", "get_labels"]}, "issue_number": {"type": "number"}}),
    );
    let list = text(
        &["owner", "repo", "after"],
        &["owner", "repo"],
        json!({"perPage": {"type": "number", "minimum": 1, "maximum": 100}, "orderBy": {"type": "string", "enum": ["CREATED_AT", "UPDATED_AT", "COMMENTS"]},
            "direction": {"type": "string", "enum": ["ASC", "DESC"]}, "state": {"type": "string", "enum": ["OPEN", "CLOSED"],
            "description": "Filter by state, by default both open and closed issues are returned when not provided"}}),
    );
    let comment = text(
        &["owner", "repo", "body"],
        &["owner", "repo", "issue_number", "body"],
        json!({"issue_number": {"type": "number"}}),
    );
    Behaviour {
        tools: vec![
            ("issue_write", false),
            ("issue_read", true),
            ("list_issues", true),
            ("add_issue_comment", false),
        ],
        schemas: [
            ("issue_write", write),
            ("issue_read", read),
            ("list_issues", list),
            ("add_issue_comment", comment),
        ]
        .into(),
        answers: vec![
            (
                "issue_write",
                json!({"id": "9", "url": "https://ghe.example/platform/failures/issues/7"}).to_string(),
                false,
            ),
            (
                "list_issues",
                json!({"issues": [], "pageInfo": {"hasNextPage": false, "endCursor": ""}, "totalCount": 0})
                    .to_string(),
                false,
            ),
        ],
        ..Behaviour::default()
    }
}

async fn at(server: &FakeMcp, more: &str) -> TestApp {
    let table = format!(
        "[tracker]\nserver = \"git\"\nowner = \"platform\"\nrepo = \"failures\"\n{more}\n{}",
        server.table("git", "")
    );
    Setup::bare().await.file(&table).start().await
}

fn calls(server: &FakeMcp, tool: &str) -> Vec<Value> {
    let all = server.seen("tools/call");
    all.iter()
        .filter(|call| call["params"]["name"] == tool)
        .map(|call| call["params"]["arguments"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_newer_servers_are_told_what_to_do_by_a_method() {
    let server = FakeMcp::start(newer()).await;
    let app = at(&server, "create_arguments = { labels = [\"ci\"] }").await;
    let answer = app.post(&body(), &[]).await;
    assert_eq!(
        answer.body["result"], "Issue created: https://ghe.example/platform/failures/issues/7",
        "{:?}",
        answer.body
    );
    let mut filed = calls(&server, "issue_write").remove(0);
    assert!(
        filed["body"].as_str().unwrap().contains("`regreen:incident:"),
        "the mark is not hidden: {filed}"
    );
    filed["body"] = json!("");
    filed["title"] = json!("");
    let wanted = json!({"method": "create", "show_ui": false, "owner": "platform", "repo": "failures", "title": "", "body": "", "labels": ["ci"]});
    assert_eq!(filed, wanted);
    sqlx::query("update incidents set commented_at = now() - interval '2 hours'")
        .execute(&app.pool().await)
        .await
        .unwrap();
    assert!(app.post(&body(), &[]).await.body["result"].as_str().unwrap().starts_with("Known cause"));
    let listed = &calls(&server, "list_issues")[0];
    let wanted = json!({"owner": "platform", "repo": "failures", "perPage": 50, "orderBy": "CREATED_AT", "direction": "DESC"});
    assert_eq!(listed, &wanted, "both states, which it returns when none is given");
    assert_eq!(calls(&server, "add_issue_comment")[0]["issue_number"], 7);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_found_issue_is_asked_for_and_what_cannot_be_read_ends_the_report() {
    let server = FakeMcp::start(newer()).await;
    // It files without saying where, and lists without addresses, as a server that shows no comments of HTML.
    server.behave(|behaviour| behaviour.answers[0].1 = "done".to_owned());
    let app = at(&server, "kind = \"github\"").await;
    let answer = app.post(&body(), &[("prefer", "respond-async")]).await;
    let id = answer.body["report_id"].as_str().unwrap().to_owned();
    eventually("it is filed", async || calls(&server, "issue_write").pop()).await;
    let filed = calls(&server, "issue_write").remove(0);
    let seen = filed["body"].as_str().unwrap().replace('<', "&lt;");
    let page = json!({"issues": [{"number": 12, "title": "t", "body": seen, "state": "OPEN"}], "pageInfo": {"hasNextPage": false, "endCursor": "c"}});
    let whole = json!({"number": 12, "title": "t", "body": seen, "state": "open", "html_url": "https://ghe.example/platform/failures/issues/12"});
    server.behave(|behaviour| {
        behaviour.answers = vec![
            ("issue_write", "done".to_owned(), false),
            ("list_issues", page.to_string(), false),
            ("issue_read", whole.to_string(), false),
        ];
    });
    let pool = app.pool().await;
    let done = eventually("the report ends", async || {
        let due = "update graphile_worker._private_jobs set run_at = now() where locked_at is null and attempts > 0";
        sqlx::query(due).execute(&pool).await.unwrap();
        let report = app.get(&format!("/api/reports/{id}")).await.body;
        matches!(report["status"].as_str(), Some("done" | "failed")).then_some(report)
    })
    .await;
    assert_eq!(done["result"], "Issue created: https://ghe.example/platform/failures/issues/12", "{done}");
    assert_eq!(calls(&server, "issue_read")[0]["method"], "get");
    // Another cause, and a list that nobody here can read.
    server.behave(|behaviour| behaviour.answers[1].1 = "#12 t\n#13 u".to_owned());
    let other = json!({"namespace": "ci", "pod_name": "q", "log": "one\nfatal: repository 'x' not found\nexit status 128\n"});
    let ended = to_the_end(&app, &other).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended.to_string().contains("no other one is filed. Look for `regreen:incident:"), "{ended}");
    assert_eq!(calls(&server, "issue_write").len(), 2, "one for each cause");
    app.stop().await;
}
