//! The pages, in a real Chromium: what a platform engineer does in them from the failure to the answer.

use crate::support::browser::{Browser, Page, Scheme, Screen};
use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::wire::Wire;
use crate::support::{Setup, TestApp};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

/// Height of the picture in the README, in pixels of the page, and its scale.
const README_PICTURE: (f64, f64) = (760.0, 0.75);

/// Nothing is wrong with a page: no error on its console, no serious violation of accessibility.
pub async fn is_sound(page: &Page, name: &str) {
    page.screenshot(name).await;
    if name == "incident" {
        page.picture("readme", README_PICTURE.0, README_PICTURE.1).await;
    }
    let violations = page.axe().await;
    assert!(violations.is_empty(), "{name}: {violations:#?}");
    let errors = page.console_errors().await;
    assert!(errors.is_empty(), "{name}: {errors:#?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_survives_a_lost_connection_and_is_stopped() {
    let (gate, never) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let model = FakeModel::start(vec![
        Reply::call("pods_list_in_namespace", json!({"namespace": "ci"})),
        Reply::Gated("Two pods run. ", Arc::clone(&gate), "One of them **failed** [E1:1]."),
        Reply::Gated("Zebras come slowly", Arc::clone(&never), ""),
    ])
    .await;
    let app = Setup::whole().await.model(&model).start().await;
    let wire = Wire::to(&app.base).await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/chat", wire.base)).await;
    is_sound(&page, "chat-new").await;
    page.fill("#message", "What runs in ci?\n").await;
    page.wait_until("document.getElementById('saying')?.innerText.includes('Two pods run.')").await;
    page.wait_for("#steps .tool summary.ended").await;
    assert_eq!(page.eval_on("#send", "element.disabled").await, true);
    is_sound(&page, "chat-streaming").await;
    wire.cut().await;
    page.wait_for("#live.is-lost .lost").await;
    page.screenshot("chat-lost").await;
    // What is said while nobody can hear it is there when the connection is.
    gate.notify_one();
    wire.mend();
    page.wait_until("!document.getElementById('live')").await;
    page.console_errors().await;
    let said = page.text(".message.assistant .body").await;
    assert_eq!(said, "Two pods run. One of them failed [E1:1].");
    assert_eq!((page.count("#live").await, page.count(".message").await), (0, 2));
    page.click(".tool summary").await;
    page.wait_until("document.querySelector('.tool').innerText.includes('What the model was shown')").await;
    is_sound(&page, "chat-answered").await;
    // The citation leads to what the tool told, kept with the conversation.
    page.eval("document.querySelector('.cite').scrollIntoView({block: 'center'})").await;
    page.click(".cite").await;
    page.wait_for("#log[data-drawn] li.cited").await;
    assert!(page.url().await.contains("/conversations/"), "{}", page.url().await);
    page.back().await;
    // The page of before tells again what it told of the lost connection.
    page.console_errors().await;

    page.fill("#message", "And zebras?\n").await;
    page.wait_until("document.getElementById('saying')?.innerText.includes('Zebras come slowly')").await;
    page.click("#stop").await;
    page.wait_until("document.body.innerText.includes('ended: cancelled')").await;
    assert!(page.text(".message:nth-of-type(4) .body").await.starts_with("Zebras come slowly"));
    is_sound(&page, "chat-stopped").await;

    page.fill("#history", "zebras\n").await;
    page.wait_for("#said + ul a.title").await;
    is_sound(&page, "conversations").await;
    page.click("#said + ul a.title").await;
    page.wait_for("#m3").await;
    assert!(model.refusals().is_empty(), "{:?}", model.refusals());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_added_its_tool_tried_and_a_call_approved() {
    let tools = vec![("look", true), ("restart", false)];
    let lab = FakeMcp::start(Behaviour { tools, ..Behaviour::default() }).await;
    let model = FakeModel::start(vec![
        Reply::call("restart", json!({"name": "checkout"})),
        Reply::Text("The restart waits for you."),
        Reply::Text("It was restarted [E1:1]."),
    ])
    .await;
    let app = Setup::bare().await.model(&model).set("REGREEN_ADDED_URLS", "127.0.0.1").start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/mcp-servers", app.base)).await;
    is_sound(&page, "servers-none").await;
    page.fill("#name", "lab").await;
    page.fill("#url", "not a url").await;
    // The browser's own check is passed by, to see the server's.
    page.eval("document.querySelector('form.fields').noValidate = true").await;
    page.click("//button[normalize-space()='Add and connect']").await;
    page.wait_for(".notice.bad").await;
    is_sound(&page, "server-refused").await;
    assert_eq!(page.eval_on("#name", "element.value").await, "lab");
    page.fill("#url", &lab.url()).await;
    page.click("//button[normalize-space()='Add and connect']").await;
    page.wait_for("//span[normalize-space()='connected']").await;
    page.wait_for("//a[normalize-space()='look']").await;
    is_sound(&page, "server").await;
    page.click("//a[normalize-space()='look']").await;
    page.click("#call").await;
    page.wait_for("#result").await;
    is_sound(&page, "tool-tried").await;
    assert_eq!(lab.seen("tools/call").len(), 1);

    page.open(&format!("{}/chat", app.base)).await;
    page.fill("#message", "restart it\n").await;
    page.wait_for("article.message.assistant[id^='m'] ~ .approval").await;
    assert_eq!(lab.seen("tools/call").len(), 1, "nothing happens before somebody approves");
    is_sound(&page, "approval").await;
    page.open(&format!("{}/approvals", app.base)).await;
    assert_eq!(page.text("nav .count").await, "1");
    is_sound(&page, "approvals").await;
    page.back().await;
    page.fill(".approval input[name=author]", "bob").await;
    // The Enter key decides nothing.
    page.fill(".approval input[name=note]", "go ahead\n").await;
    page.wait_for(".approval input[name=note]").await;
    assert_eq!(lab.seen("tools/call").len(), 1);
    page.click("//button[normalize-space()='Approve']").await;
    page.wait_until("document.querySelector('#m3 .cite')").await;
    assert_eq!(page.count(".approval").await, 0);
    is_sound(&page, "approved").await;
    assert_eq!(lab.seen("tools/call").len(), 2);
    page.open(&format!("{}/audit", app.base)).await;
    page.wait_for("//tr[td[normalize-space()='approval.approve'] and td[normalize-space()='bob']]").await;
    is_sound(&page, "audit").await;

    page.open(&format!("{}/mcp-servers/lab", app.base)).await;
    page.eval("window.confirm = () => true").await;
    page.click("//button[normalize-space()='Remove']").await;
    page.wait_for("//p[normalize-space()='None yet.']").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_sound_in_every_light_and_width() {
    let told = "[[notify]]\nname = \"platform\"\nchannel = \"slack\"\nurl = \"http://127.0.0.1:9/hook\"\nnamespaces = [\"ci\", \"team-*\"]\n";
    let app = Setup::whole().await.file(told).start().await.read_up().await;
    app.report("oom").await;
    app.report("dns").await;
    let incident = app.get("/api/incidents").await.body["incidents"][0].clone();
    let (incident, report) =
        (incident["id"].as_str().unwrap(), app.get("/api/reports").await.body["reports"][0].clone());
    let runbook = app.get("/api/documents").await.body["documents"][0]["id"].clone();
    let agents = app.get("/api/agents").await.body["agents"].clone();
    let pages = [
        ("/incidents".to_owned(), "incidents"),
        (format!("/incidents/{incident}"), "incident"),
        (format!("/reports/{}", report["id"].as_str().unwrap()), "report"),
        (format!("/reports/{}/evidence/E1", report["id"].as_str().unwrap()), "evidence"),
        (format!("/chat?incident={incident}"), "chat-incident"),
        ("/conversations".to_owned(), "conversations-list"),
        ("/runbooks?q=out+of+memory".to_owned(), "runbooks"),
        (format!("/runbooks/{}", runbook.as_str().unwrap()), "runbook"),
        ("/mcp-servers".to_owned(), "servers"),
        ("/mcp-servers/openshift/tools/pods_log".to_owned(), "tool"),
        ("/agents".to_owned(), "agents"),
        (format!("/agents/{}", agents[0]["id"].as_str().unwrap()), "agent"),
        ("/settings".to_owned(), "settings"),
    ];
    let browser = Browser::start().await;
    let page = browser.page().await;
    for (path, name) in &pages {
        page.screen(Screen::Desktop).await;
        page.scheme(Scheme::Light).await;
        page.open(&format!("{}{path}", app.base)).await;
        is_sound(&page, name).await;
        page.scheme(Scheme::Dark).await;
        is_sound(&page, &format!("{name}-dark")).await;
        page.screen(Screen::Phone).await;
        let wide = page.eval("document.documentElement.scrollWidth > window.innerWidth").await;
        assert_eq!(wide, false, "{name} is wider than a phone");
        is_sound(&page, &format!("{name}-phone")).await;
    }
    page.open(&format!("{}/nothing/here", app.base)).await;
    assert!(page.text("main").await.contains("404"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_a_hundred_thousand_lines_is_read_in_pieces() {
    use std::fmt::Write as _;
    let app = Setup::bare().await.start().await;
    let mut log = String::new();
    for number in 1..=100_000 {
        let _ = writeln!(log, "[INFO] step {number} of the long build went well");
    }
    log.push_str("error: linking with `cc` failed: exit status: 1\n");
    let report = app.post(&json!({"namespace": "ci", "pod_name": "long", "log": log}), &[]).await;
    let report = report.body["report_id"].as_str().unwrap().to_owned();
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/reports/{report}/evidence/E1#L77777", app.base)).await;
    page.wait_for("li.cited[data-number='77777']").await;
    page.eval("(() => { const box = document.getElementById('log'); box.scrollTop = box.scrollHeight; })()")
        .await;
    page.wait_for("li.told[data-number='100001']").await;
    assert!(page.text("li[data-number='100001']").await.contains("linking with `cc` failed"));
    assert!(page.count("#log li").await < 300);
    page.fill("#from", "50000\n").await;
    page.wait_for("li.cited[data-number='50000']").await;
    is_sound(&page, "log-long").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_everything_but_the_live_parts_works() {
    let app = Setup::whole().await.start().await.read_up().await;
    app.report("maven-dependency").await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.without_scripts().await;
    page.open(&app.base).await;
    page.click("//nav//a[normalize-space()='Incidents']").await;
    page.fill("#q", "maven payment").await;
    page.click("//button[normalize-space()='Filter']").await;
    page.click("a.title[href^='/incidents/']").await;
    page.click(".claim .cite").await;
    page.wait_for("li.cited").await;
    page.fill("#from", "").await;
    page.fill("#q", "downloading").await;
    page.click("//button[normalize-space()='Find']").await;
    page.wait_for("#found li").await;
    page.screenshot("log-without-scripts").await;
    page.click("#found li a").await;
    page.wait_for("li.hit.cited").await;
    page.open(&format!("{}/incidents", app.base)).await;
    page.click("a.title[href^='/incidents/']").await;
    page.fill("#fix", "Deployed the artifact.").await;
    page.click("//button[normalize-space()='Save']").await;
    page.fill("#author", "alice").await;
    page.click("//button[normalize-space()='Save']").await;
    page.wait_for("//*[contains(text(), 'Deployed the artifact.')]").await;
    page.click("//a[normalize-space()='Ask about it']").await;
    page.fill("#message", "why do you think so?").await;
    page.click("#send").await;
    // The page reads itself anew until the answer is there.
    page.wait_for("//div[contains(@class, 'said')]//*[contains(text(), 'payment-client')]").await;
    page.screenshot("chat-without-scripts").await;
    app.stop().await;
}

/// Text that would do something if a page took it for more than text.
const HOSTILE: &str = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script><svg/onload=window.hacked=1> \
    \"><iframe src=\"javascript:parent.hacked=1\"></iframe> <a href=\"javascript:window.hacked=1\">a</a> [b](javascript:window.hacked=1) \
    ![c](https://evil.example/c.png) <p hx-get=\"/settings\" hx-trigger=\"load\"> <style>*{display:none}</style> </textarea></pre></title> {{7919*7907}} \
    <hx-partial hx-target=\"main\">gone</hx-partial> <a href=/x>";

/// A service in which everything that somebody else can write is hostile, and the pages that show it.
async fn hostile(model: &FakeModel) -> (TestApp, Vec<String>) {
    model.push(vec![
        Reply::call(
            "submit_diagnosis",
            json!({"title": format!("Broken {HOSTILE}"), "cause": HOSTILE, "class": "code", "confidence": "high", "next_steps": [HOSTILE],
                "claims": [{"statement": HOSTILE, "evidence": "E1", "first_line": 1, "last_line": 1, "quote": HOSTILE}]}),
        ),
        Reply::call("search_evidence", json!({"query": HOSTILE})),
        Reply::Text(HOSTILE),
    ]);
    let app = Setup::bare().await.model(model).start().await.read_up().await;
    let log = format!("{HOSTILE}\nerror: build failed {HOSTILE}\n").repeat(3);
    let short: String = HOSTILE.chars().take(250).collect();
    let body = json!({"namespace": "ci", "pod_name": "p", "pipeline": short, "run": short, "log": log});
    let reported = app.post(&body, &[]).await;
    assert_eq!(reported.status, 200, "{:?}", reported.body);
    let report = reported.body["report_id"].as_str().unwrap().to_owned();
    let incident = app.get("/api/incidents").await.body["incidents"][0]["id"].as_str().unwrap().to_owned();
    app.send(
        &format!("/api/incidents/{incident}/resolution"),
        &json!({"verdict": "note", "fix": HOSTILE, "author": HOSTILE.chars().take(150).collect::<String>()}),
    )
    .await;
    let asked = app.send("/api/chat", &json!({"message": HOSTILE, "author": "<b>me</b>"})).await;
    let chat = asked.body["conversation_id"].as_str().unwrap().to_owned();
    let runbook = json!({"path": "evil.md", "content": format!("# {HOSTILE}\n\n{HOSTILE}")});
    assert!(app.send("/api/documents", &runbook).await.status < 300);
    let documents = app.get("/api/documents?limit=200").await.body["documents"].as_array().unwrap().clone();
    let evil = documents.iter().find(|document| document["path"] == "evil.md").unwrap()["id"].clone();
    let agent = json!({"name": "<script>hacked=1</script>", "description": HOSTILE.chars().take(400).collect::<String>(), "prompt": "Answer."});
    let agent = app.send("/api/agents", &agent).await.body["id"].as_str().unwrap().to_owned();
    let own =
        app.get(&format!("/api/conversations?incident_id={incident}")).await.body["conversations"][0]["id"]
            .clone();

    let q =
        reqwest::Url::parse_with_params("http://x/", [("q", HOSTILE)]).unwrap().query().unwrap().to_owned();
    let pages = vec![
        "/".to_owned(),
        format!("/incidents?{q}"),
        "/incidents".to_owned(),
        format!("/incidents/{incident}"),
        format!("/reports/{report}"),
        format!("/reports/{report}/evidence/E1?{q}"),
        format!("/chat/{chat}"),
        format!("/chat/{}", own.as_str().unwrap()),
        format!("/conversations?{q}"),
        "/conversations".to_owned(),
        format!("/runbooks?{q}"),
        format!("/runbooks/{}", evil.as_str().unwrap()),
        "/agents".to_owned(),
        format!("/agents/{agent}"),
        format!("/audit?actor={}", &q[2..]),
    ];
    (app, pages)
}

/// Nothing of the hostile text is more than text.
async fn is_inert(page: &Page, place: &str) {
    let found = page
        .eval(
            "({hacked: window.hacked ?? null, inserted: document.querySelectorAll('main img, main script, main iframe, main svg:not(.chart), main style').length, \
              handlers: [...document.querySelectorAll('main *')].filter((e) => [...e.attributes].some((a) => a.name.startsWith('on'))).length, \
              schemes: [...document.querySelectorAll('main a[href]')].filter((a) => !/^https?:$/.test(a.protocol)).length, \
              seen: document.querySelector('main').offsetHeight > 0, computed: document.querySelector('main').innerText.includes('62615533')})",
        )
        .await;
    assert_eq!(
        found,
        json!({"hacked": null, "inserted": 0, "handlers": 0, "schemes": 0, "seen": true, "computed": false}),
        "{place}"
    );
    // Something that the policy had to stop would stand on the console.
    let errors = page.console_errors().await;
    assert!(errors.is_empty(), "{place}: {errors:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_stays_text_everywhere() {
    let model = FakeModel::start(Vec::new()).await;
    let (app, pages) = hostile(&model).await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    for path in pages {
        page.open(&format!("{}{path}", app.base)).await;
        page.wait_for("main h1").await;
        if path.contains("evidence") {
            page.wait_for("#log[data-drawn]").await;
        }
        is_inert(&page, &path).await;
    }
    // The same while it is written: what a tool tells, and the model's Markdown in pieces.
    model.push(vec![
        Reply::call("search_evidence", json!({"query": HOSTILE})),
        Reply::Gated(HOSTILE, Arc::default(), ""),
    ]);
    page.open(&format!("{}/chat", app.base)).await;
    page.fill("#message", "go on\n").await;
    page.wait_until("document.getElementById('saying')?.innerText.includes('window.hacked=1')").await;
    is_inert(&page, "a live answer").await;
    page.screenshot("hostile").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_is_light_and_tied_down() {
    let app = Setup::whole().await.start().await;
    let get = async |path: &str| {
        let request = app.http.get(format!("{}{path}", app.base)).header("accept-encoding", "gzip");
        let response = request.send().await.unwrap();
        let headers = response.headers().clone();
        (headers, response.bytes().await.unwrap())
    };
    let (headers, first) = get("/").await;
    assert_eq!(headers["content-encoding"], "gzip");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'")
            && !policy.contains("unsafe"),
        "{policy}"
    );
    let mut total = first.len();
    let plain = app.get("/").await.body.as_str().unwrap().replace("&#x2f;", "/");
    // Run while the document loads, htmx waits for all others, its extensions too; deferred itself it waits for none.
    let scripts: Vec<&str> =
        plain.split("<script ").skip(1).filter_map(|tag| tag.split('>').next()).collect();
    assert!(scripts[0].contains("htmx.min.js") && !scripts[0].contains("defer"), "{scripts:?}");
    assert!(scripts.len() > 2 && scripts[1..].iter().all(|tag| tag.contains("defer")), "{scripts:?}");
    let assets = plain.split('"').filter(|part| part.starts_with("/static/"));
    let mut loaded = 0;
    for asset in assets {
        let (headers, content) = get(asset).await;
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"), "{asset}");
        total += content.len();
        loaded += 1;
    }
    println!("a first load is {total} bytes in {} requests", loaded + 1);
    assert!(loaded >= 5 && total < 100_000, "{total} bytes in {loaded} requests");
    // A page of another origin can make no browser do anything here.
    let foreign = app
        .http
        .post(format!("{}/chat", app.base))
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site");
    let foreign = foreign.header("content-type", "application/x-www-form-urlencoded").body("message=hello");
    let refused = foreign.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_on_a_page_and_other_names_are_refused() {
    let app = Setup::bare().await.set("REGREEN_PUBLIC_URL", "https://regreen.example.org").start().await;
    let get = async |path: &str, host: &str| {
        let request = app.http.get(format!("{}{path}", app.base)).header("accept", "text/html");
        let request = if host.is_empty() { request } else { request.header("host", host) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
    };
    let long_ago = "/conversations?since=-9999-01-01";
    for path in ["/incidents?before=x", "/runbooks?offset=many", "/audit?before=x", "/chat?incident=x"] {
        let (status, headers, text) = get(path, "").await;
        assert_eq!(status, 422, "{path}");
        assert!(
            text.contains("<h1>422") && headers.contains_key("content-security-policy"),
            "{path}: {text}"
        );
    }
    let report = json!({"namespace": "ci", "pod_name": "p", "log": "Error: lookup registry.example.com: no such host\n"});
    assert_eq!(app.post(&report, &[]).await.status, 200);
    for words in ["registry", "registry.example.com", "example+regis"] {
        let found = app.get(&format!("/api/incidents?text={words}")).await.body["incidents"].clone();
        assert_eq!(found.as_array().unwrap().len(), 1, "{words}: {}", app.get("/api/incidents").await.body);
    }
    for path in ["/incidents?before=&q=&status=", "/runbooks?offset=9223372036854775807", long_ago] {
        assert_eq!(get(path, "").await.0, 200, "{path}");
    }
    let (status, headers, _) = get("/nothing", "").await;
    assert!(
        status == 404 && headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    // A name that somebody else's server gave to this address (DNS rebinding) is not answered; our own are.
    for (host, status) in [
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("127.0.0.1", 200),
        ("regreen.example.org", 200),
    ] {
        assert_eq!(get("/api/incidents", host).await.0, status, "{host}");
    }
    app.stop().await;
}
