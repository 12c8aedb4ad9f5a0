//! What is around every page, in a real Chromium: the menu of a phone, the keyboard shortcuts, the icon; and the searches of
//! the settings and of the record.

use super::pages::is_sound;
use crate::support::browser::{Browser, Page, Scheme, Screen};
use crate::support::{Setup, TestApp, every};

/// Soundness at both widths and in both schemes; ends on a desktop in the light.
pub async fn is_sound_everywhere(page: &Page, name: &str) {
    for (screen, of) in [(Screen::Phone, "-phone"), (Screen::Desktop, "")] {
        page.screen(screen).await;
        for (scheme, light) in [(Scheme::Dark, "-dark"), (Scheme::Light, "")] {
            page.scheme(scheme).await;
            is_sound(page, &format!("{name}{of}{light}")).await;
        }
        let wide = page.eval("document.documentElement.scrollWidth > innerWidth").await;
        assert_eq!(wide, false, "{name} is wider than the screen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_has_a_menu_with_and_without_scripts() {
    let app = Setup::bare().await.start().await;
    let browser = Browser::start().await;
    for scripts in [true, false] {
        let page = browser.page().await;
        if !scripts {
            page.without_scripts().await;
        }
        page.open(&app.base).await;
        assert!(
            page.text("nav[aria-label=Pages]").await.contains("Runbooks"),
            "it is always there when wide"
        );
        assert_eq!(page.eval_on(".open-menu", "element.checkVisibility()").await, false);
        page.screen(Screen::Phone).await;
        assert_eq!(page.eval_on("#menu", "element.checkVisibility()").await, false);
        page.click(".open-menu").await;
        assert_eq!(page.eval_on("#menu", "element.matches(':popover-open')").await, true);
        for group in ["Failures", "Assistant", "Knowledge and tools", "Administration"] {
            assert!(page.text("#menu").await.contains(group), "{group}");
        }
        if scripts {
            for (scheme, name) in [(Scheme::Light, "menu-phone"), (Scheme::Dark, "menu-phone-dark")] {
                page.scheme(scheme).await;
                is_sound(&page, name).await;
            }
            page.press("Escape").await;
            assert_eq!(page.eval_on("#menu", "element.checkVisibility()").await, false);
            page.click(".open-menu").await;
        }
        page.click("//div[@id='menu']//a[normalize-space()='Runbooks']").await;
        page.wait_until("location.pathname === '/runbooks'").await;
        assert_eq!(page.attribute("#menu a[aria-current]", "href").await.as_deref(), Some("/runbooks"));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lead_through_the_pages_and_are_listed() {
    let app = Setup::bare().await.start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&app.base).await;
    page.press("?").await;
    page.wait_for("dialog#keys[open]").await;
    for words in ["go to the search field", "Incidents", "Settings", "Use these shortcuts"] {
        assert!(page.text("#keys").await.contains(words), "{words}");
    }
    is_sound_everywhere(&page, "shortcuts").await;
    // What is pressed in the window leads nowhere.
    page.press("gi").await;
    page.press("Escape").await;
    page.wait_until("!document.getElementById('keys').open").await;
    assert_eq!(page.eval("location.pathname").await, "/");
    page.press("gi").await;
    page.wait_until("location.pathname === '/incidents' && document.readyState === 'complete'").await;
    page.press("/").await;
    page.press("g?i").await;
    assert_eq!(page.eval_on("#q", "element.value").await, "g?i", "a field takes what is typed");
    assert_eq!(page.count("dialog[open]").await, 0);
    page.eval("document.activeElement.blur()").await;
    page.press("gx").await;
    page.press("i").await;
    assert_eq!(page.eval("location.pathname").await, "/incidents");
    page.click("[data-open-keys]").await;
    page.click("#keys-on").await;
    page.click("#keys button").await;
    page.press("gs").await;
    page.press("?").await;
    page.reload().await;
    page.press("gs").await;
    page.press("?").await;
    assert_eq!(
        (page.eval("location.pathname").await, page.count("dialog[open]").await),
        ("/incidents".into(), 0)
    );
    page.click("[data-open-keys]").await;
    page.click("#keys-on").await;
    page.press("Escape").await;
    page.press("gs").await;
    page.wait_until("location.pathname === '/settings'").await;
    assert_eq!(page.console_errors().await, Vec::<String>::new());

    let bare = browser.page().await;
    bare.without_scripts().await;
    bare.open(&app.base).await;
    for hidden in ["[data-open-keys]", "#keys"] {
        assert_eq!(
            bare.eval_on(hidden, "element.checkVisibility()").await,
            false,
            "{hidden} does nothing there"
        );
    }
    bare.close().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_find_the_icon_by_themselves() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    for path in ["/favicon.ico", "/favicon.svg"] {
        let icon = app.http.get(format!("{}{path}", app.base)).send().await.unwrap();
        assert_eq!(icon.status(), 200, "{path}");
        assert_eq!(icon.headers()["content-type"], "image/svg+xml", "{path}");
        assert_eq!(icon.headers()["cache-control"], "public, max-age=86400", "{path}");
        assert!(icon.text().await.unwrap().starts_with("<svg xmlns="), "{path}");
    }
    app.stop().await;
}

async fn rows(page: &Page) -> Vec<String> {
    let rows =
        page.eval("[...document.querySelectorAll('tbody tr:not(.group)')].map(row => row.innerText)").await;
    serde_json::from_value(rows).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_found_by_their_names_and_show_who_is_told() {
    let told = "[[notify]]\nname = \"platform\"\nchannel = \"slack\"\nurl = \"https://hooks.example/T0/secret-path\"\nnamespaces = [\"ci\", \"team-*\"]\n";
    let app = Setup::whole().await.file(told).set("REGREEN_BODY_LIMIT", "2097152").start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/settings", app.base)).await;
    let all = rows(&page).await;
    assert!(all.len() > 80, "{}", all.len());
    assert!(page.text("main").await.contains("[[notify]]") && page.text("main").await.contains("team-*"));
    assert!(!page.text("main").await.contains("secret-path"), "whoever has the address may write there");
    is_sound_everywhere(&page, "settings-all").await;
    page.fill("#q", "body limit\n").await;
    page.wait_until("location.search.startsWith('?q=body')").await;
    let found = rows(&page).await;
    assert!(
        found.iter().any(|row| row.contains("server.body_limit") && row.contains("2097152")),
        "{found:?}"
    );
    assert!(found.len() < 5, "{found:?}");
    page.fill("#q", "REGREEN_PORT\n").await;
    page.wait_until("location.search.includes('REGREEN_PORT')").await;
    assert!(rows(&page).await[0].starts_with("server.port"), "a variable's name finds its setting");
    page.fill("#q", "notify\n").await;
    page.wait_until("location.search.startsWith('?q=notify')").await;
    assert!(rows(&page).await[0].starts_with("platform"));
    page.open(&format!("{}/settings?only=set", app.base)).await;
    let set = rows(&page).await;
    assert!(set.len() < all.len() / 2 && !set.iter().any(|row| row.contains("default\t")), "{set:?}");
    page.open(&format!("{}/settings?q=xyzzy", app.base)).await;
    assert!(page.text("main").await.contains("No matching settings"));
    is_sound(&page, "settings-none").await;
    app.stop().await;
}

async fn sent(app: &TestApp, verdict: &str, author: &str) {
    let incident = app.get("/api/incidents").await.body["incidents"][0]["id"].as_str().unwrap().to_owned();
    let body = serde_json::json!({"verdict": verdict, "fix": "Started it again.", "author": author});
    assert_eq!(app.send(&format!("/api/incidents/{incident}/resolution"), &body).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_searched_by_who_what_to_what_how_and_when() {
    let app = Setup::whole().await.start().await;
    assert_eq!(app.report("go-vet").await.status, 200);
    sent(&app, "note", "alice").await;
    sent(&app, "note", "bob").await;
    let report = app.get("/api/reports").await.body["reports"][0]["id"].as_str().unwrap().to_owned();
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/audit", app.base)).await;
    let all = rows(&page).await;
    is_sound_everywhere(&page, "audit-all").await;
    let narrowed = async |query: &str| {
        page.open(&format!("{}/audit?{query}", app.base)).await;
        rows(&page).await
    };
    let alices = narrowed("actor=alice").await;
    assert!(alices.len() == 1 && alices[0].contains("alice"), "{alices:?}");
    let accepted = narrowed("action=report.").await;
    assert!(!accepted.is_empty() && accepted.iter().all(|row| row.contains("report.")), "{accepted:?}");
    let of_report = narrowed(&format!("about={report}")).await;
    assert!(of_report.len() > 1 && of_report.len() < all.len(), "{of_report:?}");
    assert_eq!(page.eval_on("#about", "element.value").await, report);
    let done = narrowed("outcome=done").await;
    assert!(every(&done, |row| row.contains("done")), "{done:?}");
    // Nothing was.
    assert_eq!(narrowed("outcome=refused").await, Vec::<String>::new());
    assert!(
        narrowed("until=2020-01-01").await.is_empty() && page.text("main").await.contains("No entries match")
    );
    assert_eq!(narrowed("since=2020-01-01").await.len(), all.len());
    page.click("//a[normalize-space()='Show all']").await;
    page.wait_until("location.pathname === '/audit' && location.search === ''").await;
    // Names that are there are offered.
    let offered = page.eval("[...document.querySelectorAll('#actors option')].map(one => one.value)").await;
    for name in ["alice", "bob"] {
        assert!(offered.as_array().unwrap().contains(&name.into()), "{offered}");
    }
    app.stop().await;
}
