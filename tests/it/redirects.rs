//! Servers that send elsewhere: nothing that goes to one host, credentials above all, follows to another.

use crate::support::{Setup, eventually};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// Requests that came, as path and `Authorization`.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct Host {
    base: String,
    seen: Seen,
    server: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A host that answers everything in one way: with 307 to elsewhere, or with 401 and where to ask for a token.
async fn host(elsewhere: Option<String>) -> Host {
    let seen = Seen::default();
    let answer = async |State((seen, elsewhere)): State<(Seen, Option<String>)>,
                        uri: Uri,
                        headers: HeaderMap|
           -> Response {
        let key = headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
        seen.lock().unwrap().push((uri.path().to_owned(), key));
        match elsewhere {
            None => StatusCode::OK.into_response(),
            Some(elsewhere) if uri.path().starts_with("/guarded") => {
                let ask =
                    format!("Bearer resource_metadata=\"{elsewhere}/.well-known/oauth-protected-resource\"");
                (StatusCode::UNAUTHORIZED, [("www-authenticate", ask)]).into_response()
            }
            Some(elsewhere) => {
                let to = format!("{elsewhere}{}", uri.path());
                (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
            }
        }
    };
    let router = Router::new().fallback(answer).with_state((Arc::clone(&seen), elsewhere));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    let server = tokio::spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    Host { base, seen, server }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_followed_to_another_host() {
    let trap = host(None).await;
    let sends = host(Some(trap.base.clone())).await;
    let table = |name: &str, transport: &str, url: String| {
        format!(
            "[[mcp]]\nname = \"{name}\"\ntransport = \"{transport}\"\nurl = \"{url}\"\nheaders = {{ authorization = \"Bearer key-7\" }}\n"
        )
    };
    let socket = sends.base.replace("http://", "ws://");
    let app = Setup::bare()
        .await
        .file(&table("streamable", "streamable-http", format!("{}/streamable", sends.base)))
        .file(&table("events", "sse", format!("{}/events", sends.base)))
        .file(&table("socket", "websocket", format!("{socket}/socket")))
        .file(&table("guarded", "streamable-http", format!("{}/guarded", sends.base)))
        .set("REGREEN_ADDED_URLS", "http://127.0.0.1:*/added/**, ws://127.0.0.1:*/added/**")
        .set("REGREEN_MODEL_URL", &sends.base)
        .set("REGREEN_MODEL", "m")
        .set("REGREEN_MODEL_API_KEY", "key-7")
        .set("REGREEN_MODEL_MAX_ATTEMPTS", "1")
        .start()
        .await;
    for (name, transport, base) in
        [("a", "streamable-http", &sends.base), ("b", "sse", &sends.base), ("c", "websocket", &socket)]
    {
        let settings = json!({"name": name, "transport": transport, "url": format!("{base}/added/{name}")});
        assert_eq!(app.send("/api/mcp-servers", &settings).await.status, 201);
    }
    let servers = ["streamable", "events", "socket", "guarded", "a", "b", "c"];
    for name in servers {
        eventually("the server said no", async || {
            let status = app.get(&format!("/api/mcp-servers/{name}")).await.body;
            (status["state"] == "retrying" && status["last_error"].is_string()).then_some(())
        })
        .await;
    }
    let answer = app.send("/api/chat", &json!({"message": "hello?"})).await;
    assert_eq!(answer.status, 200, "the record answers: {:?}", answer.body);
    let asked = sends.seen.lock().unwrap().clone();
    for path in [
        "/streamable",
        "/events",
        "/socket",
        "/guarded",
        "/added/a",
        "/added/b",
        "/added/c",
        "/v1/chat/completions",
    ] {
        assert!(asked.iter().any(|(seen, _)| seen == path), "{path} was not asked: {asked:?}");
    }
    assert!(asked.iter().any(|(_, key)| key == "Bearer key-7"), "{asked:?}");
    assert_eq!(*trap.seen.lock().unwrap(), [], "what was meant for one host went to another");
    // And the trap is one: it answers when it is asked.
    assert_eq!(app.http.get(&trap.base).send().await.unwrap().status(), 200);
    app.stop().await;
}
