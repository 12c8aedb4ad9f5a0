//! Drives pages in a headless Chromium as a user does.
//! A selector is CSS, or XPath when it begins with `//`. Actions and reads wait until the element is ready; a timeout
//! fails with the page's URL, text and console.

use super::PATIENCE;
use super::real_servers::tool;
use super::webdriver::{Driver, Refusal};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Maximum number of characters of page text in a failure.
const TEXT_SHOWN: usize = 3_000;
/// Maximum height of a screenshot, in CSS pixels.
const TALLEST: f64 = 16_000.0;

/// `KeyboardEvent.key` names and their WebDriver code points.
const KEYS: &[(&str, char)] = &[
    ("Backspace", '\u{e003}'),
    ("Tab", '\u{e004}'),
    ("Enter", '\u{e007}'),
    ("Shift", '\u{e008}'),
    ("Control", '\u{e009}'),
    ("Alt", '\u{e00a}'),
    ("Escape", '\u{e00c}'),
    ("PageUp", '\u{e00e}'),
    ("PageDown", '\u{e00f}'),
    ("End", '\u{e010}'),
    ("Home", '\u{e011}'),
    ("ArrowLeft", '\u{e012}'),
    ("ArrowUp", '\u{e013}'),
    ("ArrowRight", '\u{e014}'),
    ("ArrowDown", '\u{e015}'),
    ("Delete", '\u{e017}'),
    ("Meta", '\u{e03d}'),
];

/// Screen size.
#[derive(Debug, Clone, Copy)]
pub enum Screen {
    /// 1280 by 900.
    Desktop,
    /// 390 by 844, with touch input.
    Phone,
}

/// Preferred colour scheme.
#[derive(Debug, Clone, Copy)]
pub enum Scheme {
    Light,
    Dark,
}

/// An accessibility violation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Violation {
    pub rule: String,
    pub impact: String,
    pub help: String,
    pub selectors: Vec<String>,
}

/// A Chromium with an empty profile. Its pages share cookies and storage like tabs.
pub struct Browser {
    driver: Arc<Driver>,
}

impl Browser {
    pub async fn start() -> Self {
        Self { driver: Arc::new(Driver::start().await) }
    }

    /// Opens a page in its own window: desktop size, light scheme, scripts enabled, reduced motion for stable states.
    pub async fn page(&self) -> Page {
        let window = self.driver.open_window().await;
        let page = Page { driver: Arc::clone(&self.driver), window, patience: PATIENCE };
        page.screen(Screen::Desktop).await;
        page.scheme(Scheme::Light).await;
        page
    }

    /// Returns the folder of profile and temporary files.
    pub fn folder(&self) -> PathBuf {
        self.driver.folder().to_owned()
    }

    /// Returns the process id of Chromium.
    pub fn pid(&self) -> u64 {
        self.driver.chromium
    }
}

/// A window and its page.
pub struct Page {
    driver: Arc<Driver>,
    window: String,
    patience: Duration,
}

impl Page {
    /// Sets the timeout of all waits.
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub async fn screen(&self, screen: Screen) {
        let (width, height, scale, touch) = match screen {
            Screen::Desktop => (1280, 900, 1, false),
            Screen::Phone => (390, 844, 2, true),
        };
        let size = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch});
        self.emulate("setDeviceMetricsOverride", size).await;
        self.emulate("setTouchEmulationEnabled", json!({"enabled": touch})).await;
    }

    pub async fn scheme(&self, scheme: Scheme) {
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.emulate("setEmulatedMedia", json!({"features": features})).await;
    }

    /// Disables the page's scripts from the next page on; [`Page::eval`] still works, but not with promises.
    pub async fn without_scripts(&self) {
        self.emulate("setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Sets the time zone.
    pub async fn zone(&self, zone: &str) {
        self.emulate("setTimezoneOverride", json!({"timezoneId": zone})).await;
    }

    async fn emulate(&self, what: &str, parameters: Value) {
        self.driver.cdp(&self.window, &format!("Emulation.{what}"), parameters).await.unwrap();
    }

    /// Opens a URL and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        if let Err(refusal) = self.driver.post(&self.window, "/url", &json!({"url": url})).await {
            self.fail(&format!("cannot open {url}"), &refusal).await;
        }
    }

    pub async fn reload(&self) {
        self.driver.post(&self.window, "/refresh", &json!({})).await.unwrap();
    }

    pub async fn back(&self) {
        self.driver.post(&self.window, "/back", &json!({})).await.unwrap();
    }

    /// Closes the tab.
    pub async fn close(self) {
        self.driver.close_window(&self.window).await;
    }

    pub async fn url(&self) -> String {
        self.driver.get(&self.window, "/url").await.unwrap().as_str().unwrap().to_owned()
    }

    pub async fn click(&self, selector: &str) {
        self.on(selector, "click", json!({})).await;
    }

    /// Replaces the content of a field; a file field takes a path. A line break presses Enter.
    pub async fn fill(&self, selector: &str, text: &str) {
        if self.eval_on(selector, "element.type !== 'file'").await == true {
            self.on(selector, "clear", json!({})).await;
        }
        self.on(selector, "value", json!({"text": text})).await;
    }

    /// Presses keys on the focused element: `Enter`, `Control+k`, `Shift+Tab`; any other text is typed.
    pub async fn press(&self, keys: &str) {
        let named = |name: &str| KEYS.iter().find(|(known, _)| *known == name).map(|(_, sign)| *sign);
        let chord = keys.rsplit_once('+').and_then(|(held, last)| {
            let held: Option<Vec<char>> = held.split('+').map(named).collect();
            Some((held?, last))
        });
        let (held, last) = chord.unwrap_or((Vec::new(), keys));
        let typed = named(last).map_or_else(|| last.chars().collect(), |sign| vec![sign]);
        let action = |kind: &str, key: &char| json!({"type": kind, "value": key});
        let down = held.iter().map(|key| action("keyDown", key));
        let strokes = typed.iter().flat_map(|key| [action("keyDown", key), action("keyUp", key)]);
        let up = held.iter().rev().map(|key| action("keyUp", key));
        let all: Vec<Value> = down.chain(strokes).chain(up).collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": all}]});
        self.driver.post(&self.window, "/actions", &actions).await.unwrap();
    }

    /// Returns the visible text of an element.
    pub async fn text(&self, selector: &str) -> String {
        self.eval_on(selector, "element.innerText").await.as_str().unwrap_or_default().trim().to_owned()
    }

    pub async fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        let value = self.eval_on(selector, &format!("element.getAttribute({})", json!(name))).await;
        value.as_str().map(ToOwned::to_owned)
    }

    /// Counts matching elements without waiting.
    pub async fn count(&self, selector: &str) -> usize {
        let found = self.driver.post(&self.window, "/elements", &sought(selector)).await.unwrap();
        found.as_array().unwrap().len()
    }

    /// Evaluates an expression and awaits a promise.
    pub async fn eval(&self, js: &str) -> Value {
        match self.run(js, json!([])).await {
            Ok(value) => value,
            Err(refusal) => self.fail(js, &refusal).await,
        }
    }

    /// Evaluates an expression over `element`.
    pub async fn eval_on(&self, selector: &str, js: &str) -> Value {
        let js = format!("(element => ({js}))(arguments[0])");
        self.patiently(selector, async || {
            let element = self.find(selector).await?;
            self.run(&js, json!([{ELEMENT: element}])).await
        })
        .await
    }

    /// Waits until a matching element exists.
    pub async fn wait_for(&self, selector: &str) {
        self.patiently(selector, async || self.find(selector).await).await;
    }

    /// Waits until an expression is truthy and returns its value; an exception counts as falsy.
    pub async fn wait_until(&self, js: &str) -> Value {
        self.patiently(js, async || {
            let value = self.run(js, json!([])).await?;
            let falsy = [json!(null), json!(false), json!(0), json!("")].contains(&value);
            let not_yet = || Refusal { kind: "not yet".to_owned(), message: format!("it is {value}") };
            if falsy { Err(not_yet()) } else { Ok(value) }
        })
        .await
    }

    /// Returns console errors since the last call: exceptions, failed loads and policy violations, including those of
    /// the browser's other pages.
    pub async fn console_errors(&self) -> Vec<String> {
        self.console(|level| level == "SEVERE").await
    }

    async fn console(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let log = self.driver.post(&self.window, "/se/log", &json!({"type": "browser"})).await.unwrap();
        let entries = log.as_array().unwrap().iter();
        let entries = entries.filter(|entry| wanted(entry["level"].as_str().unwrap_or_default()));
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns serious and critical axe violations of WCAG 2.2 A and AA and of best practices.
    pub async fn axe(&self) -> Vec<Violation> {
        if self.eval("typeof axe").await == "undefined" {
            let axe = std::fs::read_to_string(tool("npm/node_modules/axe-core/axe.min.js")).unwrap();
            self.driver
                .post(&self.window, "/execute/sync", &json!({"script": axe, "args": []}))
                .await
                .unwrap();
        }
        let found = self.eval(include_str!("axe.js")).await;
        serde_json::from_value(found).unwrap()
    }

    /// Stores a screenshot of the whole page in `target/screenshots`, replacing an earlier one, and returns its path.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        self.picture(name, TALLEST, 1.0).await
    }

    /// Stores a screenshot of the page's top `height` pixels at a scale.
    pub async fn picture(&self, name: &str, height: f64, scale: f64) -> PathBuf {
        let sizes = self.driver.cdp(&self.window, "Page.getLayoutMetrics", json!({})).await.unwrap();
        let mut clip = sizes["cssContentSize"].clone();
        clip["height"] = json!(clip["height"].as_f64().unwrap().min(height));
        clip["scale"] = json!(scale);
        let whole = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.driver.cdp(&self.window, "Page.captureScreenshot", whole).await.unwrap();
        let png = base64::prelude::BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, png).unwrap();
        path
    }

    async fn find(&self, selector: &str) -> Result<String, Refusal> {
        let found = self.driver.post(&self.window, "/element", &sought(selector)).await?;
        Ok(found[ELEMENT].as_str().unwrap().to_owned())
    }

    async fn on(&self, selector: &str, action: &str, body: Value) {
        self.patiently(selector, async || {
            let element = self.find(selector).await?;
            self.driver.post(&self.window, &format!("/element/{element}/{action}"), &body).await
        })
        .await;
    }

    async fn run(&self, js: &str, arguments: Value) -> Result<Value, Refusal> {
        let script = json!({"script": format!("return ({js}\n)"), "args": arguments});
        self.driver.post(&self.window, "/execute/sync", &script).await
    }

    async fn patiently<T>(&self, what: &str, mut act: impl AsyncFnMut() -> Result<T, Refusal>) -> T {
        let deadline = Instant::now() + self.patience;
        loop {
            let refusal = match act().await {
                Ok(done) => return done,
                Err(refusal) => refusal,
            };
            if !refusal.may_pass() || Instant::now() >= deadline {
                self.fail(what, &refusal).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn fail(&self, what: &str, refusal: &Refusal) -> ! {
        let url = self.driver.get(&self.window, "/url").await.unwrap_or_default();
        let text = self.run("document.body.innerText", json!([])).await.unwrap_or_default();
        let text: String = text.as_str().unwrap_or_default().chars().take(TEXT_SHOWN).collect();
        let console = self.console(|_| true).await.join("\n");
        let Refusal { kind, message } = refusal;
        panic!("{what}: {kind}: {message}\n--- page {url}\n{text}\n--- console\n{console}\n---");
    }
}

fn sought(selector: &str) -> Value {
    let using = if selector.starts_with("//") { "xpath" } else { "css selector" };
    json!({"using": using, "value": selector})
}
