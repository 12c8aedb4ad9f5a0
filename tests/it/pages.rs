//! The pages, in a real Chromium: what a platform engineer does in them from the failure to the answer.

use crate::support::browser::{Browser, Page, Scheme, Screen};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::wire::Wire;
use crate::support::{Setup, TestApp};
use serde_json::{Value, json};

/// Nothing is wrong with a page: no error on its console, no serious violation of accessibility.
async fn is_sound(page: &Page, name: &str) {
    page.screenshot(name).await;
    let violations = page.axe().await;
    assert!(violations.is_empty(), "{name}: {violations:#?}");
    let errors = page.console_errors().await;
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

async fn path(page: &Page) -> String {
    page.eval("location.pathname").await.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_appears_and_its_claims_lead_to_their_lines() {
    let app = Setup::whole().await.start().await.read_up().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/", app.base)).await;
    page.wait_for("#live").await;
    is_sound(&page, "overview-empty").await;
    // The page is open while the failure is reported, and shows it without being read anew.
    page.eval("window.same = true").await;
    app.report("maven-dependency").await;
    page.wait_for("a.title[href^='/incidents/']").await;
    assert_eq!(page.eval("window.same").await, true);
    for (screen, scheme, name) in [
        (Screen::Desktop, Scheme::Light, "overview"),
        (Screen::Desktop, Scheme::Dark, "overview-dark"),
        (Screen::Phone, Scheme::Light, "overview-phone"),
    ] {
        page.screen(screen).await;
        page.scheme(scheme).await;
        is_sound(&page, name).await;
    }
    page.screen(Screen::Desktop).await;
    page.click("a.title[href^='/incidents/']").await;
    page.wait_for(".claim.verified .cite").await;
    is_sound(&page, "incident").await;
    page.click(".claim.verified .cite").await;
    // The log is long; the cited line is in sight and marked, and the rest is not in the page.
    page.wait_for("#log[data-drawn] li.cited").await;
    let seen = page
        .eval(
            "(() => { const line = document.querySelector('li.cited'), box = document.getElementById('log'); \
             const [a, b] = [line.getBoundingClientRect(), box.getBoundingClientRect()]; \
             return {number: 'L' + line.dataset.number, inside: a.top >= b.top && a.bottom <= b.bottom, lines: box.querySelectorAll('li').length, \
             total: Number(box.dataset.total), hash: location.hash.slice(1)}; })()",
        )
        .await;
    assert_eq!((&seen["inside"], &seen["number"]), (&json!(true), &seen["hash"]), "{seen}");
    assert!(seen["total"].as_u64() > Some(5_000) && seen["lines"].as_u64() < Some(300), "{seen}");
    is_sound(&page, "log").await;
    page.fill("#q", "downloading from central\n").await;
    page.wait_until("document.getElementById('where').textContent.includes(' of ')").await;
    page.click("#next").await;
    page.wait_for("li.hit mark").await;
    is_sound(&page, "log-search").await;
    app.stop().await;
}
