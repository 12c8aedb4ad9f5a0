//! Clients that are slow, many or large on purpose: they end in bounded time, and the others do not notice.

use crate::support::chaos::failed;
use crate::support::postgres::signal_to;
use crate::support::replica::Replica;
use crate::support::{PATIENCE, Setup, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

async fn connect(replica: &Replica, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(replica.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(said.as_bytes()).await.unwrap();
    stream
}

/// Sends a byte now and then; what the server says until it ends the connection.
async fn drip(mut stream: TcpStream) -> String {
    let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
    let told = async {
        loop {
            match timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(read)) => heard.extend_from_slice(&buffer[..read]),
                // The other end may be gone before it is noticed.
                Err(_) => drop(stream.write_all(b"x").await),
            }
        }
    };
    timeout(PATIENCE, told).await.expect("the server ends a connection that drips");
    String::from_utf8_lossy(&heard).into_owned()
}

const HEAD: &str = "POST /report-failure HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_announced_goes_on_for_a_while_and_is_no_longer_ready() {
    let setup = Setup::whole().await;
    let replica = Replica::start(&setup, "serve", &[("REGREEN_STOP_DELAY", "1h")]).ready().await;
    signal_to(replica.process(), "-TERM");
    eventually("it is no longer ready", async || {
        (replica.get("/health/ready").await?.status == 503).then_some(())
    })
    .await;
    // Whoever has not heard of it yet is served all the same, on a connection of its own.
    assert_eq!(replica.get("/health/live").await.unwrap().status, 200);
    let answer = replica.report(&failed("oom"), "while-it-leaves").await.unwrap();
    let path = format!("/api/reports/{}", answer.body["report_id"].as_str().unwrap());
    eventually("its report is done", async || {
        (replica.get(&path).await?.body["status"] == "done").then_some(())
    })
    .await;
    let (status, log) = replica.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_drip_end_and_nobody_else_notices() {
    let setup = Setup::bare().await.set("REGREEN_HEADER_TIMEOUT", "1s");
    let replica = Replica::serve(&setup).ready().await;
    let mut dripping = tokio::task::JoinSet::new();
    for _ in 0..200 {
        dripping.spawn(drip(connect(&replica, "POST /report-failure HTTP/1.1\r\nx-slow: ").await));
    }
    let mut served = 0;
    while !dripping.is_empty() {
        assert_eq!(replica.get("/health/live").await.unwrap().status, 200);
        served += 1;
        while dripping.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    assert!(served > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_told_so() {
    let setup = Setup::bare().await.set("REGREEN_BODY_TIMEOUT", "1s");
    let replica = Replica::serve(&setup).ready().await;
    for path in ["/report-failure", "/api/chat", "/api/documents"] {
        let head = HEAD.replace("/report-failure", path);
        let said = drip(connect(&replica, &format!("{head}content-length: 100000\r\n\r\n{{")).await).await;
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("application/problem+json"),
            "{path}: {said}"
        );
        assert!(said.contains("server.body_timeout"), "{said}");
    }
    let chunked =
        drip(connect(&replica, &format!("{HEAD}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n")).await).await;
    assert!(chunked.starts_with("HTTP/1.1 4"), "{chunked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_as_many_as_are_allowed() {
    let setup = Setup::bare().await.set("REGREEN_MAX_CONNECTIONS", "4").set("REGREEN_HEADER_TIMEOUT", "2s");
    let replica = Replica::serve(&setup).ready().await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(&replica, "GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        idle.push(stream);
    }
    let mut fifth = connect(&replica, "GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    let mut answer = [0; 12];
    assert!(
        timeout(Duration::from_millis(300), fifth.read(&mut answer)).await.is_err(),
        "it waits for a place"
    );
    // Those that rest are ended, and the one that waits is answered.
    timeout(PATIENCE, fifth.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_in_words() {
    let replica = Replica::serve(&Setup::bare().await.set("REGREEN_BODY_LIMIT", "100000")).ready().await;
    let body = json!({"namespace": "ci", "pod_name": "p", "log": "x".repeat(200_000)});
    let answer = replica.report(&body, "large").await.unwrap();
    assert_eq!((answer.status, &answer.body["status"]), (413, &Value::from(413)), "{:?}", answer.body);
}

/// A client that sends all it has before it reads finds the answer, not a broken connection.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_can_send_it_and_is_answered() {
    let replica = Replica::serve(&Setup::bare().await.set("REGREEN_BODY_LIMIT", "100000")).ready().await;
    let length = format!("{HEAD}content-length: 180000\r\nconnection: close\r\n\r\n");
    for head in [length, format!("{HEAD}transfer-encoding: chunked\r\nconnection: close\r\n\r\n")] {
        let mut stream = connect(&replica, &head).await;
        for _ in 0..9 {
            if head.contains("chunked") {
                stream.write_all(b"4e20\r\n").await.unwrap();
            }
            stream.write_all(&[b' '; 20_000]).await.unwrap();
            if head.contains("chunked") {
                stream.write_all(b"\r\n").await.unwrap();
            }
            // Room for the server to close the connection in between, if it would.
            assert_eq!(replica.get("/health/live").await.unwrap().status, 200);
        }
        stream.write_all(if head.contains("chunked") { b"0\r\n\r\n" } else { b"" }).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    }
}

/// Whoever is refused in the middle of a body can send the rest of it, and be answered again over the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_while_sending_keeps_the_connection() {
    let setup = Setup::bare().await.set("REGREEN_LIMIT_REPORTS", "1").set("REGREEN_LIMIT_REPORTS_BURST", "1");
    let replica = Replica::serve(&setup).ready().await;
    assert_eq!(
        replica.report(&json!({"namespace": "ci", "pod_name": "p"}), "first").await.unwrap().status,
        202
    );
    let mut stream = connect(&replica, &format!("{HEAD}content-length: 100000\r\n\r\n")).await;
    for status in [429, 429] {
        stream.write_all(&[b' '; 50_000]).await.unwrap();
        let mut said = String::new();
        while !said.contains("\r\n\r\n") || !said.trim_end().ends_with('}') {
            let mut buffer = [0; 4096];
            let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "the connection was closed after {said:?}");
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        stream.write_all(&[b' '; 50_000]).await.unwrap();
        stream.write_all(format!("{HEAD}content-length: 100000\r\n\r\n").as_bytes()).await.unwrap();
    }
}
