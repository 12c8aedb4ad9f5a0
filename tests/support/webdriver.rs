//! A `chromedriver` with one Chromium, controlled over WebDriver: JSON over HTTP, one command at a time.
//! Both processes and their files are removed when the test ends, however it ends. The API for tests is in `browser`.
//! No client crate is used: available ones require older HTTP types and provide far more than the one needed function.

use super::real_servers::free_port;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::Mutex;

/// Standard input closes when the test process ends, even when killed; Chromium ends when its pipe to the driver
/// closes. An automatically chosen port may be in use in the other address family, which would make the driver exit.
const WATCHER: &str = "command -v chromedriver >/dev/null || { echo 'there is no chromedriver: run `make tools`'; exit; }
    trap '' INT TERM HUP; chromedriver --port=\"$PORT\" & exec >/dev/null; cat; kill -9 $!; wait; rm -rf \"$TMPDIR\"";

/// No sandbox, because tests run as root in containers. The other flags prevent outside connections and
/// non-deterministic rendering.
const FLAGS: &[&str] = &[
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--lang=en-US",
];

/// A WebDriver error; `kind` is its error code.
#[derive(Debug)]
pub struct Refusal {
    pub kind: String,
    pub message: String,
}

impl Refusal {
    /// Returns whether the error may disappear as the page progresses.
    pub fn may_pass(&self) -> bool {
        let passing = [
            "no such element",
            "stale element reference",
            "element not interactable",
            "element click intercepted",
            "invalid element state",
            "javascript error",
            "not yet",
        ];
        // Errors about execution contexts occur during navigation.
        passing.contains(&self.kind.as_str()) || self.message.contains("context")
    }
}

/// The running driver and browser.
pub struct Driver {
    http: reqwest::Client,
    authority: String,
    session: String,
    /// Window that receives commands.
    window: Mutex<String>,
    watcher: Child,
    /// Profile, home and temporary files of both programs; declared last, so that it is removed after they have ended.
    folder: tempfile::TempDir,
    pub chromium: u64,
}

impl Driver {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut watcher = Command::new("sh")
            .args(["-c", WATCHER])
            .envs([("HOME", folder.path()), ("TMPDIR", folder.path()), ("TZ", Path::new("UTC"))])
            .env("PORT", port.to_string())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Read to the end, so that the driver never blocks on its output.
        std::thread::spawn(move || {
            let (mut tell, mut said) = (Some(tell), Vec::new());
            for line in lines {
                if line.contains("successfully") {
                    tell.take().map(|tell| tell.send(Ok(())));
                }
                said.push(line);
            }
            tell.map(|tell| tell.send(Err(said.join("\n"))));
        });
        told.await.unwrap().unwrap_or_else(|said| panic!("chromedriver does not start:\n{said}"));
        let mut driver = Self {
            http: super::http_without_tls().no_proxy().build().unwrap(),
            authority: format!("127.0.0.1:{port}"),
            session: String::new(),
            window: Mutex::new(String::new()),
            watcher,
            folder,
            chromium: 0,
        };
        driver.open_session().await;
        driver
    }

    async fn open_session(&mut self) {
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", self.folder.path().join("profile").display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"implicit": 0, "pageLoad": 60_000, "script": 60_000},
        }}});
        let opened = self.send(Method::POST, "", Some(&wanted)).await.unwrap();
        self.session = format!("/{}", opened["sessionId"].as_str().unwrap());
        self.chromium = opened["capabilities"]["goog:processID"].as_u64().unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a GET command to a window.
    pub async fn get(&self, window: &str, path: &str) -> Result<Value, Refusal> {
        let _turn = self.turn_to(window).await?;
        self.send(Method::GET, path, None).await
    }

    /// Sends a POST command to a window.
    pub async fn post(&self, window: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let _turn = self.turn_to(window).await?;
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends a DevTools command to Chromium.
    pub async fn cdp(&self, window: &str, command: &str, parameters: Value) -> Result<Value, Refusal> {
        self.post(window, "/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    /// Opens a window and returns its handle.
    pub async fn open_window(&self) -> String {
        let opened = self.send(Method::POST, "/window/new", Some(&json!({"type": "window"}))).await.unwrap();
        opened["handle"].as_str().unwrap().to_owned()
    }

    pub async fn close_window(&self, window: &str) {
        let _turn = self.turn_to(window).await.unwrap();
        self.send(Method::DELETE, "/window", None).await.unwrap();
    }

    async fn turn_to(&self, window: &str) -> Result<tokio::sync::MutexGuard<'_, String>, Refusal> {
        let mut current = self.window.lock().await;
        if *current != window {
            self.send(Method::POST, "/window", Some(&json!({"handle": window}))).await?;
            window.clone_into(&mut current);
        }
        Ok(current)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let mut request =
            self.http.request(method, format!("http://{}/session{}{path}", self.authority, self.session));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let done = response.status().is_success();
        let value = response.json::<Value>().await.unwrap()["value"].take();
        if done {
            return Ok(value);
        }
        let word = |name: &str| value[name].as_str().unwrap_or_default();
        // The following lines are a stack trace of the driver.
        let message = word("message").lines().next().unwrap_or_default().to_owned();
        Err(Refusal { kind: word("error").to_owned(), message })
    }

    /// Closes the session and waits, because Chromium writes its profile until it has ended. Blocking, because drop is.
    fn close_session(&self) -> std::io::Result<()> {
        let mut connection = std::net::TcpStream::connect(&self.authority)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (session, host) = (&self.session, &self.authority);
        write!(connection, "DELETE /session{session} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        // The driver responds when Chromium has ended, and keeps the connection open.
        connection.read(&mut [0; 256]).map(|_| ())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.close_session();
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
