//! Work on failures in the pages: reports that failed, buttons of an incident, lists that are narrowed, logs that wrap.

use super::pages::is_sound;
use crate::support::browser::{Browser, Page, Scheme, Screen};
use crate::support::{Setup, TestApp, eventually};
use serde_json::json;

/// The page in every light and width, whole and sound.
async fn sound_everywhere(page: &Page, url: &str, name: &str) {
    for (screen, width) in [(Screen::Desktop, ""), (Screen::Phone, "-phone")] {
        for (scheme, light) in [(Scheme::Light, ""), (Scheme::Dark, "-dark")] {
            page.screen(screen).await;
            page.scheme(scheme).await;
            page.open(url).await;
            page.wait_for("main h1").await;
            let wide = page.eval("document.documentElement.scrollWidth > window.innerWidth").await;
            assert_eq!(wide, false, "{name}{width} is wider than its screen");
            is_sound(page, &format!("{name}{width}{light}")).await;
        }
    }
    page.screen(Screen::Desktop).await;
    page.scheme(Scheme::Light).await;
}

/// A log whose cause stands between lines longer than a screen is wide.
fn long_lines() -> String {
    let long =
        |number: usize| format!("step {number} {}\n", "downloading-a-part-with-a-long-name ".repeat(30));
    let mut log: String = (0..200).map(long).collect();
    log.push_str("before the failure\nerror: the pump is broken, so nothing flows\nafter the failure\n");
    log.extend((200..260).map(long));
    log
}

async fn report(app: &TestApp, what: &str, log: &str) -> String {
    let body = json!({"namespace": "ci", "pod_name": format!("{what}-pod"), "pipeline": format!("deliver-{what}"), "task": "build",
        "run": format!("{what}-run-1"), "log": log});
    let answer = app.post(&body, &[]).await;
    answer.body["report_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_reports_and_incidents_are_sound_in_every_light_and_width() {
    let app = Setup::bare().await.start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    sound_everywhere(&page, &format!("{}/reports", app.base), "reports-empty").await;
    // One that failed: no cluster, no log.
    let failed =
        app.post(&json!({"namespace": "ci", "pod_name": "gone-pod", "pipeline": "deliver"}), &[]).await;
    assert_eq!(failed.status, 502, "{:?}", failed.body);
    let failed = failed.body["report_id"].as_str().unwrap();
    let pump = report(&app, "pump", &long_lines()).await;
    report(&app, "valve", "error: the valve is broken\n").await;
    let incident =
        app.get(&format!("/api/reports/{pump}")).await.body["incident_id"].as_str().unwrap().to_owned();
    for (path, name) in [
        ("/".to_owned(), "work-overview"),
        ("/reports".to_owned(), "reports"),
        ("/reports?status=failed".to_owned(), "reports-failed"),
        ("/reports/new".to_owned(), "report-new"),
        (format!("/reports/{failed}"), "report-failed"),
        ("/incidents".to_owned(), "work-incidents"),
        ("/incidents?resolved=0&q=nothing".to_owned(), "work-incidents-none"),
        (format!("/incidents/{incident}"), "work-incident"),
        (format!("/reports/{pump}/evidence/E1?lines=202-202#L202"), "work-log"),
    ] {
        sound_everywhere(&page, &format!("{}{path}", app.base), name).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_report_is_seen_on_the_overview_and_tried_again() {
    let app = Setup::bare().await.start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&app.base).await;
    page.wait_for("#live").await;
    assert_eq!(page.count(".figure.alarm").await, 0);
    let id = report(&app, "gone", "").await;
    page.wait_for(".figure.alarm").await;
    assert!(page.text("#failed + .scroll").await.contains("ci/gone-pod"));
    page.click(".figure.alarm").await;
    page.wait_for("//h1[normalize-space()='Reports']").await;
    assert!(page.url().await.ends_with("/reports?status=failed"));
    let row = page.text("tbody tr").await;
    for part in ["deliver-gone / build", "gone-run-1", "failed", "no MCP server"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    page.click("//button[normalize-space()='Try again']").await;
    eventually("it was tried again", async || {
        let record = app.get("/api/audit?action=report.retry").await.body;
        record["entries"].as_array().is_some_and(|entries| !entries.is_empty()).then_some(())
    })
    .await;
    page.open(&format!("{}/reports/{id}", app.base)).await;
    page.wait_for("//button[normalize-space()='Try again']").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_worked_on_without_scripts() {
    let app = Setup::bare().await.start().await;
    for what in ["pump", "valve", "gauge"] {
        report(
            &app,
            what,
            &format!("preparing\nstarting\nerror: the {what} is broken\nstopping\nstopped\nover\n"),
        )
        .await;
    }
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.without_scripts().await;
    page.open(&format!("{}/incidents", app.base)).await;
    assert!(page.text("tbody").await.contains("ci · deliver-valve / build"));
    page.fill("#pipeline", "deliver-pump").await;
    page.click("//button[normalize-space()='Filter']").await;
    page.wait_until("document.querySelectorAll('tbody tr').length === 1").await;
    page.click("a.title").await;
    // The whole line, with two around it.
    let lines = page.text(".excerpt").await;
    for part in ["preparing", "starting", "error: the pump is broken", "stopping", "stopped"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert!(!lines.contains("over"), "{lines}");
    assert_eq!(page.text(".excerpt .cited").await.split_whitespace().next(), Some("3"));
    // What needs a script is not there; times say their zone.
    assert_eq!(
        page.eval("[...document.querySelectorAll('.copy, .scripted')].filter((e) => e.offsetParent).length")
            .await,
        0
    );
    assert!(page.text("time.exact").await.ends_with(" UTC"));
    page.click("//button[normalize-space()='Resolve']").await;
    page.click("//button[normalize-space()='Reopen']").await;
    page.wait_for("//button[normalize-space()='Resolve']").await;
    page.click("//button[normalize-space()='Investigate again']").await;
    page.wait_for("//li[contains(., 'Reported')]").await;
    // Two of three at once.
    page.open(&format!("{}/incidents?sort=first_seen", app.base)).await;
    page.click("tbody tr:nth-of-type(1) input[type=checkbox]").await;
    page.click("tbody tr:nth-of-type(3) input[type=checkbox]").await;
    page.click("//button[normalize-space()='Resolve selected']").await;
    page.wait_for("//p[contains(., '2 incidents were resolved')]").await;
    page.open(&format!("{}/incidents?status=open", app.base)).await;
    assert_eq!(page.count("tbody tr").await, 1);
    assert!(page.text("tbody").await.contains("deliver-valve"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_the_readers_and_texts_can_be_copied() {
    let app = Setup::bare().await.start().await;
    report(&app, "pump", "starting\nerror: the pump is broken\n").await;
    let incident = app.get("/api/incidents").await.body["incidents"][0].clone();
    let (id, seen) = (incident["id"].as_str().unwrap(), incident["first_seen"].as_str().unwrap());
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.zone("Asia/Kolkata").await;
    page.open(&format!("{}/incidents/{id}", app.base)).await;
    let seen: chrono::DateTime<chrono::Utc> = seen.parse().unwrap();
    let local = (seen + chrono::TimeDelta::minutes(330)).format("%Y-%m-%d %H:%M:%S").to_string();
    page.wait_until(&format!(
        "[...document.querySelectorAll('#facts + dl time')].some((t) => t.textContent === '{local}')"
    ))
    .await;
    let title = page.attribute("#facts + dl time", "title").await.unwrap();
    let utc = seen.format("%Y-%m-%d %H:%M:%S").to_string();
    // India's zone has had two names.
    assert!(
        title.starts_with(&local) && title.contains("Asia/") && title.contains(&format!("({utc} UTC)")),
        "{title}"
    );
    // What is copied is caught where it would leave the page.
    page.eval("(() => { Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => { window.copied = text; }}}); })()").await;
    for (selector, wanted) in [
        (".claim .copy", "error: the pump is broken".to_owned()),
        ("[aria-label='Copy id']", id.to_owned()),
        (
            "[data-curl]",
            format!("curl -sS -H \"Authorization: Bearer $REGREEN_TOKEN\" '{}/api/incidents/{id}'", app.base),
        ),
    ] {
        page.click(selector).await;
        page.wait_until(&format!("window.copied === {}", json!(wanted))).await;
    }
    page.click("[data-copy-from]").await;
    page.wait_until("window.copied.includes('regreen:incident:')").await;
    assert_eq!(page.console_errors().await, Vec::<String>::new());
    app.stop().await;
}

/// Where the cited line is, in the window.
async fn cited(page: &Page) -> serde_json::Value {
    page.wait_for("#log[data-drawn] li.cited").await;
    page.eval(CITED).await
}

/// Where the cited line is, and whether the lines are beneath each other.
const CITED: &str = "(() => { const line = document.querySelector('li.cited'), box = document.getElementById('log').getBoundingClientRect(), at = line.getBoundingClientRect(); \
         return {number: line.dataset.number, seen: at.top >= Math.max(box.top, 0) && at.top + 20 <= Math.min(box.bottom, innerHeight), \
         wide: document.getElementById('log').scrollWidth > document.getElementById('log').clientWidth + 1, \
         apart: [...document.querySelectorAll('#log li')].every((li, i, all) => !i || Math.abs(all[i - 1].getBoundingClientRect().bottom - li.getBoundingClientRect().top) < 1)}; })()";

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_wrap_and_the_cited_one_is_in_sight() {
    let app = Setup::bare().await.start().await;
    let id = report(&app, "pump", &long_lines()).await;
    let url = format!("{}/reports/{id}/evidence/E1?lines=202-202#L202", app.base);
    let browser = Browser::start().await;
    let page = browser.page().await;
    for screen in [Screen::Desktop, Screen::Phone] {
        page.screen(screen).await;
        page.open(&url).await;
        page.wait_until("document.querySelector('li.cited')?.getBoundingClientRect().top < innerHeight")
            .await;
        assert_eq!(
            cited(&page).await,
            json!({"number": "202", "seen": true, "wide": false, "apart": true}),
            "{screen:?}"
        );
        // Up to the first line: what was guessed of the lines between is put right on the way.
        page.eval("(() => { document.getElementById('log').scrollTop = 0; })()").await;
        page.wait_for("li[data-number='1']").await;
        page.eval("(() => { location.hash = 'L250'; })()").await;
        // The page settles once the lines before it were drawn.
        page.wait_until(&format!("({CITED}).number === '250' && ({CITED}).seen")).await;
        assert_eq!(cited(&page).await["apart"], true);
    }
    // Not wrapped, as the reader chose, on the next log too.
    page.screen(Screen::Desktop).await;
    page.click("#wrap").await;
    page.wait_until(
        "document.getElementById('log').scrollWidth > document.getElementById('log').clientWidth + 100",
    )
    .await;
    page.open(&url).await;
    let at = cited(&page).await;
    assert_eq!((&at["seen"], &at["wide"]), (&json!(true), &json!(true)), "{at}");
    assert_eq!(page.eval_on("#wrap", "element.checked").await, false);
    page.click("#wrap").await;
    // Without scripts lines wrap too, and the address leads to the line.
    let bare = browser.page().await;
    bare.without_scripts().await;
    bare.screen(Screen::Phone).await;
    bare.open(&url).await;
    let seen = "(() => { const at = document.getElementById('L202').getBoundingClientRect(); return at.top >= 0 && at.bottom <= innerHeight; })()";
    assert_eq!(bare.eval(seen).await, true);
    assert_eq!(bare.eval("document.documentElement.scrollWidth > innerWidth").await, false);
    app.stop().await;
}
