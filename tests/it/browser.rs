//! The harness that drives a browser does what it says: on the pages of Regreen that need nothing else, and on small
//! pages with a policy as strict as a page can have.

use crate::support::browser::{Browser, Page, Scheme, Screen};
use crate::support::fake_model::FakeModel;
use crate::support::wire::Wire;
use crate::support::{Setup, eventually};
use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use futures::FutureExt as _;
use futures::stream::unfold;
use regreen::shutdown::Shutdown;
use serde_json::json;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'";

const FORM: &str = r#"<!doctype html><html lang="en"><title>A form</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css">
<main><h1>A form</h1><form action="/form"><label>Name <input name="name" value="old"></label><button>Send</button></form>
<p id="script">Scripts do not run</p><p id="keys"></p><p hidden>Hidden</p></main><script src="/script.js"></script>"#;

const STYLE: &str = "body { background: #fff; color: #000; height: 2000px }
    @media (prefers-color-scheme: dark) { body { background: #000; color: #fff } }";

const SCRIPT: &str = "document.querySelector('#script').textContent = 'Scripts run';
    document.addEventListener('keydown', ({key, ctrlKey, shiftKey}) => {
        document.querySelector('#keys').textContent += (ctrlKey ? 'C-' : '') + (shiftKey ? 'S-' : '') + key + ' ';
    });";

const BROKEN: &str = r#"<!doctype html><title>No language</title><link rel="icon" href="data:,"><h1>Broken</h1>
<input><script>document.title = 'refused'</script><script src="/missing.js"></script>"#;

const FOLLOWED: &str = r#"<!doctype html><html lang="en"><title>News</title><link rel="icon" href="data:,">
<h1>News</h1><p id="news"></p><script src="/follow.js"></script>"#;

const FOLLOW: &str = "const source = new EventSource('/events');
    source.onmessage = ({data}) => document.querySelector('#news').textContent += data + ' ';";

async fn serve(router: Router, running: &Shutdown) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = running.token().clone();
    running
        .spawn(async move { stop.run_until_cancelled(async { axum::serve(listener, router).await }).await });
    base
}

fn page(html: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(html))
}

fn script(js: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript")], js)
}

fn small_pages() -> Router {
    Router::new()
        .route("/form", get(async || page(FORM)))
        .route("/broken", get(async || page(BROKEN)))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css")], STYLE)))
        .route("/script.js", get(async || script(SCRIPT)))
}

/// What a picture shows, as far as its header tells: its width and height.
fn size(png: &Path) -> (u32, u32) {
    let bytes = std::fs::read(png).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_running_service_can_be_read_and_clicked() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/docs", app.base)).await;
    page.wait_for("#operations-tag-health, .opblock").await;
    assert!(page.url().await.starts_with(&format!("{}/docs", app.base)), "{}", page.url().await);
    assert!(page.text(".info .title").await.starts_with("Regreen"));
    assert!(page.count(".opblock").await > 30);
    assert_eq!(page.count(".opblock.is-open").await, 0);
    page.click("//span[@data-path='/health/live']").await;
    page.wait_for(".opblock.is-open .responses-wrapper").await;
    assert_eq!(page.attribute(".opblock.is-open", "class").await.unwrap(), "opblock opblock-get is-open");
    assert_eq!(page.console_errors().await, Vec::<String>::new());
    page.screenshot("docs").await;
    assert!(app.report("go-vet").await.status == 200);
    let issue = app.issues()[0]["html_url"].as_str().unwrap().to_owned();
    page.open(&issue).await;
    assert!(page.text("h1").await.contains(app.issues()[0]["title"].as_str().unwrap()));
    page.screenshot("issue").await;
    app.stop().await;
}

async fn people_and_screens(page: &Page, base: &str) {
    page.open(&format!("{base}/form")).await;
    assert_eq!(page.text("#script").await, "Scripts run");
    page.fill("input", "ann b").await;
    page.press("Control+End").await;
    page.press("+c").await;
    assert_eq!(page.text("#keys").await, "a n n b C-Control C-End S-+ c");
    page.press("Enter").await;
    page.wait_until("location.search === '?name=ann+b%2Bc'").await;
    page.back().await;
    assert_eq!(page.wait_until("location.search === '' && document.title").await, "A form");
    assert_eq!(page.attribute("input", "name").await.as_deref(), Some("name"));
    assert_eq!(page.attribute("input", "class").await, None);
    assert_eq!((page.count("p").await, page.count("table").await), (3, 0));
    assert_eq!(page.eval("Promise.resolve([innerWidth, innerHeight])").await, json!([1280, 900]));
    assert_eq!(size(&page.screenshot("harness-desktop").await).0, 1280);
    page.scheme(Scheme::Dark).await;
    page.screen(Screen::Phone).await;
    page.reload().await;
    let colour = page.eval("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(colour, "rgb(0, 0, 0)");
    assert_eq!(page.eval("[innerWidth, matchMedia('(pointer: coarse)').matches]").await, json!([390, true]));
    let (width, height) = size(&page.screenshot("harness-phone").await);
    assert!(width == 780 && height >= 4000, "{width} by {height}");
    assert_eq!(page.axe().await, []);
    assert_eq!(page.console_errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pages_are_used_judged_and_left() {
    let running = Shutdown::new();
    let base = serve(small_pages(), &running).await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    people_and_screens(&page, &base).await;

    let bare = browser.page().await;
    bare.without_scripts().await;
    bare.open(&format!("{base}/form")).await;
    assert_eq!(bare.text("#script").await, "Scripts do not run");
    bare.fill("input", "x").await;
    bare.click("button").await;
    bare.wait_until("location.search === '?name=x'").await;
    bare.close().await;

    page.open(&format!("{base}/broken")).await;
    let found = page.axe().await;
    let rules: Vec<&str> = found.iter().map(|violation| violation.rule.as_str()).collect();
    assert_eq!(rules, ["html-has-lang", "label"], "{found:?}");
    assert_eq!(found[1].selectors, ["input"]);
    let errors = page.console_errors().await;
    assert!(errors.iter().any(|error| error.contains("Content Security Policy")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("missing.js") && error.contains("404")), "{errors:?}");
    assert_eq!(page.console_errors().await, Vec::<String>::new());

    page.eval("console.error('planted')").await;
    let hasty = page.patient_for(Duration::ZERO);
    let failed = AssertUnwindSafe(hasty.wait_for("#nowhere")).catch_unwind().await.unwrap_err();
    let told = failed.downcast::<String>().unwrap();
    for part in ["#nowhere: no such element", "/broken", "Broken", "planted"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let (folder, process) = (browser.folder(), format!("/proc/{}", browser.pid()));
    assert!(folder.join("profile").exists() && Path::new(&process).exists());
    drop((browser, hasty));
    assert!(!folder.exists() && !Path::new(&process).exists(), "it left something behind");
    running.finish(Duration::from_secs(5)).await;
}

/// A server of numbered news that goes on after the last one a reader has seen.
fn news(newest: &Arc<watch::Sender<u64>>, asked_from: &Arc<Mutex<Vec<u64>>>) -> Router {
    let (newest, asked_from) = (Arc::clone(newest), Arc::clone(asked_from));
    let events = async move |headers: HeaderMap| {
        let seen = headers.get("last-event-id").map_or(0, |id| id.to_str().unwrap().parse().unwrap());
        asked_from.lock().unwrap().push(seen);
        Sse::new(unfold(
            (newest.subscribe(), seen),
            async |(mut newest, seen): (watch::Receiver<u64>, u64)| {
                newest.wait_for(|newest| *newest > seen).await.ok()?;
                let next = seen + 1;
                let event = Event::default().id(next.to_string()).data(format!("n{next}"));
                Some((Ok::<_, Infallible>(event.retry(Duration::from_millis(20))), (newest, next)))
            },
        ))
    };
    Router::new()
        .route("/", get(async || page(FOLLOWED)))
        .route("/follow.js", get(async || script(FOLLOW)))
        .route("/events", get(events))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_after_its_connection_was_cut() {
    let running = Shutdown::new();
    let (newest, asked_from) = (Arc::new(watch::Sender::new(2)), Arc::default());
    let wire = Wire::to(&serve(news(&newest, &asked_from), &running).await).await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&wire.base).await;
    page.wait_until("document.querySelector('#news').textContent === 'n1 n2 '").await;
    wire.cut().await;
    newest.send_replace(4);
    wire.turned_away(2).await;
    assert_eq!(page.text("#news").await, "n1 n2");
    wire.mend();
    page.wait_until("document.querySelector('#news').textContent === 'n1 n2 n3 n4 '").await;
    assert_eq!(*asked_from.lock().unwrap(), [0, 2]);
    newest.send_replace(5);
    page.wait_until("document.querySelector('#news').textContent.endsWith('n5 ')").await;
    // What failed meanwhile stands in the console, so a test that cuts asks for it before it asks for what is left.
    let errors = page.console_errors().await;
    assert!(!errors.is_empty() && errors.iter().all(|error| error.contains("/events")), "{errors:?}");
    page.close().await;
    eventually("the server notices that the reader left", async || {
        (newest.receiver_count() == 0).then_some(())
    })
    .await;
    running.finish(Duration::from_secs(5)).await;
}
