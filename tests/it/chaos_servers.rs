//! MCP servers and models that fail in every way there is, while reports come in: each is done once they work again, or without them.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::replica::Replica;
use crate::support::{Setup, TestApp, eventually, real_servers};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use regreen::shutdown::Shutdown;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

fn cluster_tools() -> Behaviour {
    Behaviour {
        tools: vec![("pods_log", true), ("pods_get", true), ("events_list", true)],
        ..Behaviour::default()
    }
}

fn answers(text: &str) -> Behaviour {
    Behaviour { raw: Some(text.to_owned()), ..cluster_tools() }
}

/// Reports a pod of its own; where its outcome will be.
async fn report(app: &TestApp, number: usize) -> String {
    let log = format!("step one\nerror: part {} is broken\nexit status 1\n", "x".repeat(number + 1));
    let body = json!({"namespace": "ci", "pod_name": format!("pod-{number}"), "log": log});
    let accepted = app.post(&body, &[("prefer", "respond-async")]).await;
    assert_eq!(accepted.status, 202, "{:?}", accepted.body);
    accepted.headers["location"].to_str().unwrap().to_owned()
}

async fn done(app: &TestApp, place: &str) -> Value {
    eventually("the report is done", async || {
        let report = app.get(place).await.body;
        assert_ne!(report["status"], "failed", "{report}");
        (report["status"] == "done").then_some(report)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_misbehaves_delays_reports_and_loses_none() {
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}", "[".repeat(100_000));
    let troubles: Vec<(&str, Behaviour)> = vec![
        ("hangs", Behaviour { hang: true, ..cluster_tools() }),
        ("breaks off", Behaviour { drop_calls: true, ..cluster_tools() }),
        ("drips", Behaviour { drips: true, ..cluster_tools() }),
        ("answers with a page", answers("<html>Bad gateway</html>")),
        ("answers another call", answers(r#"{"jsonrpc":"2.0","id":99999,"result":{"content":[]}}"#)),
        ("answers half", answers(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"te"#)),
        ("answers something else", answers(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":"no list"}}"#)),
        ("answers a tower", answers(&deep)),
    ];
    let server = FakeMcp::start(cluster_tools()).await;
    let table = server.table("fake", "call_timeout = \"300ms\"\nconnect_timeout = \"1s\"");
    let app = Setup::whole().await.set("REGREEN_CLUSTER_SERVER", "fake").file(&table).start().await;
    for (number, (what, trouble)) in troubles.into_iter().enumerate() {
        server.behave(|behaviour| *behaviour = trouble);
        let before = server.seen("tools/call").len();
        let body = json!({"namespace": "ci", "pod_name": format!("pod-{}", "x".repeat(number + 1))});
        let accepted = app.post(&body, &[("prefer", "respond-async")]).await;
        eventually("it is asked", async || (server.seen("tools/call").len() > before).then_some(())).await;
        server.behave(|behaviour| *behaviour = cluster_tools());
        let mended = Instant::now();
        done(&app, accepted.headers["location"].to_str().unwrap()).await;
        println!("a cluster that {what}: done {:.1} s after it worked again", mended.elapsed().as_secs_f64());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_forgotten_again_and_again_lose_nothing() {
    let server = FakeMcp::start(cluster_tools()).await;
    let app = Setup::whole()
        .await
        .set("REGREEN_CLUSTER_SERVER", "fake")
        .file(&server.table("fake", ""))
        .start()
        .await;
    for number in 0..5 {
        server.forget_sessions();
        let place = report(&app, number).await;
        server.forget_sessions();
        done(&app, &place).await;
    }
    assert_eq!(app.issues().len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_done_while_the_model_is_down_and_with_it_when_it_is_back() {
    let port = real_servers::free_port();
    let setup = Setup::whole().await.set("REGREEN_MODEL", "fake");
    let app = setup.set("REGREEN_MODEL_URL", &format!("http://127.0.0.1:{port}")).start().await;
    for number in 0..6 {
        let place = report(&app, number).await;
        let report = done(&app, &place).await;
        assert_eq!(report["runs"].as_array().unwrap().last().unwrap()["analyst"], "rules");
    }
    let _model = FakeModel::start_on(Vec::new(), port).await;
    let place = report(&app, 6).await;
    assert_eq!(done(&app, &place).await["runs"][0]["analyst"], "fake");
    assert_eq!(app.issues().len(), 7);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_refusals_costs_no_report() {
    let busy = || Reply::Status(429, json!({"error": {"message": "slow down"}}), Some("0"));
    let model = FakeModel::start(std::iter::repeat_with(busy).take(23).collect()).await;
    let app = Setup::whole().await.model(&model).start().await;
    let mut places = Vec::new();
    for number in 0..8 {
        places.push(report(&app, number).await);
    }
    let mut analysts = Vec::new();
    for place in &places {
        let report = done(&app, place).await;
        analysts
            .push(report["runs"].as_array().unwrap().last().unwrap()["analyst"].as_str().unwrap().to_owned());
    }
    assert!(analysts.iter().any(|analyst| analyst == "fake"), "the model was asked again: {analysts:?}");
    assert_eq!(app.issues().len(), 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_model_writes_the_report_is_done() {
    let stream = |body: &str| Reply::Raw("text/event-stream", body.to_owned());
    let troubles = vec![
        stream("data: {oops\n\n"),
        stream("data: [1, 2]\n\ndata: null\n\ndata: 7\n\n"),
        stream("data: {\"choices\": {}}\n\ndata: [DONE]\n\n"),
        stream(
            "data: {\"choices\": [{\"delta\": {\"tool_calls\": [{\"index\": -1, \"function\": 3}]}, \"finish_reason\": \"tool_calls\"}]}\n\ndata: [DONE]\n\n",
        ),
        stream(&format!("data: {}\n\n", "[".repeat(200_000))),
        stream("no stream at all"),
        stream(""),
        Reply::Raw("application/json", "<html>".to_owned()),
        Reply::Raw("application/json", "[".repeat(200_000)),
        Reply::Raw("text/html", "<html>Bad gateway</html>".to_owned()),
        Reply::Broken,
        Reply::Endless(": this line is a comment and it is written again and again ...\n"),
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        let model = FakeModel::start((0..8).map(|_| trouble.clone()).collect()).await;
        let app = Setup::whole().await.model(&model).start().await;
        let place = report(&app, number).await;
        let report = done(&app, &place).await;
        let last = report["runs"].as_array().unwrap().last().unwrap()["analyst"].clone();
        assert_eq!(last, "rules", "{trouble:?}: {report}");
        assert_eq!(app.issues().len(), 1);
        app.stop().await;
    }
}

/// An authority, and what it signs: a certificate for loopback that ends at the beginning of a year.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, ends: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_and_the_status_says_so() {
    let server = FakeMcp::start(cluster_tools()).await;
    let authority = Authority::new();
    let config = Arc::new(Mutex::new(authority.sign(2021)));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    let (ends, shown, behind) = (Shutdown::new(), Arc::clone(&config), server.address);
    let (connections, stop) = (ends.clone(), ends.token().clone());
    ends.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::clone(&shown.lock().unwrap()));
            connections.spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    }));
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let table = format!("[[mcp]]\nname = \"secure\"\ntransport = \"streamable-http\"\nurl = \"{url}\"\n");
    let setup = Setup::bare().await.file(&table);
    let replica =
        Replica::start(&setup, "serve", &[("SSL_CERT_FILE", trusted.to_str().unwrap())]).ready().await;
    let status = async || replica.get("/api/mcp-servers/secure").await.map(|answer| answer.body);
    let refused =
        eventually("it is refused", async || status().await.filter(|status| !status["last_error"].is_null()))
            .await;
    let words = refused["last_error"].as_str().unwrap();
    assert!(words.contains("certificate") && words.contains("expired"), "{words}");
    assert_ne!(refused["state"], "connected");
    *config.lock().unwrap() = authority.sign(2100);
    let mended = Instant::now();
    eventually("it is connected with a new one", async || {
        status().await.filter(|status| status["state"] == "connected")
    })
    .await;
    println!("connected {:.1} s after the certificate was renewed", mended.elapsed().as_secs_f64());
    ends.token().cancel();
}
