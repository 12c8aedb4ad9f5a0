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
pub(super) struct Receiver {
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
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    kept.got.lock().unwrap().push((who, headers, body));
    kept.holds.subscribe().wait_for(|holds| !holds).await.unwrap();
    let answer = kept.answer.lock().unwrap().unwrap_or(StatusCode::OK);
    (answer, [("retry-after", if answer == StatusCode::TOO_MANY_REQUESTS { "300" } else { "0" })])
}

impl Receiver {
    pub(super) async fn start() -> Self {
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
    pub(super) fn table(&self, name: &str, channel: &str, more: &str) -> String {
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

    pub(super) fn messages(&self, who: &str) -> Vec<Value> {
        self.got(who).iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    pub(super) async fn wait_for(&self, who: &str, count: usize) -> Vec<Value> {
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

/// Waits until there is one job that tells a target, a good while from now.
async fn is_put_off(pool: &sqlx::PgPool) {
    eventually("the rest waits for its time", async || {
        let jobs: Vec<(bool, bool)> = sqlx::query_as(
            "select locked_at is null, run_at > now() + interval '30 seconds' from graphile_worker._private_jobs
             where payload ->> 'target' is not null and attempts < max_attempts",
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
        page.contains("refused</span> it answered 404")
            && page.contains("new known<td>")
            && page.contains("0s\n<td>"),
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
    let is_github = path.starts_with("/api/v3/");
    let Some(path) =
        path[7..].strip_prefix("/repos/team/app").map(|path| path.trim_start_matches('/').to_owned())
    else {
        return StatusCode::NOT_FOUND.into_response();
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
        ("GET", "", _) => Json(json!({"full_name": "team/app"})).into_response(),
        ("GET", "commits/bad0bad0/pulls", true) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        ("GET", "commits/bad1bad1/pulls", true) => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        ("GET", "commits/bad2bad2/pulls", true) => {
            (StatusCode::FORBIDDEN, "You have exceeded a secondary rate limit.").into_response()
        }
        ("GET", "commits/bad3bad3/pulls", true) => StatusCode::FORBIDDEN.into_response(),
        ("GET", path, true) if path.starts_with("commits/0a1b2c3d") => Json(json!([pull])).into_response(),
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

/// A service that comments on pull requests of the forge.
struct Commenting {
    forge: Arc<Forge>,
    url: String,
    app: TestApp,
    server: JoinHandle<()>,
}

impl Commenting {
    async fn start(kind: &str, more: &str) -> Self {
        let forge_ = Arc::new(Forge::default());
        let router = axum::Router::new().fallback(forge).with_state(Arc::clone(&forge_));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let table = format!(
            "[[notify]]\nname = \"forge\"\nchannel = \"{kind}\"\nurl = \"{url}\"\ntoken = \"token-of-the-forge\"\n\
             on = [\"new\", \"known\"]\nrepositories = [\"team/*\"]\n{more}\n"
        );
        let app = Setup::whole().await.file(&table).start().await;
        Self { forge: forge_, url, app, server }
    }

    fn comments(&self) -> Vec<Value> {
        self.forge.comments.lock().unwrap().clone()
    }

    /// Fails in a commit of a repository.
    async fn fails(&self, repository: &str, commit: &str, more: Value) {
        let mut body = failed("dns");
        body["repository"] = json!(format!("{}/{repository}", self.url));
        body["commit"] = json!(commit);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(self.app.post(&body, &[]).await.status, 200);
    }

    async fn stop(self) {
        self.app.stop().await;
        self.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_has_one_comment_that_is_kept_up_to_date() {
    for kind in ["gitea", "github"] {
        let stranger = json!({"id": 1, "body": "<!-- regreen:pull-request:00000000000000000000000000000000 --> me first"});
        let commenting = Commenting::start(kind, "").await;
        commenting.forge.comments.lock().unwrap().push(stranger.clone());
        let app = &commenting.app;
        commenting.fails("team/app.git", "0a1b2c3d", json!({"task": "build"})).await;
        all_told(app).await;
        // However the same commit of the same repository is written.
        let oom = failed("oom");
        commenting
            .fails("Team/App", "0A1B2C3D00", json!({"pod_name": oom["pod_name"], "task": "test"}))
            .await;
        all_told(app).await;
        commenting.fails("team/app.git", "ffffffffff", json!({"task": "build"})).await;
        all_told(app).await;
        let comments = commenting.comments();
        assert_eq!(comments[0], stranger);
        assert_eq!(comments.len(), 2, "{comments:#?}");
        let body = comments[1]["body"].as_str().unwrap();
        assert!(body.contains("; build)") && body.contains("; test)") && body.contains("/issues/"), "{body}");
        assert!(body.contains("for commit `0a1b2c3d00`") && !body.contains("token-of-the-forge"), "{body}");
        insta::assert_snapshot!(format!("pull-request-{kind}"), shown(body));
        // Somebody removes it.
        commenting.forge.comments.lock().unwrap().pop();
        commenting.fails("team/app.git", "0a1b2c3d", json!({"task": "test"})).await;
        all_told(app).await;
        assert_eq!(commenting.comments().len(), 2);
        commenting.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_forge_chokes_on_keeps_no_other_from_its_comment() {
    let commenting = Commenting::start("github", "").await;
    for commit in ["bad0bad0", "bad1bad1", "bad2bad2", "bad3bad3", "0a1b2c3d"] {
        commenting.fails("team/app", commit, json!({})).await;
    }
    commenting.fails("team/gone", "0a1b2c3d", json!({})).await;
    let pool = commenting.app.pool().await;
    let told = eventually("each has its outcome", async || {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select left(failure ->> 'repository', -1) || left(failure ->> 'commit', 4),
                    coalesce(refused, case when sent_at is not null then 'told' when tries > 0 then 'later' end)
             from notifications join reports on reports.id = report_id
             where refused is not null or sent_at is not null or tries > 0 order by notifications.created_at",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        (rows.len() == 6).then_some(rows)
    })
    .await;
    let outcomes: Vec<&str> = told.iter().map(|(_, outcome)| outcome.as_str()).collect();
    assert_eq!(outcomes[..5], ["later", "told", "later", "it answered 403 Forbidden", "told"], "{told:?}");
    assert!(outcomes[5].contains("404") && outcomes[5].contains("the token may"), "{told:?}");
    assert_eq!(commenting.comments().len(), 1);
    commenting.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_tells_of_no_namespace_that_its_target_does_not_want() {
    let commenting = Commenting::start("gitea", "namespaces = [\"ci\"]").await;
    let hidden =
        json!({"namespace": "vault", "log": "step\nFATAL: the vault of delta broke\n", "task": "hidden"});
    commenting.fails("team/app", "0a1b2c3d", hidden).await;
    commenting.fails("team/app", "0a1b2c3d", json!({"task": "build"})).await;
    all_told(&commenting.app).await;
    let comments = commenting.comments();
    let body = comments[0]["body"].as_str().unwrap();
    assert!(body.contains("; build)") && !body.contains("hidden") && !body.contains("vault"), "{body}");
    commenting.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_report_of_a_burst_is_told_of() {
    use futures::StreamExt as _;
    let receiver = Receiver::start().await;
    let more = format!("secret = \"{SECRET}\"\nevery = \"0s\"\non = [\"new\", \"known\"]");
    let app = Setup::whole().await.file(&receiver.table("team", "webhook", &more)).start().await;
    let body = failed("dns");
    let posts = (0..40).map(|_| app.post(&body, &[]));
    let answers: Vec<_> = futures::stream::iter(posts).buffer_unordered(40).collect().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    all_told(&app).await;
    let told: Vec<String> = receiver.messages("team").iter().flat_map(told).collect();
    assert_eq!(told.len(), 40);
    assert_eq!(told.iter().filter(|told| *told == "new ci").count(), 1, "{told:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_pause_gets_it_whatever_happens_meanwhile() {
    let receiver = Receiver::start().await;
    let table = receiver.table("team", "slack", "every = \"0s\"\non = [\"new\", \"known\"]");
    let app = Setup::whole().await.file(&table).start().await;
    receiver.answers(StatusCode::TOO_MANY_REQUESTS);
    app.report("dns").await;
    receiver.wait_for("team", 1).await;
    let pool = app.pool().await;
    is_put_off(&pool).await;
    for _ in 0..3 {
        app.report("dns").await;
    }
    is_put_off(&pool).await;
    assert_eq!(receiver.messages("team").len(), 1, "it asked for five minutes");
    // They are over; and the job got lost.
    receiver.answers(StatusCode::OK);
    for statement in
        ["update notifications set not_before = now()", "delete from graphile_worker._private_jobs"]
    {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let messages = receiver.wait_for("team", 2).await;
    assert!(messages[1]["text"].as_str().unwrap().starts_with("4 failures: 1 new, 3 known"), "{messages:?}");
    app.stop().await;
}

/// The comment without what differs from run to run.
fn shown(body: &str) -> String {
    let volatile = regex::Regex::new(r"http://127\.0\.0\.1:\d+|pull-request:[0-9a-f]{32}").unwrap();
    volatile.replace_all(body, "…").into_owned()
}
