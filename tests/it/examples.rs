//! The script that pipelines report with, really run, by each shell there is.

use super::access::key;
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::pipelines::{Place, Ran, ended, shells};
use crate::support::replica::Replica;
use crate::support::{Setup, TestApp, eventually, every, real_servers};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use regreen::demo::samples::sample;
use regreen::domain::Role;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// What a program may write that JSON may not: quotes, every control character, and bytes that are no text.
const LOG: &[u8] = b"say \"hi\" \\ and \\n\r\n\ttab \x00\x01\x02\x07\x08\x0b\x0c\x0e\x1b[31merror: it broke\x1b[0m\x1f\x7f\n\
    \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbd \xff \xc0\xaf \xed\xa0\x80 \xe2\x82 \xf0\x9f\x98 \xf4\x90\x80\x80 ${HOME} $(id) `id` %s\nend\xe2\x82";

fn script() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/report-failure.sh").display().to_string()
}

/// Runs it with these settings, for a pod of the samples unless they name another.
async fn report(place: &Place, url: &str, more: &[(&str, &str)]) -> Ran {
    let ran = ended(place.start(&["sh", &script()], &settings(url, more))).await;
    assert_eq!(ran.code, Some(0), "it never fails: {}", ran.said);
    ran
}

fn settings<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pod = sample("dns").unwrap().pod;
    let mut env = vec![("REGREEN_URL", url), ("REGREEN_NAMESPACE", "ci"), ("REGREEN_POD", pod)];
    env.extend_from_slice(more);
    env
}

async fn with_keys() -> (TestApp, FakeModel, String) {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole().await.model(&model).set("REGREEN_AUTH", "keys").set("REGREEN_KEEP_RAW", "yes");
    let app = setup.start().await;
    let key = key(&app, Role::Reporter, &["ci"]).await;
    (app, model, key)
}

/// How often it asked.
fn requests(place: &Place) -> usize {
    place.calls().matches("/report-failure\n").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shell_sends_what_the_log_says_and_tells_the_issue() {
    let (app, _model, key) = with_keys().await;
    for shell in shells() {
        let place = Place::with(&shell);
        let (log, token) = (place.write("build.log", LOG), place.write("token", format!("{key}\n")));
        let run = shell.display().to_string();
        let ran = report(
            &place,
            &format!("{}/", app.base),
            &[
                ("REGREEN_TOKEN_FILE", &token),
                ("REGREEN_LOG_FILE", &log),
                ("REGREEN_RUN", &run),
                ("REGREEN_PIPELINE", "the \"pipe\\line\" é 😀 $(id)"),
                ("REGREEN_RESULT_FILE", "issue"),
            ],
        )
        .await;
        let issue = place.read("issue");
        assert!(issue.starts_with("http://") && issue.contains("/issues/"), "{issue}: {}", ran.said);
        assert!(
            ran.said.contains(&format!(": {issue}")) && ran.said.starts_with("regreen: "),
            "{}",
            ran.said
        );
        let list = TestApp::read(app.http.get(format!("{}/api/reports", app.base)).bearer_auth(&key)).await;
        let newest = &list.body["reports"][0];
        assert_eq!(
            (&newest["run"], &newest["pipeline"]),
            (&json!(run), &json!("the \"pipe\\line\" é 😀 $(id)"))
        );
        let stored: String =
            sqlx::query_scalar("select raw from evidence where kind = 'attached' order by id desc limit 1")
                .fetch_one(&app.pool().await)
                .await
                .unwrap();
        assert_eq!(stored, String::from_utf8_lossy(LOG).replace('\0', "\u{fffd}"), "{run}");
        assert!(!ran.said.contains(&key) && !place.calls().contains(&key), "{run} shows the token");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_environment_is_seen_by_nobody_else_and_traced_by_no_shell() {
    let (app, _model, key) = with_keys().await;
    for shell in shells() {
        let place = Place::with(&shell);
        let env = settings(&app.base, &[("REGREEN_TOKEN", &key), ("REGREEN_LOG_FILE", "nowhere.log")]);
        let ran = place.run(&["sh", "-x", &script()], &env).await;
        assert!(
            ran.said.contains("/issues/") && ran.said.contains("nowhere.log cannot be read"),
            "{}",
            ran.said
        );
        assert!(!ran.said.contains(&key) && !place.calls().contains(&key), "{}", ran.said);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_to_do_and_is_not_sent_again() {
    let (app, _model, key) = with_keys().await;
    for (more, said) in [
        (&[][..], "authentication failed (401)"),
        (
            &[("REGREEN_TOKEN", "rgn_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
            "regreen token create --role reporter",
        ),
        (&[("REGREEN_TOKEN", key.as_str()), ("REGREEN_NAMESPACE", "elsewhere")], "--namespace elsewhere"),
        (&[("REGREEN_TOKEN", &key), ("REGREEN_POD", "Not A Pod")], "`pod_name` is not a pod name"),
    ] {
        let place = Place::new();
        let ran = report(&place, &app.base, more).await;
        assert!(ran.said.contains(said) && ran.said.contains("was not reported"), "{}", ran.said);
        assert_eq!(requests(&place), 1, "{}", ran.said);
    }
    for (more, said) in [
        (&[("REGREEN_TOKEN", "two words")][..], "the token contains invalid characters"),
        (&[("REGREEN_TOKEN_FILE", "nowhere")], "nowhere cannot be read"),
        (&[("REGREEN_POD", "")], "REGREEN_POD is not set"),
        (&[("REGREEN_URL", "")], "REGREEN_URL is not set"),
    ] {
        let place = Place::new();
        let ran = report(&place, &app.base, more).await;
        assert!(ran.said.contains(said) && requests(&place) == 0, "{}", ran.said);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_fails_nothing_and_one_that_comes_up_gets_the_report() {
    let nobody = format!("http://127.0.0.1:{}", real_servers::free_port());
    for shell in shells() {
        let ran = report(&Place::with(&shell), &nobody, &[("REGREEN_WAIT", "2")]).await;
        assert!(ran.said.contains("did not accept it within 2 s: curl: (7)"), "{}", ran.said);
    }
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ran = report(&Place::new(), &url, &[("REGREEN_WAIT", "2")]).await;
    assert!(ran.said.contains("did not accept it within 2 s: curl: (28)"), "{}", ran.said);
    let port = real_servers::free_port();
    let (place, url) = (Place::new(), format!("http://127.0.0.1:{port}"));
    let waiting = place.start(&["sh", &script()], &settings(&url, &[]));
    let app = Setup::whole().await.set("REGREEN_PORT", &port.to_string()).start().await;
    let ran = ended(waiting).await;
    assert!(ran.said.contains("Issue created: http://"), "{}", ran.said);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_sent_from_where_it_counts() {
    let app = Setup::whole().await.set("REGREEN_KEEP_RAW", "yes").start().await;
    for shell in shells() {
        let place = Place::with(&shell);
        let log = place.write("build.log", "compiling\nerror: it broke\n");
        report(&place, &app.base, &[("REGREEN_LOG_FILE", &log), ("REGREEN_LOG_BYTES", "16")]).await;
        let stored: Vec<String> = sqlx::query_scalar("select raw from evidence where kind = 'attached'")
            .fetch_all(&app.pool().await)
            .await
            .unwrap();
        // The same report of each shell: it is known by what it says.
        assert_eq!(stored, ["error: it broke\n"]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_at_work_leaves_the_report_to_the_one_that_comes_after() {
    let model = FakeModel::start(vec![Reply::Hang]).await;
    let setup = Setup::whole().await.model(&model);
    let port = real_servers::free_port().to_string();
    let first = Replica::start(&setup, "serve", &[("REGREEN_PORT", &port)]);
    let (place, url) = (Place::new(), format!("http://127.0.0.1:{port}"));
    let waiting = place.start(&["sh", &script()], &settings(&url, &[]));
    eventually("the report is worked on", async || (!model.requests().is_empty()).then_some(())).await;
    first.kill();
    let _second = Replica::start(&setup, "serve", &[("REGREEN_PORT", &port)]);
    let ran = ended(waiting).await;
    assert!(ran.said.contains("Issue created: http://") && requests(&place) > 1, "{}", ran.said);
    assert_eq!(setup.forge().issues().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_waited_for_and_one_without_end_is_not() {
    // The model says nothing yet: the server answers 202 after a second, or holds its answer back for longer than the script waits.
    for held in ["1s", "5m"] {
        slow_answer(held).await;
    }
}

async fn slow_answer(held: &str) {
    let gate = Arc::new(Notify::new());
    let model = FakeModel::start(vec![Reply::Gated("", Arc::clone(&gate), "nothing")]).await;
    let app = Setup::whole().await.model(&model).set("REGREEN_WAIT", held).start().await;
    let place = Place::new();
    let ran = report(&place, &app.base, &[("REGREEN_WAIT", "4"), ("REGREEN_RESULT_FILE", "issue")]).await;
    let list = app.get("/api/reports").await.body;
    let id = list["reports"][0]["id"].as_str().unwrap();
    assert!(
        ran.said.contains(&format!("still in progress; its outcome will be at {}/reports/{id}", app.base)),
        "{}",
        ran.said
    );
    assert!(requests(&place) > 1 && place.file("issue").exists() && place.read("issue").is_empty());
    let ran = report(&place, &app.base, &[("REGREEN_WAIT", "0")]).await;
    assert!(
        ran.said.contains(&format!("was accepted; its outcome will be at {}/reports/{id}", app.base)),
        "{}",
        ran.said
    );
    let waiting = place.start(&["sh", &script()], &settings(&app.base, &[]));
    gate.notify_one();
    let ran = ended(waiting).await;
    assert!(ran.said.contains("Issue created: http://"), "{}", ran.said);
    let reports = app.get("/api/reports").await.body["reports"].as_array().unwrap().len();
    assert_eq!(reports, 1, "the same report, however often it was sent");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_failed_is_told_and_not_sent_again() {
    let app = Setup::whole().await.start().await;
    let place = Place::new();
    let ran = report(&place, &app.base, &[("REGREEN_POD", "nobody-knows")]).await;
    assert!(ran.said.contains("the investigation failed") && ran.said.contains("not found"), "{}", ran.said);
    assert_eq!(requests(&place), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_told_by_its_address_in_the_web() {
    let app = Setup::whole().await.start().await;
    let web = "https://git.example.com/shop/checkout";
    for shell in shells() {
        let place = Place::with(&shell);
        for (given, told) in [
            ("git@git.example.com:shop/checkout.git", web),
            ("git@git.example.com:/shop/checkout", web),
            ("ssh://git@git.example.com/shop/checkout.git", web),
            ("ssh://git.example.com:2222/shop/checkout", web),
            (web, web),
            ("https://git.example.com:8443/a@b:c.git", "https://git.example.com:8443/a@b:c.git"),
            ("/srv/git/checkout.git", "/srv/git/checkout.git"),
        ] {
            let run = format!("{} {given}", shell.display());
            let more = [("REGREEN_WAIT", "0"), ("REGREEN_RUN", &run), ("REGREEN_REPOSITORY", given)];
            let ran = report(&place, &app.base, &more).await;
            let newest = app.get("/api/reports").await.body["reports"][0].clone();
            assert_eq!((&newest["run"], &newest["repository"]), (&json!(run), &json!(told)), "{}", ran.said);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_says_something_else_is_another_report_and_one_that_says_the_same_is_not() {
    let app = Setup::whole().await.start().await;
    for shell in shells() {
        let place = Place::with(&shell);
        let run = shell.display().to_string();
        for (log, reports) in [("error: one\n", 1), ("error: two\n", 2), ("error: one\n", 2)] {
            let log = place.write("build.log", log);
            let more = [("REGREEN_WAIT", "0"), ("REGREEN_RUN", &run), ("REGREEN_LOG_FILE", &log)];
            let ran = report(&place, &app.base, &more).await;
            assert!(ran.said.starts_with("regreen: the report was accepted"), "{run}: {}", ran.said);
            let list = app.get("/api/reports").await.body;
            let of_run = list["reports"].as_array().unwrap().iter().filter(|report| report["run"] == run);
            assert_eq!(of_run.count(), reports, "{run}: {}", ran.said);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_left_out_of_the_report() {
    let app = Setup::whole().await.start().await;
    for shell in shells() {
        let place = Place::with(&shell);
        for (given, taken) in [
            ("https://ci.example.com/runs/7?a=b#c", true),
            ("http://10.0.0.7:8080/é", true),
            ("null/job/7/", false),
            ("/shop/actions/runs/7", false),
            ("javascript:alert(1)", false),
            ("https:///runs/7", false),
            ("http://a b/runs/7", false),
            ("", false),
        ] {
            let run = format!("{} {given}", shell.display());
            let more = [
                ("REGREEN_WAIT", "0"),
                ("REGREEN_RUN", &run),
                ("REGREEN_RUN_URL", given),
                ("REGREEN_LAST_GOOD_RUN", given),
            ];
            let ran = report(&place, &app.base, &more).await;
            let newest = app.get("/api/reports").await.body["reports"][0].clone();
            let told = if taken { json!(given) } else { json!(null) };
            assert_eq!(
                (&newest["run"], &newest["run_url"], &newest["last_good_run"]),
                (&json!(run), &told, &told),
                "{}",
                ran.said
            );
            let complaints = ran.said.matches("is not an http or https URL").count();
            assert_eq!(complaints, if taken || given.is_empty() { 0 } else { 2 }, "{}", ran.said);
        }
    }
    app.stop().await;
}

/// The headers of requests.
type Seen = Arc<Mutex<Vec<HeaderMap>>>;

/// Gives these answers in turn.
fn answers(answers: Vec<Response>) -> (Router, Seen) {
    let left = Arc::new(Mutex::new(answers.into_iter()));
    let seen = Seen::default();
    let journal = Arc::clone(&seen);
    let router = Router::new().fallback(move |headers: HeaderMap| {
        journal.lock().unwrap().push(headers);
        let answer = left.lock().unwrap().next();
        async move { answer.unwrap_or_else(|| StatusCode::IM_A_TEAPOT.into_response()) }
    });
    (router, seen)
}

/// What stands at the address of a service.
async fn answering(given: Vec<Response>) -> (String, Seen) {
    let (router, seen) = answers(given);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

struct Tls(TcpListener, TlsAcceptor);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_has_to_be_trusted() {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (router, seen) = answers(vec![done("Issue created: https://git.example/issues/7")]);
    let listener = Tls(listener, TlsAcceptor::from(Arc::new(config)));
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    let place = Place::new();
    let ran = report(&place, &url, &[("REGREEN_WAIT", "2")]).await;
    assert!(ran.said.contains("curl: (60)") && seen.lock().unwrap().is_empty(), "{}", ran.said);
    let authority = place.write("ca.pem", pair.cert.pem());
    let ran = report(&place, &url, &[("REGREEN_CA_FILE", &authority)]).await;
    assert!(ran.said.contains("Issue created"), "{}", ran.said);
}

fn done(result: &str) -> Response {
    axum::Json(json!({"status": "success", "result": result, "report_id": "0199"})).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_or_a_full_service_says_is_waited_out() {
    let busy = |status: u16, body: &str| {
        (StatusCode::from_u16(status).unwrap(), [("retry-after", "1")], body.to_owned()).into_response()
    };
    let hostile = "Issue created: https://git.example/issues/7\n::set-output name=x::\u{1b}[31m\"y\"\\";
    for shell in shells() {
        let given = vec![busy(503, "{}"), busy(429, "<html>"), busy(502, "Bad Gateway"), done(hostile)];
        let (url, seen) = answering(given).await;
        let place = Place::with(&shell);
        let ran = report(&place, &url, &[("REGREEN_RESULT_FILE", "issue")]).await;
        assert_eq!(place.read("issue"), "https://git.example/issues/7", "{}", ran.said);
        assert!(every(ran.said.lines(), |line| line.starts_with("regreen: ")), "{}", ran.said);
        assert!(!ran.said.contains('\u{1b}') && ran.said.contains("\"y\"\\"), "{}", ran.said);
        let keys: Vec<_> =
            seen.lock().unwrap().iter().map(|headers| headers["idempotency-key"].clone()).collect();
        assert!(keys.len() == 4 && keys.iter().all(|key| key == keys[0]), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regreen_or_cannot_be_taken_is_told_at_once() {
    let large = (StatusCode::PAYLOAD_TOO_LARGE, "{\"detail\":\"too much\"}").into_response();
    let moved = (StatusCode::MOVED_PERMANENTLY, [("location", "https://elsewhere/")]).into_response();
    let soon = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "900")]).into_response();
    for (answer, said) in [
        (large, "Set REGREEN_LOG_BYTES"),
        (moved, "returned 301"),
        ("<html>a login page</html>".into_response(), "is not Regreen"),
        (soon, "returned 503"),
        (done("Known cause, seen 3 times: the disk is full"), "the disk is full"),
    ] {
        let (url, seen) = answering(vec![answer]).await;
        let place = Place::new();
        let ran = report(&place, &url, &[("REGREEN_RESULT_FILE", "issue")]).await;
        assert!(ran.said.contains(said) && place.read("issue").is_empty(), "{}", ran.said);
        assert_eq!(seen.lock().unwrap().len(), 1, "{}", ran.said);
    }
}
