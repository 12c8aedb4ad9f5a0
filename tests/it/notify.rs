//! Who is told of what happened: by rule, several at a time, and however long the other end is away.

use crate::support::chaos::failed;
use crate::support::replica::Replica;
use crate::support::{Setup, TestApp, eventually};
use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SECRET: &str = "a-secret-of-the-receiver";

#[derive(Default)]
struct Kept {
    got: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    answer: Mutex<Option<StatusCode>>,
    /// While it is set, nobody is answered.
    holds: watch::Sender<bool>,
}

/// Services that are told.
struct Receiver {
    url: String,
    kept: Arc<Kept>,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(kept): State<Arc<Kept>>,
    Path(who): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    kept.got.lock().unwrap().push((who, headers, body));
    kept.holds.subscribe().wait_for(|holds| !holds).await.unwrap();
    kept.answer.lock().unwrap().unwrap_or(StatusCode::OK)
}

impl Receiver {
    async fn start() -> Self {
        let kept = Arc::new(Kept::default());
        let router = axum::Router::new().route("/{who}", post(take)).with_state(Arc::clone(&kept));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, kept, server }
    }

    fn answers(&self, status: StatusCode) {
        *self.kept.answer.lock().unwrap() = Some(status);
    }

    fn holds(&self, holds: bool) {
        self.kept.holds.send_replace(holds);
    }

    /// A table of the configuration.
    fn table(&self, name: &str, channel: &str, more: &str) -> String {
        format!(
            "[[notify]]\nname = \"{name}\"\nchannel = \"{channel}\"\nurl = \"{}/{name}\"\n{more}\n",
            self.url
        )
    }

    fn got(&self, who: &str) -> Vec<(HeaderMap, Bytes)> {
        let got = self.kept.got.lock().unwrap();
        got.iter()
            .filter(|(to, _, _)| to == who)
            .map(|(_, headers, body)| (headers.clone(), body.clone()))
            .collect()
    }

    fn messages(&self, who: &str) -> Vec<Value> {
        self.got(who).iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    async fn wait_for(&self, who: &str, count: usize) -> Vec<Value> {
        eventually("they are told", async || {
            let messages = self.messages(who);
            (messages.len() >= count).then_some(messages)
        })
        .await
    }
}

/// What was told of, as `novelty namespace`.
fn told(message: &Value) -> Vec<String> {
    let items = message["data"]["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| format!("{} {}", item["novelty"], item["failure"]["namespace"]).replace('"', ""))
        .collect()
}

/// Nothing is left to be told.
async fn all_told(app: &TestApp) {
    eventually("nothing is left to tell", async || {
        let left: i64 = sqlx::query_scalar(
            "select count(*) from notifications where sent_at is null and refused is null",
        )
        .fetch_one(&app.pool().await)
        .await
        .unwrap();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_what_they_want_to_hear() {
    let receiver = Receiver::start().await;
    let signed = format!("secret = \"{SECRET}\"\nevery = \"0s\"");
    let tables = [
        receiver.table("slack", "slack", "every = \"0s\""),
        receiver.table("teams", "teams", "every = \"0s\""),
        receiver.table(
            "all",
            "webhook",
            &format!("{signed}\non = [\"new\", \"known\"]\nnamespaces = [\"c*\"]"),
        ),
        receiver.table("others", "webhook", &format!("{signed}\nnamespaces = [\"prod-*\"]")),
        receiver.table("code", "webhook", &format!("{signed}\nclasses = [\"code\"]")),
    ];
    let app = Setup::whole().await.file(&tables.concat()).start().await;
    app.report("dns").await;
    let first = receiver.wait_for("all", 1).await;
    app.report("dns").await;
    let both = receiver.wait_for("all", 2).await;
    receiver.wait_for("slack", 1).await;
    receiver.wait_for("teams", 1).await;
    all_told(&app).await;
    assert_eq!(told(&first[0]), ["new ci"]);
    assert_eq!(told(&both[1]), ["known ci"]);
    let item = &first[0]["data"]["items"][0];
    let url = item["incident"]["issue_url"].as_str().unwrap();
    let slack = receiver.messages("slack");
    assert!(slack.len() == 1 && slack[0].to_string().contains(url), "{slack:?}");
    let teams = receiver.messages("teams");
    assert_eq!(teams[0]["attachments"][0]["content"]["actions"][0]["url"], url);
    assert!(receiver.got("others").is_empty() && receiver.got("code").is_empty());

    let (headers, body) = &receiver.got("all")[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(body);
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    assert!(mac.verify_slice(&signature).is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_fast_comes_as_one() {
    let receiver = Receiver::start().await;
    let table = receiver.table(
        "team",
        "webhook",
        &format!("secret = \"{SECRET}\"\nevery = \"1h\"\non = [\"new\", \"known\"]"),
    );
    let app = Setup::whole().await.file(&table).start().await;
    app.report("dns").await;
    receiver.wait_for("team", 1).await;
    all_told(&app).await;
    app.report("dns").await;
    app.report("oom").await;
    app.report("dns").await;
    assert_eq!(receiver.messages("team").len(), 1, "an hour is not over");
    // It is.
    for statement in [
        "update notifications set sent_at = sent_at - interval '2 hours' where sent_at is not null",
        "update graphile_worker._private_jobs set run_at = now() where key = 'notify-team'",
    ] {
        sqlx::query(statement).execute(&app.pool().await).await.unwrap();
    }
    let messages = receiver.wait_for("team", 2).await;
    assert_eq!(told(&messages[1]), ["known ci", "new ci", "known ci"]);
    all_told(&app).await;
    assert_eq!(receiver.messages("team").len(), 2);
    app.stop().await;
}

/// Waits until the only job that is left tells a target, a good while from now.
async fn is_put_off(pool: &sqlx::PgPool) {
    eventually("the rest waits for its time", async || {
        let jobs: Vec<(bool, bool)> = sqlx::query_as(
            "select locked_at is null, run_at > now() + interval '30 seconds' from graphile_worker._private_jobs",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        (jobs == [(true, true)]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_target_is_told_waits_for_the_next_message() {
    let receiver = Receiver::start().await;
    let more = format!("secret = \"{SECRET}\"\nevery = \"1h\"\non = [\"new\", \"known\"]");
    let app = Setup::whole().await.file(&receiver.table("team", "webhook", &more)).start().await;
    receiver.holds(true);
    app.report("dns").await;
    receiver.wait_for("team", 1).await;
    for _ in 0..3 {
        app.report("dns").await;
    }
    receiver.holds(false);
    is_put_off(&app.pool().await).await;
    assert_eq!(receiver.messages("team").len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_that_died_was_sending_is_sent() {
    let receiver = Receiver::start().await;
    let more = format!("secret = \"{SECRET}\"\nevery = \"0s\"");
    let setup = Setup::whole().await.file(&receiver.table("team", "webhook", &more));
    let pool = crate::support::pool(&setup.env()["DATABASE_URL"]).await;
    receiver.holds(true);
    let replica = Replica::serve(&setup).ready().await;
    replica.report(&failed("dns"), "one").await.unwrap();
    receiver.wait_for("team", 1).await;
    replica.kill();
    receiver.holds(false);
    let replica = Replica::serve(&setup).ready().await;
    is_put_off(&pool).await;
    // The lease of the one that died is over.
    for statement in [
        "update notifications set claimed_until = now() - interval '1 second'",
        "update graphile_worker._private_jobs set run_at = now()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let messages = receiver.wait_for("team", 2).await;
    assert_eq!(told(&messages[0]), told(&messages[1]));
    drop(replica);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_is_told_later_and_who_refuses_is_left_alone() {
    let receiver = Receiver::start().await;
    let table = receiver.table("team", "slack", "every = \"0s\"\non = [\"new\", \"known\"]");
    let app = Setup::whole().await.file(&table).start().await;
    receiver.answers(StatusCode::SERVICE_UNAVAILABLE);
    let answer = app.report("dns").await;
    assert_eq!(answer.status, 200, "reports do not wait for it");
    receiver.wait_for("team", 1).await;
    receiver.answers(StatusCode::OK);
    receiver.wait_for("team", 2).await;
    all_told(&app).await;
    receiver.answers(StatusCode::NOT_FOUND);
    app.report("dns").await;
    receiver.wait_for("team", 3).await;
    all_told(&app).await;
    let refused: String = sqlx::query_scalar("select refused from notifications where refused is not null")
        .fetch_one(&app.pool().await)
        .await
        .unwrap();
    assert!(refused.contains("404") && !refused.contains(&receiver.url), "{refused}");
    let page = app.get("/settings").await.body;
    let page = page.as_str().unwrap();
    assert!(
        page.contains("refused</span> it answered 404") && page.contains("<td>new known<td>0s"),
        "{page}"
    );
    assert!(!page.contains(&receiver.url), "an address is a secret");
    app.stop().await;
}

/// A forge with one pull request, number 7, of the commit `0a1b2c3d`.
#[derive(Default)]
struct Forge {
    comments: Mutex<Vec<Value>>,
    asked: Mutex<Vec<String>>,
}

async fn forge(State(forge): State<Arc<Forge>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = reqwest::Url::parse(&format!("http://forge{}", request.uri())).unwrap();
    let page =
        asked.query_pairs().find(|(key, _)| key == "page").map_or(1, |(_, page)| page.parse().unwrap());
    let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
    assert_eq!(authorization, "Bearer token-of-the-forge");
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (path, is_github) = match path.strip_prefix("/api/v3/repos/team/app/") {
        Some(path) => (path.to_owned(), true),
        None => (path.strip_prefix("/api/v1/repos/team/app/").unwrap().to_owned(), false),
    };
    forge.asked.lock().unwrap().push(format!("{method} {path}"));
    let other =
        json!({"number": 8, "state": "open", "head": {"sha": "ffff000000000000000000000000000000000000"}});
    let pull = json!({"number": 7, "state": "open", "head": {"sha": format!("0a1b2c3d{}", "0".repeat(32))}});
    let mut comments = forge.comments.lock().unwrap();
    match (method.as_str(), path.as_str(), is_github) {
        // Gitea gives as many as it is set to, whatever is asked for; and for a commit the merged ones alone.
        ("GET", "pulls", false) => Json(match page {
            1 => json!([other]),
            2 => json!([pull]),
            _ => json!([]),
        })
        .into_response(),
        ("GET", "commits/0a1b2c3d/pulls", true) => Json(json!([pull])).into_response(),
        ("GET", "issues/7/comments", _) => Json(comments.clone()).into_response(),
        ("POST", "issues/7/comments", _) => {
            let made = json!({"id": 100 + comments.len(), "body": body["body"]});
            comments.push(made.clone());
            (StatusCode::CREATED, Json(made)).into_response()
        }
        ("PATCH", path, _) => {
            let id: i64 = path.strip_prefix("issues/comments/").unwrap().parse().unwrap();
            let known = comments.iter_mut().find(|comment| comment["id"] == id);
            known.map_or(StatusCode::NOT_FOUND.into_response(), |known| {
                known["body"] = body["body"].clone();
                Json(known.clone()).into_response()
            })
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Fails in a commit of the forge's repository.
async fn report_commit(app: &TestApp, url: &str, (slug, task, commit): (&str, &str, &str)) {
    let mut body = failed(slug);
    body["repository"] = json!(format!("{url}/team/app.git"));
    (body["commit"], body["task"]) = (json!(commit), json!(task));
    assert_eq!(app.post(&body, &[]).await.status, 200);
    all_told(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_has_one_comment_that_is_kept_up_to_date() {
    for kind in ["gitea", "github"] {
        let stranger = json!({"id": 1, "body": "<!-- regreen:pull-request:00000000000000000000000000000000 --> me first"});
        let known = Arc::new(Forge { comments: Mutex::new(vec![stranger.clone()]), ..Forge::default() });
        let router = axum::Router::new().fallback(forge).with_state(Arc::clone(&known));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let table = format!(
            "[[notify]]\nname = \"forge\"\nchannel = \"{kind}\"\nurl = \"{url}\"\ntoken = \"token-of-the-forge\"\n\
             on = [\"new\", \"known\"]\nrepositories = [\"team/*\"]\n"
        );
        let app = Setup::whole().await.file(&table).start().await;
        report_commit(&app, &url, ("dns", "build", "0a1b2c3d")).await;
        report_commit(&app, &url, ("oom", "test", "0a1b2c3d")).await;
        report_commit(&app, &url, ("dns", "build", "ffffffffff")).await;
        let comments = known.comments.lock().unwrap().clone();
        assert_eq!(comments[0], stranger);
        assert_eq!(comments.len(), 2, "{comments:#?}");
        let body = comments[1]["body"].as_str().unwrap();
        assert!(body.contains("; build)") && body.contains("; test)") && body.contains("/issues/"), "{body}");
        assert!(body.contains("for commit `0a1b2c3d`") && !body.contains("token-of-the-forge"), "{body}");
        insta::assert_snapshot!(format!("pull-request-{kind}"), shown(body));
        // Somebody removes it.
        known.comments.lock().unwrap().pop();
        report_commit(&app, &url, ("oom", "test", "0a1b2c3d")).await;
        assert_eq!(known.comments.lock().unwrap().len(), 2);
        app.stop().await;
        server.abort();
    }
}

/// The comment without what differs from run to run.
fn shown(body: &str) -> String {
    let volatile = regex::Regex::new(r"http://127\.0\.0\.1:\d+|pull-request:[0-9a-f]{32}").unwrap();
    volatile.replace_all(body, "…").into_owned()
}
