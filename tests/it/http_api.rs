//! The HTTP edge: what callers get, and how errors read.

use crate::support::replica::Replica;
use crate::support::{Setup, TestApp};
use regreen::demo::samples::sample;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_get_problem_details() {
    let app = Setup::bare().await.set("REGREEN_BODY_LIMIT", "2048").start().await;
    let post =
        |body: &'static str| TestApp::read(app.http.post(format!("{}/report-failure", app.base)).body(body));
    let malformed = post("{").await;
    assert_eq!(malformed.status, 400);
    assert_eq!(malformed.headers["content-type"], "application/problem+json");
    let wrong = post(r#"{"namespace": "UPPER", "pod_name": 3, "new_field": true}"#).await;
    assert_eq!(
        (wrong.status, wrong.body["errors"][0]["field"].as_str(), wrong.body["errors"][1]["field"].as_str()),
        (422, Some("namespace"), Some("pod_name"))
    );
    let large =
        TestApp::read(app.http.post(format!("{}/report-failure", app.base)).body("x".repeat(4_000))).await;
    assert_eq!(
        (large.status, large.headers["content-type"].to_str().unwrap()),
        (413, "application/problem+json")
    );
    assert_eq!(app.get("/api/reports/nonsense").await.status, 404);
    assert_eq!(app.get("/api/reports?limit=0").await.status, 422);
    assert_eq!(app.get("/nowhere").await.body["status"], 404);
    assert_eq!(app.get("/report-failure").await.status, 405);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_cannot_hold_is_the_callers_mistake() {
    let app = Setup::bare().await.start().await;
    for path in ["/api/keys/a%00b", "/api/mcp-servers/%00"] {
        let answer = TestApp::read(app.http.delete(format!("{}{path}", app.base))).await;
        assert_eq!(answer.status, 422, "{path}: {answer:?}");
        assert_eq!(answer.body["detail"], "the path has a NUL character (%00)", "{path}");
    }
    assert_eq!(app.get("/api/audit?actor=%00").await.status, 422);
    assert_eq!(app.get("/api/keys/%2500").await.status, 405, "this is no NUL");
    for path in ["/api/audit", "/api/conversations", "/api/audit/export"] {
        for field in ["since", "until"] {
            for time in ["-200000-01-01T00:00:00Z", "-4713-11-23T00:00:00Z"] {
                let answer = app.get(&format!("{path}?{field}={time}")).await;
                assert_eq!(answer.status, 422, "{path} {field}: {answer:?}");
                assert!(answer.body["detail"].as_str().unwrap().contains("is too long ago"), "{answer:?}");
            }
            for time in ["-4711-01-01T00:00:00Z", "2026-11-01T00:00:00Z", "%2B262142-12-31T23:59:59Z"] {
                let answer = TestApp::read(app.http.get(format!("{}{path}?{field}={time}", app.base))).await;
                assert_eq!(answer.status, 200, "{path} {field} {time}: {answer:?}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measurements_at_the_same_time_miss_nothing() {
    let setup = Setup::whole().await;
    let replica = Replica::serve(&setup).ready().await;
    let scrapes = (0..32).map(|_| async {
        let http = reqwest::Client::new();
        for _ in 0..50 {
            let scraped = http.get(format!("{}/metrics", replica.base)).send().await.unwrap();
            let text = scraped.text().await.unwrap();
            assert_eq!(text.matches("regreen_mcp_server_up{").count(), 2, "{text}");
        }
    });
    futures::future::join_all(scrapes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_report() {
    let app = Setup::whole().await.start().await;
    let pod = sample("go-vet").unwrap().pod;
    let body = json!({"namespace": "ci", "pod_name": pod});
    let key = [("idempotency-key", "run-1")];
    let (one, two) = tokio::join!(app.post(&body, &key), app.post(&body, &key));
    assert_eq!((one.status, two.status), (200, 200), "{one:?} {two:?}");
    assert_eq!(one.body["report_id"], two.body["report_id"]);
    assert_eq!(app.issues().len(), 1);
    let other = app.post(&json!({"namespace": "ci", "pod_name": "other"}), &key).await;
    assert_eq!((other.status, &other.body["report_id"]), (409, &one.body["report_id"]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_do_not_wait_get_the_place_to_look() {
    let app = Setup::whole().await.start().await;
    let body = json!({"namespace": "ci", "pod_name": sample("oom").unwrap().pod});
    let answer = app.post(&body, &[("prefer", "respond-async")]).await;
    assert_eq!((answer.status, answer.body["status"].as_str()), (202, Some("accepted")));
    let place = answer.headers["location"].to_str().unwrap().to_owned();
    let done = crate::support::eventually("the report is done", async || {
        let report = app.get(&place).await.body;
        (report["status"] == "done").then_some(report)
    })
    .await;
    assert!(done["evidence"].as_array().unwrap().len() >= 3, "{done}");
    let text = app.get(&format!("{place}/evidence/E1")).await;
    assert!(text.body.as_str().unwrap().lines().count() > 15_000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_outlasts_its_limit_becomes_a_202() {
    let app = Setup::bare()
        .await
        .set("MCP_OPENSHIFT_URL", "http://127.0.0.1:9/sse")
        .set("REGREEN_WAIT", "50ms")
        .start()
        .await;
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "p"}), &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_which_dependency_is_away() {
    let app = Setup::bare().await.set("MCP_OPENSHIFT_URL", "http://127.0.0.1:9/sse").start().await;
    let health = app.get("/api/health").await;
    assert_eq!((health.status, health.body["status"].as_str()), (200, Some("degraded")));
    assert_eq!(health.body["mcp_servers"][0]["name"], "openshift");
    assert!(health.body["mcp_servers"][0]["last_error"].is_string(), "{}", health.body);
    assert_eq!(app.get("/health/live").await.status, 200);
    assert!(app.get("/openapi.json").await.body["paths"]["/report-failure"].is_object());
    assert!(app.get("/docs/").await.body.as_str().unwrap().contains("swagger"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_a_503() {
    let app = Setup::bare().await.start().await;
    let name = app.database.rsplit_once('/').unwrap().1.to_owned();
    let admin = crate::support::pool(&crate::support::database::server_url()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop database {name} with (force)")))
        .execute(&admin)
        .await
        .unwrap();
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "p"}), &[]).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{answer:?}");
    let ready = app.get("/health/ready").await;
    assert_eq!((ready.status, ready.body["status"].as_str()), (503, Some("unavailable")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_its_fields_is_refused_in_words() {
    let app = Setup::bare().await.start().await;
    let rules = regreen::server::access().into_iter();
    let routes = rules.filter(|rule| rule.method == "POST" && !rule.path.contains('{'));
    let paths: Vec<String> = routes.map(|rule| rule.path).collect();
    assert!(paths.iter().any(|path| path == "/keys") && paths.len() > 10, "{paths:?}");
    for path in paths {
        let sent = app.http.post(format!("{}{path}", app.base)).form(&[("unknown", "x")]);
        let status = sent.send().await.unwrap().status();
        assert!(!status.is_server_error(), "{path}: {status}");
    }
    app.stop().await;
}
