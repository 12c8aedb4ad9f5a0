//! The tool policy on every way to a tool: chat, approvals, the page that tries a tool, the own MCP endpoint, the service's
//! own calls; people's own tokens; links that decide.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Answer, Setup, TestApp, eventually};
use regreen::audit::Recorder;
use regreen::chat::{ApprovalChoice, Ask, Decision, begin, decide};
use regreen::domain::policy::{AccessDecision, CallContext};
use regreen::domain::{Actor, AuthMethod, Caller, Role};
use regreen::mcp::{CallError, ToolCaller};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

async fn lab() -> FakeMcp {
    let tools = vec![("look", true), ("restart", false), ("pods_exec", true)];
    let takes = json!({"type": "object", "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}}});
    let schemas = BTreeMap::from([("look", takes.clone()), ("restart", takes)]);
    FakeMcp::start(Behaviour { tools, schemas, ..Behaviour::default() }).await
}

/// A service whose policy is these rules.
struct Ruled {
    setup: Setup,
    folder: tempfile::TempDir,
}

async fn ruled(rules: &str, lab: &FakeMcp, extra: &str) -> Ruled {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, rules).unwrap();
    let setup = Setup::bare().await.file(&lab.table("lab", extra));
    Ruled { setup: setup.set("REGREEN_POLICY_FILE", file.to_str().unwrap()), folder }
}

fn sent(lab: &FakeMcp) -> Vec<Value> {
    lab.seen("tools/call").iter().map(|message| message["params"]["arguments"].clone()).collect()
}

async fn ask(app: &TestApp, message: &str) -> Value {
    let answer = app.send("/api/chat", &json!({"message": message})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn approve(app: &TestApp, approval: &Value) -> Answer {
    let path = format!("/api/approvals/{}", approval["id"].as_str().unwrap());
    app.send(&path, &json!({"decision": "approve", "author": "bob"})).await
}

async fn settled(app: &TestApp, approval: &Value) -> Value {
    let path = format!("/api/approvals/{}", approval["id"].as_str().unwrap());
    eventually("the call is settled", async || {
        let state = app.get(&path).await.body;
        matches!(state["state"].as_str(), Some("done" | "failed")).then_some(state)
    })
    .await
}

const PINNED: &str = "[[rule]]\ntool = \"restart\"\ndecision = \"approve\"\npin = { namespace = \"ci\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_what_the_policy_leaves_of_a_call() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let Ruled { setup, folder: _folder } = ruled(PINNED, &lab, "").await;
    let app = setup.model(&model).start().await;
    let call = Reply::call("restart", json!({"name": "checkout", "namespace": "prod"}));
    model.push(vec![call, Reply::Text("It waits."), Reply::Text("Done.")]);
    let approval = ask(&app, "restart it").await["approvals"][0].clone();
    let pinned = json!({"name": "checkout", "namespace": "ci"});
    assert_eq!(approval["arguments"], pinned);
    approve(&app, &approval).await;
    assert_eq!(settled(&app, &approval).await["state"], "done");
    assert_eq!(sent(&lab), [pinned]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changed_after_the_approval_is_the_one_that_counts() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    for (rules, word) in [
        (
            "[[rule]]\ntool = \"restart\"\ndecision = \"deny\"\nreason = \"not before Monday\"\n",
            "not before Monday",
        ),
        (&PINNED.replace("\"ci\"", "\"staging\""), "other arguments than were shown"),
    ] {
        let Ruled { setup, folder: _folder } = ruled(PINNED, &lab, "").await;
        let database = setup.env()["DATABASE_URL"].clone();
        let app = setup.model(&model).start().await;
        model.push(vec![Reply::call("restart", json!({"name": "a"})), Reply::Text("It waits.")]);
        let approval = ask(&app, "restart it").await["approvals"][0].clone();
        app.stop().await;
        let Ruled { setup, folder: _folder } = ruled(rules, &lab, "").await;
        let again = setup.set("DATABASE_URL", &database).start().await;
        assert_eq!(approve(&again, &approval).await.status, 200);
        let state = settled(&again, &approval).await;
        assert_eq!(state["state"], "failed");
        assert!(state["error"].as_str().unwrap().contains(word), "{state}");
        if rules.contains("deny") {
            let row = eventually("the refusal is on record", async || {
                let rows = again.get("/api/audit?action=tool.call&outcome=refused").await.body;
                rows["entries"][0]["detail"].as_str().map(str::to_owned)
            })
            .await;
            assert!(row.contains(word), "{row}");
        }
        again.stop().await;
    }
    assert!(sent(&lab).is_empty(), "{:?}", sent(&lab));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_for_the_very_arguments_and_nothing_runs_while_it_waits() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = Setup::bare().await.model(&model).file(&lab.table("lab", "")).start().await;
    let approval = waiting(&app, &model).await;
    let pool = app.pool().await;
    let running: i64 = sqlx::query_scalar("select count(*) from turns where state = 'running'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(running, 0, "a call that waits holds nothing");
    sqlx::query("update approvals set arguments = '{\"name\": \"everything\"}'")
        .execute(&pool)
        .await
        .unwrap();
    approve(&app, &approval).await;
    let state = settled(&app, &approval).await;
    assert!(state["error"].as_str().unwrap().contains("not the one that was shown"), "{state}");
    assert!(sent(&lab).is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_that_tries_a_tool_is_no_way_around() {
    let lab = lab().await;
    let rules =
        "[[rule]]\ntool = \"look\"\nplace = \"page\"\ndecision = \"allow\"\npin = { namespace = \"ci\" }\n";
    let Ruled { setup, folder: _folder } = ruled(rules, &lab, "").await;
    let app = setup.start().await;
    let post = async |tool: &str, form: &[(&str, &str)]| {
        let url = format!("{}/mcp-servers/lab/tools/{tool}", app.base);
        let body = form.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let post = app.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = TestApp::read(post).await;
        (answer.status, answer.body.as_str().unwrap().to_owned())
    };
    for tool in ["pods_exec", "restart"] {
        assert_eq!(post(tool, &[]).await.0, 403, "{tool}");
    }
    let (status, page) = post("look", &[("namespace", "prod"), ("name", "x")]).await;
    assert!(status == 200 && page.contains("The policy sets `namespace`"), "{page}");
    assert!(!page.contains("name=\"namespace\""), "{page}");
    assert_eq!(sent(&lab), [json!({"namespace": "ci", "name": "x"})]);
    let tools = app.get("/api/mcp-servers/lab/tools").await.body["tools"].clone();
    let shown: Vec<String> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| {
            let said = |place: &str| {
                format!("{}/{}", tool["policy"][place]["decision"], tool["policy"][place]["rule"])
            };
            format!("{} {} {} {}", tool["name"], said("chat"), said("triage"), said("page")).replace('"', "")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "look allow/default allow/default allow/rule 1",
            "restart approve/default deny/default deny/default",
            "pods_exec deny/default deny/default deny/default"
        ]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_own_calls_go_on_under_a_policy_that_forbids_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, "[[rule]]\ndecision = \"deny\"\n").unwrap();
    let model = FakeModel::start(Vec::new()).await;
    let app =
        Setup::whole().await.set("REGREEN_POLICY_FILE", file.to_str().unwrap()).model(&model).start().await;
    let answer = app.report("dns").await;
    assert!(answer.body["result"].as_str().unwrap().starts_with("Issue created"), "{:?}", answer.body);
    let offered = model.requests()[0]["tools"].to_string();
    assert!(!offered.contains("pods_") && offered.contains("submit_diagnosis"), "{offered}");
    app.stop().await;
    // Unless it says so of the service.
    std::fs::write(&file, "[[rule]]\nplace = \"service\"\ntool = \"create_issue\"\ndecision = \"deny\"\nreason = \"a freeze\"\n").unwrap();
    let app = Setup::whole().await.set("REGREEN_POLICY_FILE", file.to_str().unwrap()).start().await;
    let answer = app.report("dns").await;
    assert!(answer.status >= 500 && answer.body.to_string().contains("a freeze"), "{:?}", answer.body);
    assert!(app.issues().is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_endpoint_asks_the_policy_too() {
    let lab = lab().await;
    let rules = "[[rule]]\nplace = \"mcp\"\nserver = \"regreen\"\ntool = \"triage_failure\"\ndecision = \"deny\"\nreason = \"report by Tekton\"\n";
    let Ruled { setup, folder: _folder } = ruled(rules, &lab, "").await;
    let app = setup.set("REGREEN_ADDED_URLS", "http://127.0.0.1:*/mcp").start().await;
    let added = json!({"name": "door", "transport": "streamable-http", "url": format!("{}/mcp", app.base)});
    assert_eq!(app.send("/api/mcp-servers", &added).await.status, 201);
    eventually("connected to itself", async || app.mcp().is_connected("door").then_some(())).await;
    let call = async |tool: &str, arguments: Value| {
        app.call(("door", tool), arguments, CancellationToken::new()).await.unwrap()
    };
    let refused = call("triage_failure", json!({"namespace": "ci", "pod_name": "p", "log": "x"})).await;
    assert!(refused.is_error && refused.text.contains("report by Tekton"), "{}", refused.text);
    assert!(!call("search_runbooks", json!({"query": "ImagePullBackOff"})).await.is_error);
    assert_eq!(app.get("/api/reports").await.body["reports"], json!([]));
    app.stop().await;
}

fn person(name: &str, token: Option<&str>) -> Caller {
    let token = token.map(SecretString::from);
    Caller { token, ..Caller::known(format!("oidc:{name}"), Role::Operator, None, AuthMethod::Oidc) }
}

async fn look(app: &TestApp, caller: Caller, name: &str) -> Result<String, CallError> {
    let recorder = Recorder::new(Actor::service("look"));
    let asker = Arc::new(CallContext::chat(caller, "troubleshooter"));
    let caller = ToolCaller { context: asker, recorder: recorder.clone() };
    match app.mcp().authorize(&caller, "lab", "look", json!({ "name": name }))? {
        AccessDecision::Allowed(permit) => {
            app.mcp().call(permit, &recorder, CancellationToken::new()).await.map(|result| result.text)
        }
        other => panic!("{other:?}"),
    }
}

/// The keys that calls came with, by the name in their arguments.
fn keys(lab: &FakeMcp) -> BTreeMap<String, String> {
    let named = |(headers, message): &(axum::http::HeaderMap, Value)| {
        assert!(headers.get("x-service").is_none() || headers["authorization"] == "Bearer service");
        let name = message["params"]["arguments"]["name"].as_str().unwrap().to_owned();
        (name, headers["authorization"].to_str().unwrap().to_owned())
    };
    lab.requests("tools/call").iter().map(named).collect()
}

const OWN: &str = "passthrough = true\nheaders = { Authorization = \"Bearer service\", X-Service = \"s\" }";

#[tokio::test(flavor = "multi_thread")]
async fn each_person_calls_with_their_own_token_and_nobody_with_the_services() {
    let lab = lab().await;
    let app = Setup::bare().await.file(&lab.table("lab", OWN)).start().await;
    let people = ["alice", "bob"].map(|name| person(name, Some(&format!("token-of-{name}"))));
    // Both at once, over and over.
    let calls = (0..40).map(|number| {
        let caller = &people[number % 2];
        let name = format!("{} {number}", caller.name);
        let app = &app;
        async move { look(app, caller.clone(), &name).await.unwrap() }
    });
    futures::future::join_all(calls).await;
    let used = keys(&lab);
    assert_eq!(used.len(), 40);
    for (name, key) in &used {
        let owner = if name.starts_with("oidc:alice") { "alice" } else { "bob" };
        assert_eq!(key, &format!("Bearer token-of-{owner}"), "{name}");
    }
    // A session for each of them, and one of the service; each session with one key.
    let sessions: BTreeMap<String, String> = lab
        .requests("tools/call")
        .iter()
        .map(|(headers, _)| {
            ["mcp-session-id", "authorization"].map(|name| headers[name].to_str().unwrap().to_owned()).into()
        })
        .collect();
    assert_eq!((sessions.len(), lab.requests("initialize").len()), (2, 3), "{sessions:?}");
    // Nobody without a token calls as the service; an investigation does.
    let refused = look(&app, person("carol", None), "carol").await.unwrap_err();
    assert_eq!(refused, CallError::NoToken { server: "lab".to_owned() });
    assert!(look(&app, Caller::anyone(), "anyone").await.is_err());
    app.call(("lab", "look"), json!({"name": "service"}), CancellationToken::new()).await.unwrap();
    let used = keys(&lab);
    assert_eq!((used.len(), used["service"].as_str()), (41, "Bearer service"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_uses_the_token_of_whoever_asks_and_keeps_it_nowhere() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let app = Setup::bare().await.model(&model).file(&lab.table("lab", OWN)).start().await;
    let ask = async |caller: Caller, replies: Vec<Reply>| {
        model.push(replies);
        let (message, author) = ("look".to_owned(), caller.name.clone());
        let begun = begin(app.app(), Ask { message, caller, author, ..Ask::default() }).await.unwrap();
        let url = format!("{}/api/chat/{}/events", app.base, begun.turn);
        app.events(app.http.get(url)).await.until("done").await.pop().unwrap().data
    };
    let replies = |name: &str| vec![Reply::call("look", json!({ "name": name })), Reply::Text("Looked.")];
    ask(person("alice", Some("token-of-alice")), replies("alice")).await;
    ask(person("carol", None), replies("carol")).await;
    let told = model.requests().last().unwrap().to_string();
    assert!(told.contains("called with the own token of whoever asks"), "{told}");
    assert_eq!(keys(&lab), BTreeMap::from([("alice".to_owned(), "Bearer token-of-alice".to_owned())]));
    // What waits for approval goes with the token of whoever asked, if they decide; it was kept nowhere.
    let restart = || vec![Reply::call("restart", json!({"name": "approved"})), Reply::Text("It waits.")];
    for (decider, state) in [("bob", "failed"), ("alice", "done")] {
        let waiting = ask(person("alice", Some("token-of-alice")), restart()).await["approvals"][0].clone();
        model.push(vec![Reply::Text("Seen.")]);
        let caller = person(decider, Some(&format!("token-of-{decider}")));
        assert_eq!(settled_by(&app, &waiting, caller).await["state"], state, "{decider}");
    }
    assert_eq!(keys(&lab).get("approved").map(String::as_str), Some("Bearer token-of-alice"));
    let pool = app.pool().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables {
        let sql = format!("select count(*) from {table} t where t::text like '%token-of-%'");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap();
        assert_eq!(found, 0, "{table}");
    }
    app.stop().await;
}

/// What became of a call that somebody approved, once the conversation has heard of it.
async fn settled_by(app: &TestApp, approval: &Value, caller: Caller) -> Value {
    let id = approval["id"].as_str().unwrap().parse().unwrap();
    let (choice, author) = (ApprovalChoice::Approve, caller.actor());
    let decided =
        decide(app.app(), id, Decision { choice, author, caller: Some(caller), note: None, link: None })
            .await;
    let url = format!("{}/api/chat/{}/events", app.base, decided.unwrap().turn.unwrap());
    app.events(app.http.get(url)).await.until("done").await;
    settled(app, approval).await
}

async fn linked(model: &FakeModel, lab: &FakeMcp) -> Setup {
    let setup = Setup::bare().await.model(model).file(&lab.table("lab", ""));
    setup
        .set("REGREEN_PUBLIC_URL", "http://localhost:1")
        .set("REGREEN_CHAT_LINK_SECRET", "a secret of at least sixteen bytes")
}

async fn waiting(app: &TestApp, model: &FakeModel) -> Value {
    model.push(vec![Reply::call("restart", json!({"name": "checkout"})), Reply::Text("It waits.")]);
    ask(app, "restart it").await["approvals"][0].clone()
}

/// The path and query of a link, on this service.
async fn links(app: &TestApp, approval: &Value) -> [String; 2] {
    let path = format!("/api/approvals/{}/links?for=oncall@example.com", approval["id"].as_str().unwrap());
    let made = app.get(&path).await;
    assert_eq!(made.status, 200, "{:?}", made.body);
    assert_eq!(made.body["expires_at"], approval["expires_at"]);
    ["approve", "deny"].map(|choice| {
        made.body[choice].as_str().unwrap().strip_prefix("http://localhost:1").unwrap().to_owned()
    })
}

async fn post(app: &TestApp, path: &str) -> Answer {
    TestApp::read(app.http.post(format!("{}{path}", app.base))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_link_decides_once_after_a_restart_too_and_nothing_by_being_followed() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let setup = linked(&model, &lab).await;
    let database = setup.env()["DATABASE_URL"].clone();
    let first = setup.start().await;
    let approval = waiting(&first, &model).await;
    let [approve, deny] = links(&first, &approval).await;
    first.stop().await;
    let app = linked(&model, &lab).await.set("DATABASE_URL", &database).start().await;
    let state = async || app.get(&format!("/api/approvals/{}", approval["id"].as_str().unwrap())).await.body;
    for link in [&approve, &deny, &approve] {
        let page = app.get(link).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.headers["referrer-policy"], "same-origin");
        let page = page.body.as_str().unwrap().to_owned();
        assert!(page.contains("checkout") && page.contains("oncall@example.com"), "{page}");
    }
    assert_eq!(state().await["state"], "pending");
    model.push(vec![Reply::Text("Done.")]);
    assert_eq!(post(&app, &approve).await.status, 200);
    assert_eq!(settled(&app, &approval).await["state"], "done");
    assert_eq!(state().await["decided_by"], "signed link (made by user, issued to oncall@example.com)");
    assert_eq!(sent(&lab), [json!({"name": "checkout"})]);
    for link in [&approve, &deny] {
        assert_eq!(post(&app, link).await.status, 409);
    }
    assert_eq!(sent(&lab).len(), 1);
    let again = format!("/api/approvals/{}/links", approval["id"].as_str().unwrap());
    assert_eq!(app.get(&again).await.status, 409);
    let recorded = app.get("/api/audit?action=approval.link").await.body["entries"].clone();
    assert_eq!(recorded[0]["object"], approval["id"], "{recorded}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_were_changed_or_are_over_decide_nothing() {
    let (lab, model) = (lab().await, FakeModel::start(Vec::new()).await);
    let setup = linked(&model, &lab).await;
    let database = setup.env()["DATABASE_URL"].clone();
    let app = setup.start().await;
    let (one, other) = (waiting(&app, &model).await, waiting(&app, &model).await);
    let [approve, deny] = links(&app, &one).await;
    let id = |approval: &Value| approval["id"].as_str().unwrap().to_owned();
    let until = approve.split("until=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let later = (until.parse::<i64>().unwrap() + 1).to_string();
    for changed in [
        deny.replace("/deny?", "/approve?"),
        approve.replace(&id(&one), &id(&other)),
        approve.replace(&until, &later),
        approve.replace("oncall", "anybody"),
        approve.rsplit_once('=').unwrap().0.to_owned() + "=" + &"0".repeat(64),
        approve.rsplit_once('=').unwrap().0.to_owned() + "=%C3%A4",
    ] {
        assert_eq!(post(&app, &changed).await.status, 403, "{changed}");
        assert_eq!(app.get(&changed).await.status, 403, "{changed}");
    }
    assert_eq!(post(&app, approve.split('?').next().unwrap()).await.status, 422);
    assert_eq!(post(&app, &approve.replace("/approve?", "/perhaps?")).await.status, 404);
    // Of other arguments, or after its time, a genuine one is none.
    let pool = app.pool().await;
    for change in [
        "update approvals set hash = 'other' where id = $1::uuid",
        "update approvals set hash = $2, expires_at = now() - interval '1 second' where id = $1::uuid",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!("with given as (select $2::text) {change}")))
            .bind(id(&one))
            .bind(one["hash"].as_str().unwrap())
            .execute(&pool)
            .await
            .unwrap();
        assert!(matches!(post(&app, &approve).await.status, 403 | 409));
    }
    assert_eq!(app.get(&format!("/api/approvals/{}/links", id(&one))).await.status, 409);
    app.stop().await;
    // Another secret, or none.
    let app = linked(&model, &lab).await.set("DATABASE_URL", &database);
    let app = app.set("REGREEN_CHAT_LINK_SECRET", "another secret of sixteen bytes").start().await;
    let [approve, _] = links(&app, &other).await;
    app.stop().await;
    let app = linked(&model, &lab).await.set("DATABASE_URL", &database).start().await;
    assert_eq!(post(&app, &approve).await.status, 403);
    app.stop().await;
    let app = Setup::bare().await.file(&lab.table("lab", "")).set("DATABASE_URL", &database).start().await;
    assert_eq!(post(&app, &approve).await.status, 403);
    let none = app.get(&format!("/api/approvals/{}/links", id(&other))).await;
    assert!(
        none.status == 404 && none.body["detail"].as_str().unwrap().contains("chat.link_secret"),
        "{none:?}"
    );
    app.stop().await;
    assert!(sent(&lab).is_empty());
}
