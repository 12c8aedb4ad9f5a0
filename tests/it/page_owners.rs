//! What is somebody's own on the pages, in a real Chromium: a reporter's reports, and one's conversations before others'.

use super::access::key;
use super::page_frame::is_sound_everywhere;
use super::pages::is_sound;
use crate::support::browser::{Browser, Page};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp};
use regreen::domain::Role;
use serde_json::{Value, json};

async fn with(app: &TestApp, path: &str, key: &str, body: &Value) -> Value {
    let request = app.http.post(format!("{}{path}", app.base)).bearer_auth(key).json(body);
    TestApp::read(request).await.body
}

/// Logs in and ends on the first page.
async fn log_in(page: &Page, app: &TestApp, key: &str) {
    page.open(&format!("{}/login", app.base)).await;
    page.fill("#key", &format!("{key}\n")).await;
    page.wait_until("location.pathname === '/' && document.readyState === 'complete'").await;
}

async fn reported(app: &TestApp, key: &str, namespace: &str, pod: &str) -> String {
    let body = json!({"namespace": namespace, "pod_name": pod, "pipeline": "shop", "task": "test", "log": "error: the widget is broken\nexit status 1\n"});
    with(app, "/report-failure", key, &body).await["report_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reporter_has_a_page_of_its_own() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let (own, other) = (key(&app, Role::Reporter, &["ci"]).await, key(&app, Role::Reporter, &[]).await);
    let browser = Browser::start().await;
    let page = browser.page().await;
    log_in(&page, &app, &own).await;
    assert!(page.text("main").await.contains("Nothing was reported yet"));
    is_sound_everywhere(&page, "own-none").await;
    let mine = reported(&app, &own, "ci", "build-1").await;
    let foreign = reported(&app, &other, "ci", "build-2").await;
    page.reload().await;
    assert_eq!(page.count("tbody tr").await, 1, "its own reports and no others");
    assert!(page.text("tbody").await.contains("ci/build-1"));
    let said = page.text("main").await;
    let command = format!("regreen report --server {} \\\n  --namespace ci", app.base);
    for words in
        [command.as_str(), "authorization: Bearer $REGREEN_TOKEN", &format!("{}/report-failure", app.base)]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(page.attribute("main a.button.main", "href").await.as_deref(), Some("/reports/new"));
    let sections = page.text("nav[aria-label=Pages]").await;
    assert!(sections.contains("Your reports") && !sections.contains("Incidents"), "{sections}");
    is_sound_everywhere(&page, "own").await;

    page.click("a.title").await;
    page.wait_until(&format!("location.pathname === '/reports/{mine}'")).await;
    let said = page.text("main").await;
    for words in ["ci/build-1", "Outcome", "What was reported", "shop"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    is_sound_everywhere(&page, "own-report").await;
    page.click("//a[starts-with(normalize-space(), 'E1')]").await;
    page.wait_until("document.body.innerText.includes('the widget is broken')").await;
    // What is not its own is not there, and a page that it may not see leads back to its own.
    page.open(&format!("{}/reports/{foreign}", app.base)).await;
    assert!(page.text("main").await.contains("404"));
    page.open(&format!("{}/incidents", app.base)).await;
    assert!(page.text("main").await.contains("403"));
    page.click("//a[normalize-space()='To your reports']").await;
    page.wait_for("a.title").await;
    page.open(&format!("{}/?status=failed", app.base)).await;
    assert!(page.text("main").await.contains("No report has this status"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_see_one_namespace_begins_with_its_reports() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let (reporter, viewer) =
        (key(&app, Role::Reporter, &[]).await, key(&app, Role::Viewer, &["team-a"]).await);
    reported(&app, &reporter, "team-a", "build-1").await;
    reported(&app, &reporter, "team-b", "build-2").await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.without_scripts().await;
    log_in(&page, &app, &viewer).await;
    let said = page.text("main").await;
    assert!(said.contains("team-a/build-1") && !said.contains("team-b"), "{said}");
    page.click("a.title").await;
    page.wait_for("#reported").await;
    assert!(
        !page.text("nav[aria-label=Pages]").await.contains("Incidents"),
        "what is refused is not offered"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_conversations_come_before_others() {
    let model =
        FakeModel::start(vec![Reply::Text("Nothing."), Reply::Text("Nothing."), Reply::Text("Nothing.")])
            .await;
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").model(&model).start().await;
    let (alice, bob) = (key(&app, Role::Operator, &[]).await, key(&app, Role::Operator, &[]).await);
    for (who, message) in
        [(&alice, "What about zebras?"), (&bob, "What about lions?"), (&bob, "What about bears?")]
    {
        let answered = with(&app, "/api/chat", who, &json!({"message": message})).await;
        assert_eq!(answered["message"]["text"], "Nothing.", "{answered}");
    }
    let browser = Browser::start().await;
    let page = browser.page().await;
    log_in(&page, &app, &alice).await;
    page.open(&format!("{}/chat", app.base)).await;
    let (own, others) = (page.text("#own + ul").await, page.text("#others + ul").await);
    assert!(own.contains("zebras") && !own.contains("lions") && !own.contains("key:"), "{own}");
    assert!(others.contains("lions") && others.contains("bears") && !others.contains("zebras"), "{others}");
    assert_eq!(others.matches("key:operator-").count(), 2, "each says whose it is: {others}");
    is_sound_everywhere(&page, "chat-own").await;
    // Who speaks in another's conversation has it among their own.
    model.push(vec![Reply::Text("Nothing either.")]);
    page.click("//ul[@aria-labelledby='others']//a[contains(., 'lions')]").await;
    page.fill("#message", "And tigers?\n").await;
    page.wait_until("document.body.innerText.includes('Nothing either.')").await;
    page.open(&format!("{}/chat", app.base)).await;
    assert!(page.text("#own + ul").await.contains("lions"));
    assert!(!page.text("#others + ul").await.contains("lions"));
    page.open(&format!("{}/conversations?whose=others", app.base)).await;
    let list = page.text("main table").await;
    assert!(list.contains("bears") && !list.contains("zebras") && !list.contains("lions"), "{list}");
    is_sound(&page, "conversations-others").await;
    app.stop().await;
}
