//! The log of events: what it says of reports and incidents, who is woken by it, what goes with what, and what an older version keeps.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{PATIENCE, Setup, TestApp, eventually};
use futures::StreamExt as _;
use serde_json::json;
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

async fn kinds(pool: &PgPool, stream: &str) -> Vec<(i32, String)> {
    sqlx::query_as("select seq, kind from events where stream = $1::uuid order by seq")
        .bind(stream)
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn count(pool: &PgPool, of: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {of}")))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn reported(app: &TestApp) -> (String, String) {
    let answer = app.report("go-vet").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let report = answer.body["report_id"].as_str().unwrap().to_owned();
    let incident = app.get(&format!("/api/reports/{report}")).await.body["incident_id"].clone();
    (report, incident.as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_and_its_incident_tell_each_of_their_steps_once_and_take_their_events_along() {
    let app = Setup::whole().await.start().await;
    let (report, incident) = reported(&app).await;
    let pool = app.pool().await;
    let told = kinds(&pool, &report).await;
    let (places, kinds_told): (Vec<i32>, Vec<&str>) =
        told.iter().map(|(seq, kind)| (*seq, kind.as_str())).unzip();
    assert_eq!(places, (1..=i32::try_from(told.len()).unwrap()).collect::<Vec<_>>());
    let steps = kinds_told.iter().filter(|kind| **kind == "report.step").count();
    assert_eq!(
        (kinds_told[..2].to_vec(), steps),
        (vec!["report.queued", "report.running"], 5),
        "{kinds_told:?}"
    );
    assert_eq!(kinds_told.last(), Some(&"report.done"));
    assert_eq!(kinds(&pool, &incident).await, [(1, "incident.open".to_owned())]);
    let resolved = app.send(&format!("/api/incidents/{incident}/resolve"), &json!({})).await;
    assert_eq!(resolved.status, 200, "{:?}", resolved.body);
    assert_eq!(kinds(&pool, &incident).await[1], (2, "incident.resolved".to_owned()));
    // The resolution is indexed in the background: that and a deletion can lock each other out.
    let app = app.read_up().await;
    sqlx::query("delete from reports").execute(&pool).await.unwrap();
    sqlx::query("delete from incidents").execute(&pool).await.unwrap();
    assert_eq!(count(&pool, "events").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hear_of_a_change_without_asking() {
    let app = Setup::whole().await.start().await.read_up().await;
    let mut pages = app.http.get(format!("{}/live", app.base)).send().await.unwrap().bytes_stream();
    let mut told = async || -> String {
        let piece = timeout(PATIENCE, pages.next()).await.expect("a change in time").unwrap().unwrap();
        String::from_utf8(piece.to_vec()).unwrap()
    };
    // At once: what happened before is read now.
    assert_eq!(told().await, "event: changed\ndata: now\n\n");
    app.report("go-vet").await;
    assert_eq!(told().await, "event: changed\ndata: now\n\n");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_appends_to_one_stream_at_a_time_have_places_without_gaps() {
    let app = Setup::bare().await.start().await;
    let pool = app.pool().await;
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into reports (id, namespace, pod_name, failure, created_at, caller, request_hash, status)
         values ($1, 'ci', 'p', '{}', now(), 'user', '', 'done')",
    )
    .bind(id)
    .execute(&pool)
    .await
    .unwrap();
    let step = async |number: usize| {
        sqlx::query(
            "insert into steps (report_id, name, detail, at, duration_ms) values ($1, $2, '', now(), 0)",
        )
        .bind(id)
        .bind(format!("step-{number}"))
        .execute(&pool)
        .await
        .unwrap();
    };
    futures::future::join_all((0..20).map(step)).await;
    let places: Vec<i32> = kinds(&pool, &id.to_string()).await.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(places, (1..=21).collect::<Vec<_>>());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_version_before_keeps_of_an_answer_is_found_here_and_goes_with_its_run() {
    let model = FakeModel::start(vec![Reply::Text("Nothing is known.")]).await;
    let app = Setup::bare().await.model(&model).start().await;
    let answer = app.send("/api/chat", &json!({"message": "what is it?"})).await;
    let (run, pool) = (answer.body["run"].as_str().unwrap().to_owned(), app.pool().await);
    eventually("the events are kept", async || {
        (app.app().live.is_empty() && !kinds(&pool, &run).await.is_empty()).then_some(())
    })
    .await;
    let before = kinds(&pool, &run).await;
    sqlx::query("delete from events").execute(&pool).await.unwrap();
    // As it was kept: batches of events with their data as text. One of its kind is not known here.
    let kept = json!([
        {"id": 1, "name": "message.start", "data": json!({"run": run, "turn": 1, "model": "m"}).to_string()},
        {"id": 2, "name": "text.delta", "data": "{\"text\":\"old\"}", "visible_to": "user"},
        {"id": 3, "name": "something.else", "data": "{}"},
        {"id": 4, "name": "failed", "data": json!({"run": run, "detail": "no"}).to_string()}
    ]);
    sqlx::query("insert into turn_events (turn_id, first_id, events) values ($1::uuid, 1, $2)")
        .bind(&run)
        .bind(&kept)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!((count(&pool, "turn_events").await, kinds(&pool, &run).await.len()), (0, 4), "{before:?}");
    let url = format!("{}/api/chat/{run}/events", app.base);
    let mut again = app.events(app.http.get(&url)).await;
    let read: Vec<(i64, String)> =
        again.until("failed").await.into_iter().map(|event| (event.id, event.name)).collect();
    let wanted = [(1, "message.start"), (2, "text.delta"), (4, "failed")];
    assert_eq!(read, wanted.map(|(id, name)| (id, name.to_owned())));
    // Whoever has the end is told nothing more.
    let mut over = app.events(app.http.get(&url).header("last-event-id", "4")).await;
    assert_eq!(over.next().await, None);
    sqlx::query("update runs set pruned_at = now() where turn_id = $1::uuid")
        .bind(&run)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(kinds(&pool, &run).await, []);
    app.stop().await;
}
