//! Logging in to the pages, in a real Chromium: who sees what.

use super::access::key;
use super::pages::is_sound;
use crate::support::browser::{Browser, Scheme, Screen};
use crate::support::fake_model::FakeModel;
use crate::support::issuer::Issuer;
use crate::support::{Setup, TestApp, every};
use regreen::domain::Role;

async fn guarded() -> TestApp {
    let model = FakeModel::start(Vec::new()).await;
    Setup::whole().await.model(&model).set("REGREEN_AUTH", "keys").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_see_what_their_role_may_and_log_out() {
    let app = guarded().await;
    let (viewer, admin) = (key(&app, Role::Viewer, &[]).await, key(&app, Role::Admin, &[]).await);
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/runbooks", app.base)).await;
    page.wait_for("#key").await;
    assert_eq!(page.count("nav[aria-label=Pages]").await, 0, "whoever is unknown is shown no pages");
    is_sound(&page, "login").await;
    page.fill("#key", "rgn_wrong\n").await;
    page.wait_for("p.notice.bad").await;
    let refused = page.console_errors().await;
    assert!(every(&refused, |error| error.contains("401")), "{refused:?}");
    page.screen(Screen::Phone).await;
    page.scheme(Scheme::Dark).await;
    page.screenshot("login-refused-phone-dark").await;
    page.screen(Screen::Desktop).await;
    page.scheme(Scheme::Light).await;
    page.fill("#key", &format!("{viewer}\n")).await;
    // Where they wanted to go.
    page.wait_until("location.pathname === '/runbooks'").await;
    assert!(page.text("form.me").await.contains("viewer"));
    let sections = page.text("nav[aria-label=Pages]").await;
    assert!(
        sections.contains("Incidents") && !sections.contains("Keys") && !sections.contains("Settings"),
        "{sections}"
    );
    assert_eq!(page.count("form[action='/runbooks'][method=post]").await, 0);
    page.open(&format!("{}/", app.base)).await;
    page.wait_for("#live").await;
    is_sound(&page, "overview-viewer").await;
    page.open(&format!("{}/keys", app.base)).await;
    assert!(page.text("main").await.contains("An admin may do this"));
    page.click("form.me button").await;
    page.wait_for("#key").await;
    page.open(&format!("{}/", app.base)).await;
    page.wait_for("#key").await;

    page.fill("#key", &format!("{admin}\n")).await;
    page.wait_for("#live").await;
    page.open(&format!("{}/keys", app.base)).await;
    page.click("details.card summary").await;
    page.fill("#name", "team a").await;
    page.click("details.card button.main").await;
    page.wait_for("span.error").await;
    page.fill("#name", "team-a").await;
    page.fill("#namespaces", "team-a").await;
    page.click("details.card button.main").await;
    page.wait_for("#secret").await;
    let made = page.text("#secret").await;
    assert!(made.starts_with("rgn_"), "{made}");
    // What was refused on the way is on the console, and belongs there.
    page.console_errors().await;
    is_sound(&page, "keys").await;
    page.open(&format!("{}/keys", app.base)).await;
    assert!(!page.text("main").await.contains("rgn_"), "a key is shown once");
    let answer =
        TestApp::read(app.http.get(format!("{}/api/reports", app.base)).bearer_auth(made.trim())).await;
    assert_eq!(answer.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_at_the_issuer() {
    let issuer = Issuer::start().await;
    issuer.person(serde_json::json!({"roles": ["operator"]}));
    let port = crate::support::real_servers::free_port();
    let app = Setup::bare()
        .await
        .set("REGREEN_PORT", &port.to_string())
        .set("REGREEN_PUBLIC_URL", &format!("http://127.0.0.1:{port}"))
        .set("REGREEN_AUTH", "oidc,keys")
        .set("REGREEN_OIDC_ISSUER", &issuer.url)
        .set("REGREEN_OIDC_CLIENT_ID", "regreen-pages")
        .set("REGREEN_OIDC_CLIENT_SECRET", "client-secret")
        .start()
        .await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/incidents?state=open", app.base)).await;
    page.wait_for("a.button.main").await;
    is_sound(&page, "login-issuer").await;
    page.click("a.button.main").await;
    page.wait_until("location.pathname === '/incidents'").await;
    assert_eq!(page.eval("location.search").await, "?state=open");
    assert!(page.text("form.me").await.contains("oidc:alice, operator"));
    app.stop().await;
}
