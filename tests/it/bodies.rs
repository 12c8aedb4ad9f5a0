//! Bodies: what each route takes, what a hostile one costs, and that nobody's bodies keep others out.

use crate::access::path;
use crate::support::replica::{Replica, http};
use crate::support::{PATIENCE, Setup, TestApp, eventually, pool};
use regreen::api::Rule;
use regreen::auth::{NewKey, make_key};
use regreen::domain::Role;
use regreen::server::access;
use reqwest::{Body, Method};
use serde_json::json;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// As many requests as a test sends.
fn unlimited(setup: Setup) -> Setup {
    ["REGREEN_LIMIT_REQUESTS", "REGREEN_LIMIT_REPORTS", "REGREEN_LIMIT_QUESTIONS"]
        .into_iter()
        .fold(setup, |setup, limit| setup.set(limit, "0"))
}

/// A key that may do everything.
async fn key(database: &str) -> String {
    let new = NewKey {
        name: format!("k-{}", uuid::Uuid::new_v4().simple()),
        role: Role::Admin,
        namespaces: Vec::new(),
        expires_in: None,
        by: regreen::domain::Actor::new("test", ""),
    };
    make_key(&pool(database).await, new).await.unwrap().1.expose().to_owned()
}

/// Pieces without a length that is told before.
fn chunked(bytes: usize) -> Body {
    let pieces = (0..bytes).step_by(16 << 10).map(move |at| vec![b' '; (bytes - at).min(16 << 10)]);
    Body::wrap_stream(futures::stream::iter(pieces.map(Ok::<_, Infallible>)))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_refuses_a_byte_more_than_it_takes() {
    const CONFIGURED: usize = 9 << 20;
    let setup = Setup::bare().await.set("REGREEN_AUTH", "keys");
    let setup = unlimited(setup).set("REGREEN_BODY_LIMIT", &CONFIGURED.to_string());
    let app = setup.start().await;
    let key = key(&app.database).await;
    let mut wrong = String::new();
    for rule in access() {
        let most = rule.body.bytes(CONFIGURED);
        for (how, body) in [("told", Body::from(vec![b' '; most + 1])), ("chunked", chunked(most + 1))] {
            let method = Method::from_bytes(rule.method.as_bytes()).unwrap();
            let mut request = app.http.request(method, format!("{}{}", app.base, path(&rule)));
            if how == "chunked" {
                // Else the client sends no body with GET.
                request = request.header("transfer-encoding", "chunked");
            }
            let answer = TestApp::read(request.bearer_auth(&key).body(body)).await;
            let told = match &answer.body["error"]["message"] {
                serde_json::Value::String(message) => message.clone(),
                _ => answer.body["detail"].as_str().or(answer.body.as_str()).unwrap_or_default().to_owned(),
            };
            let limit = rule.body.to_string();
            let limit = limit.trim_matches('`');
            if answer.status != 413 || !told.contains(limit) {
                let Rule { method, path, .. } = &rule;
                let _ = writeln!(wrong, "{method} {path} {how}: {} {told}", answer.status);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // What is as large as may be is read, and judged for what it says.
    let fits = app.http.post(format!("{}/api/chat", app.base)).bearer_auth(&key).body(chunked(512 << 10));
    assert_eq!(TestApp::read(fits).await.status, 400);
    app.stop().await;
}

/// The most memory that a process had, in MiB.
fn peak(replica: &Replica) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_many_fields_costs_nothing() {
    let setup = unlimited(Setup::bare().await.set("REGREEN_AUTH", "keys"));
    let replica = Replica::serve(&setup).ready().await;
    let form = |body: Body| {
        let request = http().post(format!("{}/login", replica.base)).body(body);
        TestApp::try_read(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let small = form(Body::from("key=rgn_x")).await.unwrap();
    assert_eq!(small.status, 401);
    let before = peak(&replica);
    let many = "a&".repeat(16 << 20);
    let announced = form(Body::from(many.clone())).await.unwrap();
    let pieces = many.into_bytes();
    let pieces: Vec<Vec<u8>> = pieces.chunks(1 << 20).map(<[u8]>::to_vec).collect();
    let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    let unannounced = form(Body::wrap_stream(pieces)).await.unwrap();
    let allowed = form(Body::from("a&".repeat(32 << 10))).await.unwrap();
    let grown = peak(&replica) - before;
    assert_eq!((announced.status, unannounced.status), (413, 413), "{announced:?} {unannounced:?}");
    assert!(announced.body.as_str().unwrap().contains("64 KiB"), "{announced:?}");
    assert_eq!(allowed.status, 422, "{allowed:?}");
    assert!(grown < 64, "{grown} MiB more than {before}, for 32 MiB that were sent twice");
}

/// JSON of so many bytes that a tree would take many times as much for.
fn hostile(fields: &[String], bytes: usize) -> Vec<String> {
    let room = bytes - 4096;
    let mut names = String::from("{");
    for number in 0.. {
        if names.len() > room {
            break;
        }
        let _ = write!(names, "\"{number:x}\":1,");
    }
    names.push_str("\"\":1}");
    let lists = format!("[{}[]]", "[],".repeat(room / 3));
    let numbers = format!("[{}1]", "1,".repeat(room / 2));
    let text = "\\u0041".repeat(room / 12);
    let mut all =
        vec![names, format!("{{\"unknown\":{lists}}}"), "[".repeat(room), "{\"a\":".repeat(room / 5)];
    for field in fields.iter().take(3) {
        all.push(format!("{{\"{field}\":{numbers}}}"));
    }
    if let Some(last) = fields.last() {
        let lists = &lists[..room / 6 * 3];
        all.push(format!("{{\"{last}\":\"{text}\",\"{last}\":{}]}}", lists.trim_end_matches(',')));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_costs_what_is_kept_of_it() {
    const CONFIGURED: usize = 8 << 20;
    let setup = unlimited(Setup::bare().await).set("REGREEN_BODY_LIMIT", &CONFIGURED.to_string());
    let replica = Replica::serve(&setup).ready().await;
    let rules = access();
    let before = peak(&replica);
    for (method, called, fields) in crate::fuzz::operations() {
        let fits = |rule: &&Rule| rule.method == method.as_str() && crate::fuzz::called(&rule.path) == called;
        let limit = rules.iter().find(fits).unwrap().body.bytes(CONFIGURED);
        for body in hostile(&fields, limit) {
            assert!(body.len() <= limit);
            let shown = body.chars().take(60).collect::<String>();
            let request = http().request(method.clone(), format!("{}{called}", replica.base)).body(body);
            let answer = TestApp::try_read(request.header("content-type", "application/json")).await;
            let status = answer.unwrap_or_else(|| panic!("{method} {called}: no answer to {shown}")).status;
            assert!((400..500).contains(&status), "{method} {called}: {status} to {shown}");
        }
    }
    let wide = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"get_report\",\"arguments\":{{\"id\":[{}1]}}}}}}",
        "1,".repeat(500_000)
    );
    let request = http().post(format!("{}/mcp", replica.base)).body(wide);
    let request = request.header("content-type", "application/json");
    let answer =
        TestApp::try_read(request.header("accept", "application/json, text/event-stream")).await.unwrap();
    let grown = peak(&replica) - before;
    assert!(grown < 80, "{grown} MiB more than {before} for bodies of at most 8 MiB");
    assert_eq!(answer.status, 413, "{answer:?}");
}

/// Announces a body, and waits until the server wants it or refuses it.
async fn announce(replica: &Replica, head: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(replica.base.trim_start_matches("http://")).await.unwrap();
    let said =
        format!("POST {head}host: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n");
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_much_and_sends_nothing_keeps_nobody_out() {
    let setup = unlimited(Setup::bare().await.set("REGREEN_AUTH", "keys"));
    let replica = Replica::serve(&setup).ready().await;
    let key = key(&setup.env()["DATABASE_URL"]).await;
    let report = async |pod: &str| {
        let pad = "x".repeat(1 << 20);
        let request = http().post(format!("{}/report-failure", replica.base)).bearer_auth(&key);
        let request =
            request.json(&json!({"namespace": "ci", "pod_name": pod, "log": "error: x", "pad": pad}));
        TestApp::try_read(request.header("prefer", "respond-async")).await.unwrap().status
    };
    let bearer = format!("authorization: Bearer {key}\r\n");
    for (count, path, more, pod) in [
        (16, "/login", "content-type: application/x-www-form-urlencoded\r\n", "one"),
        (16, "/api/webhooks/tracker", "", "two"),
        (16, "/report-failure", "", "three"),
        (200, "/report-failure", bearer.as_str(), "four"),
    ] {
        let head = format!("{path} HTTP/1.1\r\n{more}");
        let mut idle = Vec::new();
        for _ in 0..count {
            idle.push(announce(&replica, &head, 33_000_000).await);
        }
        // What is left when the large ones have no room any more.
        for _ in 0..140 {
            idle.push(announce(&replica, &head, 66_000).await);
        }
        assert_eq!(report(pod).await, 202, "beside {count} of {path}");
        drop(idle);
    }
}

/// Sends a body of 33 MB but for its last byte; `true` when it is refused for want of room, and waits for ever when not.
async fn send_most(base: String, address: &'static str, body: Arc<Vec<u8>>) -> bool {
    let head = format!(
        "POST /report-failure HTTP/1.1\r\nhost: 127.0.0.1\r\nx-forwarded-for: {address}\r\ncontent-length: {}\r\n\r\n",
        body.len() + 1
    );
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_together_are_bounded_and_small_ones_get_through() {
    let setup = unlimited(Setup::bare().await.set("REGREEN_TRUSTED_PROXIES", "127.0.0.0/8"));
    let replica = Replica::serve(&setup).ready().await;
    let report = async |pod: &str, address: &str, size: usize| {
        let body = json!({"namespace": "ci", "pod_name": pod, "log": "error: x", "pad": "x".repeat(size)});
        let request = http().post(format!("{}/report-failure", replica.base)).json(&body);
        let request = request.header("prefer", "respond-async").header("x-forwarded-for", address);
        TestApp::try_read(request).await.unwrap().status
    };
    let body = Arc::new(vec![b' '; 32_999_999]);
    let mut sending = JoinSet::new();
    for _ in 0..12 {
        sending.spawn(send_most(replica.base.clone(), "192.0.2.1", Arc::clone(&body)));
    }
    // 512 MiB, of which one address gets a half: eight of them.
    for _ in 0..4 {
        assert!(timeout(PATIENCE, sending.join_next()).await.unwrap().unwrap().unwrap());
    }
    assert_eq!(report("small", "192.0.2.1", 1_000).await, 202);
    assert_eq!(report("other", "192.0.2.2", 1 << 20).await, 202, "another address has room");
    assert!(sending.len() >= 6, "{}", sending.len());
    sending.shutdown().await;
    eventually("there is room again", async || {
        (report("again", "192.0.2.1", 30 << 20).await == 202).then_some(())
    })
    .await;
}
