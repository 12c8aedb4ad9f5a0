//! Who may decide and delete what: nobody approves their own call where four eyes are wanted, not by a link either; what a
//! link decided is on record with who made it; conversations are their openers'; refused log-ins are counted.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Answer, Setup, TestApp, eventually, every};
use regreen::auth::{NewKey, make_key};
use regreen::domain::Role;
use reqwest::Method;
use serde_json::{Value, json};

/// A key of this name.
async fn key(app: &TestApp, name: &str, role: Role, by: &str) -> String {
    let new = NewKey {
        name: name.to_owned(),
        role,
        namespaces: Vec::new(),
        expires_in: None,
        by: regreen::domain::Actor::new(by, ""),
    };
    make_key(&app.pool().await, new).await.unwrap().1.expose().to_owned()
}

async fn call(app: &TestApp, key: Option<&str>, method: Method, path: &str, body: &Value) -> Answer {
    let mut request = app.http.request(method, format!("{}{path}", app.base));
    if !body.is_null() {
        request = request.json(body);
    }
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    TestApp::read(request).await
}

struct House {
    app: TestApp,
    model: FakeModel,
    lab: FakeMcp,
}

async fn house(four_eyes: &str) -> House {
    let lab = FakeMcp::start(Behaviour { tools: vec![("restart", false)], ..Behaviour::default() }).await;
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::bare().await.model(&model).file(&lab.table("lab", ""));
    let app = setup
        .set("REGREEN_AUTH", "keys")
        .set("REGREEN_CHAT_FOUR_EYES", four_eyes)
        .set("REGREEN_PUBLIC_URL", "http://localhost:1")
        .set("REGREEN_CHAT_LINK_SECRET", "a secret of at least sixteen bytes")
        .start()
        .await;
    House { app, model, lab }
}

impl House {
    /// A call that somebody asked for, as its path.
    async fn asked_by(&self, key: &str, name: &str) -> String {
        self.model.push(vec![Reply::call("restart", json!({ "name": name })), Reply::Text("It waits.")]);
        let answer =
            call(&self.app, Some(key), Method::POST, "/api/chat", &json!({"message": "restart it"})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        format!("/api/approvals/{}", answer.body["approvals"][0]["id"].as_str().unwrap())
    }

    async fn approve(&self, key: &str, path: &str) -> Answer {
        call(&self.app, Some(key), Method::POST, path, &json!({"decision": "approve"})).await
    }

    /// Waits until the conversation has gone on after a decision.
    async fn gone_on(&self, key: &str, path: &str) {
        eventually("the conversation has gone on", async || {
            let approval = self.state(key, path).await;
            let conversation = format!("/api/conversations/{}", approval["conversation_id"].as_str()?);
            let running = self.state(key, &conversation).await["running"].clone();
            (approval["told_in"].is_string() && running.is_null()).then_some(())
        })
        .await;
    }

    /// A link that somebody made, on this service.
    async fn link(&self, key: &str, path: &str, choice: &str) -> String {
        let made =
            call(&self.app, Some(key), Method::GET, &format!("{path}/links?for=oncall"), &Value::Null).await;
        assert_eq!(made.status, 200, "{:?}", made.body);
        made.body[choice].as_str().unwrap().strip_prefix("http://localhost:1").unwrap().to_owned()
    }

    async fn state(&self, key: &str, path: &str) -> Value {
        call(&self.app, Some(key), Method::GET, path, &Value::Null).await.body
    }
}

/// Somebody else approves, on the page and by a link.
async fn others_approve(house: &House, (alice, bob): (&str, &str), ada: &str) {
    let app = &house.app;
    let path = house.asked_by(alice, "one").await;
    house.model.push(vec![Reply::Text("Done.")]);
    assert_eq!(house.approve(bob, &path).await.status, 200);
    house.gone_on(bob, &path).await;
    assert_eq!(house.state(bob, &path).await["state"], "done");
    let path = house.asked_by(alice, "two").await;
    let link = house.link(alice, &path, "approve").await;
    let viewer = key(app, "viewer", Role::Viewer, "test").await;
    assert_eq!(call(app, Some(&viewer), Method::POST, &link, &Value::Null).await.status, 403);
    house.model.push(vec![Reply::Text("Done.")]);
    let pressed = call(app, Some(bob), Method::POST, &link, &Value::Null).await;
    assert_eq!(pressed.status, 200, "{:?}", pressed.body);
    house.gone_on(ada, &path).await;
    assert_eq!(house.lab.seen("tools/call").len(), 2);
    let by = house.state(ada, &path).await["decided_by"].clone();
    assert_eq!(by, "key:bob by signed link (made by key:alice, issued to oncall)");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_call_where_four_eyes_are_wanted() {
    let house = house("yes").await;
    let app = &house.app;
    let (alice, bob) =
        (key(app, "alice", Role::Operator, "test").await, key(app, "bob", Role::Operator, "test").await);
    let ada = key(app, "ada", Role::Admin, "test").await;
    let (second, third) = (
        key(app, "second", Role::Admin, "key:ada").await,
        key(app, "third", Role::Admin, "key:second").await,
    );
    // Neither an operator nor an administrator, nor with a key that they made.
    for (asker, deciders) in
        [(&alice, vec![&alice]), (&ada, vec![&ada, &second, &third]), (&third, vec![&ada])]
    {
        let path = house.asked_by(asker, "checkout").await;
        for decider in deciders {
            let refused = house.approve(decider, &path).await;
            assert_eq!(refused.status, 403, "{:?}", refused.body);
            let detail = refused.body["detail"].as_str().unwrap();
            assert!(detail.contains("chat.four_eyes") && detail.contains("somebody else"), "{detail}");
        }
        let page = path.replace("/api", "");
        let own = call(app, Some(asker), Method::GET, &page, &Value::Null).await.body.to_string();
        let others = call(app, Some(&bob), Method::GET, &page, &Value::Null).await.body.to_string();
        let button = "value=\\\"approve\\\"";
        assert!(!own.contains(button) && own.contains("You asked for this call"), "{own}");
        assert!(others.contains(button), "{others}");
        let form = app.http.post(format!("{}{page}", app.base)).bearer_auth(asker);
        let sent = form.form(&[("decision", "approve")]).send().await.unwrap();
        assert_eq!(sent.status(), 403);
        // Not by a link: neither nobody in particular, nor they themselves.
        let link = house.link(asker, &path, "approve").await;
        for presser in [None, Some(asker.as_str())] {
            let refused = call(app, presser, Method::POST, &link, &Value::Null).await;
            assert_eq!(refused.status, 403, "{:?}", refused.body);
        }
        assert_eq!(house.state(asker, &path).await["state"], "pending");
        assert!(house.lab.seen("tools/call").is_empty());
        // They may take it back.
        house.model.push(vec![Reply::Text("Then not.")]);
        let denied = call(app, Some(asker), Method::POST, &path, &json!({"decision": "deny"})).await;
        assert_eq!(denied.status, 200, "{:?}", denied.body);
        house.gone_on(asker, &path).await;
    }
    let refused =
        call(app, Some(&ada), Method::GET, "/api/audit?action=approval.approve", &Value::Null).await;
    let refused = refused.body["entries"].as_array().unwrap().clone();
    assert!(every(&refused, |row| row["outcome"] == "refused"), "{refused:?}");
    assert!(refused.iter().any(|row| row["actor"] == "key:alice"), "{refused:?}");
    others_approve(&house, (&alice, &bob), &ada).await;
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_by_a_link_is_on_record_with_who_made_the_link() {
    let house = house("no").await;
    let app = &house.app;
    let (alice, bob) =
        (key(app, "alice", Role::Operator, "test").await, key(app, "bob", Role::Operator, "test").await);
    let ada = key(app, "ada", Role::Admin, "test").await;
    for (name, presser, actor) in [
        ("one", None, "signed link (made by key:alice, issued to oncall)"),
        ("two", Some(bob.as_str()), "key:bob by signed link (made by key:alice, issued to oncall)"),
    ] {
        let path = house.asked_by(&bob, name).await;
        let link = house.link(&alice, &path, "deny").await;
        // Whoever claims that somebody else made it has no link.
        let claimed = link.replace("by=key%3Aalice", "by=key%3Aada");
        assert_ne!(claimed, link);
        assert_eq!(call(app, presser, Method::POST, &claimed, &Value::Null).await.status, 403);
        house.model.push(vec![Reply::Text("Then not.")]);
        assert_eq!(call(app, presser, Method::POST, &link, &Value::Null).await.status, 200);
        house.gone_on(&ada, &path).await;
        let object = path.rsplit('/').next().unwrap();
        let rows = format!("/api/audit?object={object}");
        let rows = call(app, Some(&ada), Method::GET, &rows, &Value::Null).await.body["entries"].clone();
        let row = |action: &str| {
            let rows = rows.as_array().unwrap();
            rows.iter()
                .find(|row| row["action"] == action)
                .unwrap_or_else(|| panic!("{action}: {rows:?}"))
                .clone()
        };
        let (made, decided) = (row("approval.link"), row("approval.deny"));
        assert_eq!((&made["actor"], &made["detail"]), (&json!("key:alice"), &json!("issued to oncall")));
        assert_eq!(decided["actor"], actor);
        let detail = decided["detail"].as_str().unwrap();
        assert!(
            detail.ends_with("by a signed link made by key:alice, issued to oncall, used from 127.0.0.1"),
            "{detail}"
        );
    }
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_rename_and_delete_their_own_conversations_alone() {
    let house = house("no").await;
    let app = &house.app;
    let (alice, bob) =
        (key(app, "alice", Role::Operator, "test").await, key(app, "bob", Role::Operator, "test").await);
    let ada = key(app, "ada", Role::Admin, "test").await;
    let open = async || {
        house.model.push(vec![Reply::Text("Hello.")]);
        let asked = json!({"message": "what is it now?"});
        let answer = call(app, Some(&alice), Method::POST, "/api/chat", &asked).await;
        format!("/api/conversations/{}", answer.body["conversation_id"].as_str().unwrap())
    };
    let path = open().await;
    let (id, title) = (path.rsplit('/').next().unwrap().to_owned(), json!({"title": "mine now"}));
    // Whoever had a word in it has not begun it.
    house.model.push(vec![Reply::Text("Hello, Bob.")]);
    let asked = json!({"message": "and I?", "conversation_id": id});
    assert_eq!(call(app, Some(&bob), Method::POST, "/api/chat", &asked).await.status, 200);
    for (method, body) in [(Method::DELETE, &Value::Null), (Method::PATCH, &title)] {
        let refused = call(app, Some(&bob), method, &path, body).await;
        assert_eq!(refused.status, 403, "{:?}", refused.body);
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        assert!(refused.body["detail"].as_str().unwrap().contains("key:alice"), "{:?}", refused.body);
    }
    let page = format!("/chat/{id}");
    for (reader, has_button) in [(&alice, true), (&bob, false), (&ada, true)] {
        let shown = call(app, Some(reader), Method::GET, &page, &Value::Null).await.body.to_string();
        assert_eq!(shown.contains("value=\\\"delete\\\""), has_button, "{shown}");
    }
    let form = app.http.post(format!("{}/conversations/{id}", app.base)).bearer_auth(&bob);
    assert_eq!(form.form(&[("do", "delete")]).send().await.unwrap().status(), 403);
    assert_eq!(call(app, Some(&bob), Method::GET, &path, &Value::Null).await.status, 200, "it is there");
    assert_eq!(call(app, Some(&alice), Method::PATCH, &path, &title).await.body["title"], "mine now");
    assert_eq!(call(app, Some(&alice), Method::DELETE, &path, &Value::Null).await.status, 204);
    let path = open().await;
    assert_eq!(call(app, Some(&ada), Method::DELETE, &path, &Value::Null).await.status, 204);
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_log_ins_are_a_few_rows_and_a_number() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    for _ in 0..40 {
        let form = app.http.post(format!("{}/login", app.base)).form(&[("key", "rgn_nothing")]);
        assert_eq!(form.send().await.unwrap().status(), 401);
    }
    let pool = app.pool().await;
    app.stop().await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select detail from audit where action = 'login' and outcome = 'refused' order by id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let (single, counted): (Vec<&String>, Vec<&String>) =
        rows.iter().partition(|row| row.starts_with("with an API key, from 127.0.0.1"));
    // Should the minute end in between, there are two of each.
    assert!((5..=10).contains(&single.len()) && (1..=2).contains(&counted.len()), "{rows:?}");
    let more: usize =
        counted.iter().map(|row| row.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(single.len() + more, 40, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_before_belong_to_whoever_asked_first() {
    let pool = crate::support::pool(&crate::support::fresh_database().await).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let at = files.iter().position(|file| file.to_string_lossy().contains("_own_access")).unwrap();
    let apply = async |file: &std::path::Path| {
        let sql = std::fs::read_to_string(file).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    for file in &files[..at] {
        apply(file).await;
    }
    let seeded = "insert into conversations (id, title, created_at, updated_at) values ('01a1f000-0000-7000-8000-00000000c001', 't', now(), now());
         insert into turns (id, conversation_id, lease_until, started_at, state, finished_at, caller)
         values ('01a1f000-0000-7000-8000-00000000c003', '01a1f000-0000-7000-8000-00000000c001', now(), now(), 'done', now(), 'key:bob'),
                ('01a1f000-0000-7000-8000-00000000c002', '01a1f000-0000-7000-8000-00000000c001', now(), now() - interval '1 day', 'done', now(), 'key:alice')";
    sqlx::raw_sql(seeded).execute(&pool).await.unwrap();
    apply(&files[at]).await;
    let kept: (String, Option<String>) = sqlx::query_as(
        "select c.opened_by, t.visible_to from conversations c join turns t on t.conversation_id = c.id limit 1",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(kept, ("key:alice".to_owned(), None), "what everybody could read stays so");
}
