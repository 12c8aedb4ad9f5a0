//! What people do to reports and incidents after the fact: try again, investigate again, resolve, reopen, many at once.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, eventually};
use serde_json::{Value, json};

async fn first_incident(app: &TestApp) -> Value {
    app.get("/api/incidents").await.body["incidents"][0].clone()
}

/// A report is over.
async fn ended(app: &TestApp, id: &str) -> Value {
    let url = format!("/api/reports/{id}");
    eventually("the report ends", async || {
        let report = app.get(&url).await.body;
        ["done", "failed"].contains(&report["status"].as_str()?).then_some(report)
    })
    .await
}

async fn reported(app: &TestApp, more: Value) -> String {
    let mut body = json!({"namespace": "ci", "pod_name": "build-pod"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = app.post(&body, &[("prefer", "respond-async")]).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let id = answer.body["report_id"].as_str().unwrap().to_owned();
    ended(app, &id).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_report_is_tried_again_from_what_was_collected() {
    let app = Setup::bare().await.start().await;
    // There is no cluster, and no log came: it fails, and again.
    let failed = reported(&app, json!({})).await;
    let report = ended(&app, &failed).await;
    assert_eq!((&report["status"], &report["attempts"]), (&json!("failed"), &json!(1)), "{report}");
    let retry = |id: &str| format!("/api/reports/{id}/retry");
    let again = app.send(&retry(&failed), &Value::Null).await;
    assert_eq!((again.status, &again.body["status"]), (202, &json!("queued")), "{:?}", again.body);
    assert_eq!(ended(&app, &failed).await["attempts"], 1, "it begins anew");
    // One whose log is there goes on from it, once whatever was away is back.
    let good = reported(&app, json!({"log": "error: the part is broken\n"})).await;
    let refused = app.send(&retry(&good), &Value::Null).await;
    assert_eq!(refused.status, 409, "{:?}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("did not fail"), "{:?}", refused.body);
    sqlx::query("update reports set status = 'failed', result = null, error = 'the model was away' where id = $1::uuid")
        .bind(&good)
        .execute(&app.pool().await)
        .await
        .unwrap();
    assert_eq!(app.get("/api/reports?status=failed").await.body["reports"].as_array().unwrap().len(), 2);
    assert_eq!(app.send(&retry(&good), &Value::Null).await.status, 202);
    let report = ended(&app, &good).await;
    assert_eq!((&report["status"], &report["error"]), (&json!("done"), &Value::Null), "{report}");
    assert!(report["result"].as_str().unwrap().starts_with("Known cause, seen 1 times"), "{report}");
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["collect", "place", "publish"], "what was done once more is noted once more");
    assert_eq!(first_incident(&app).await["occurrences"], 1, "it is the same report");
    let record = app.get("/api/audit?action=report.retry").await.body;
    assert_eq!(record["entries"].as_array().unwrap().len(), 2, "{record}");
    let nobody = uuid::Uuid::nil();
    assert_eq!(app.send(&retry(&nobody.to_string()), &Value::Null).await.status, 404);
    app.stop().await;
}

fn conclusion(title: &str) -> Reply {
    let claim = json!({"statement": "the part is broken", "evidence": "E1", "first_line": 1, "last_line": 1, "quote": "error: the part is broken"});
    Reply::call(
        "submit_diagnosis",
        json!({"title": title, "cause": "The part is broken.", "class": "code", "confidence": "high", "claims": [claim]}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_investigated_again_and_keeps_its_issue() {
    let model = FakeModel::start(vec![conclusion("The part is broken")]).await;
    let app = Setup::whole().await.model(&model).start().await;
    let report = reported(&app, json!({"log": "error: the part is broken\n"})).await;
    let incident = first_incident(&app).await;
    assert_eq!(incident["title"], "The part is broken");
    let url = format!("/api/incidents/{}", incident["id"].as_str().unwrap());
    // The text that was filed can be had.
    let text = app.get(&format!("{url}/issue")).await.body;
    assert_eq!(text.as_str().map(str::trim), app.issues()[0]["body"].as_str().map(str::trim), "{text}");
    model.push(vec![conclusion("A part that is broken")]);
    let asked = app.send(&format!("{url}/investigate"), &Value::Null).await;
    assert_eq!((asked.status, &asked.body["id"]), (202, &json!(report)), "{:?}", asked.body);
    let again = ended(&app, &report).await;
    assert!(
        again["result"].as_str().unwrap().starts_with("Investigated again; its issue stays as it is: http"),
        "{again}"
    );
    assert_eq!(again["runs"].as_array().unwrap().len(), 2, "both are on record: {again}");
    assert_eq!(
        (app.issues().len(), first_incident(&app).await["title"].clone()),
        (1, json!("A part that is broken"))
    );
    assert_eq!(first_incident(&app).await["occurrences"], 1);
    // The next report of the cause is known, as ever.
    let next = reported(&app, json!({"log": "error: the part is broken\n"})).await;
    assert!(ended(&app, &next).await["result"].as_str().unwrap().starts_with("Known cause, seen 2 times"));
    // When it fails, the conclusion stands, and the report that failed can be tried again.
    model.push(vec![conclusion("Broken: the part")]);
    sqlx::query("update reports set status = 'failed', anew = true where id = $1::uuid")
        .bind(&report)
        .execute(&app.pool().await)
        .await
        .unwrap();
    assert_eq!(first_incident(&app).await["title"], "A part that is broken");
    assert_eq!(app.send(&format!("/api/reports/{report}/retry"), &Value::Null).await.status, 202);
    ended(&app, &report).await;
    assert_eq!(first_incident(&app).await["title"], "Broken: the part");
    // What is resolved is not investigated, nor what was removed.
    assert_eq!(app.send(&format!("{url}/resolve"), &Value::Null).await.status, 200);
    let refused = app.send(&format!("{url}/investigate"), &Value::Null).await;
    assert_eq!(
        (refused.status, refused.body["detail"].as_str().unwrap().contains("reopen it first")),
        (409, true)
    );
    assert_eq!(app.send(&format!("{url}/reopen"), &Value::Null).await.status, 200);
    sqlx::raw_sql("update evidence set pruned_at = now(), text = ''")
        .execute(&app.pool().await)
        .await
        .unwrap();
    let refused = app.send(&format!("{url}/investigate"), &Value::Null).await;
    assert_eq!(
        (refused.status, refused.body["detail"].as_str().unwrap().contains("no longer kept")),
        (409, true)
    );
    assert_eq!(model.refusals(), Vec::<String>::new());
    app.stop().await;
}

/// Many at once; those that are resolved are skipped.
async fn many_at_once(app: &TestApp, ids: [&str; 4]) {
    let many = app.send("/api/incidents/resolve", &json!({"ids": ids})).await;
    assert_eq!(many.status, 200, "{:?}", many.body);
    let counts = ["resolved", "skipped"].map(|name| many.body[name].as_array().unwrap().len());
    assert_eq!(counts, [2, 1], "{:?}", many.body);
    for body in [json!({}), json!({"ids": []}), json!({"ids": ["x"]}), json!({"ids": "x"})] {
        assert_eq!(app.send("/api/incidents/resolve", &body).await.status, 422, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_resolved_and_reopened_and_many_at_once() {
    let app = Setup::bare().await.start().await;
    let log = |what: &str| json!({"log": format!("error: the {what} is broken\n"), "pod_name": format!("{what}-pod"), "pipeline": what});
    for what in ["pump", "valve", "gauge", "pump"] {
        reported(&app, log(what)).await;
    }
    let of = async |query: &str| -> Vec<String> {
        let found = app.get(&format!("/api/incidents?{query}")).await;
        assert_eq!(found.status, 200, "{query}: {:?}", found.body);
        let found = found.body["incidents"].as_array().unwrap().clone();
        found.iter().map(|incident| incident["id"].as_str().unwrap().to_owned()).collect()
    };
    let [pump, valve, gauge] = ["pump", "valve", "gauge"].map(|what| format!("pipeline={what}"));
    let (pump, valve, gauge) =
        (of(&pump).await.remove(0), of(&valve).await.remove(0), of(&gauge).await.remove(0));
    // Sorted and narrowed.
    assert_eq!(of("").await, [pump.as_str(), &gauge, &valve]);
    assert_eq!(of("sort=first_seen").await, [gauge.as_str(), &valve, &pump]);
    assert_eq!(of("sort=occurrences&limit=1").await, [pump.as_str()]);
    assert_eq!(of(&format!("sort=occurrences&before={pump}")).await, [gauge.as_str(), &valve]);
    assert_eq!(of(&format!("sort=first_seen&before={gauge}")).await, [valve.as_str(), &pump]);
    assert_eq!(
        of("since=2099-01-01T00:00:00Z").await.len() + of("until=2020-01-01T00:00:00Z").await.len(),
        0
    );
    assert_eq!(of("since=2020-01-01T00:00:00Z&until=2099-01-01T00:00:00Z").await.len(), 3);
    let wrong = app.get("/api/incidents?sort=colour").await;
    let said = wrong.body["detail"].as_str().unwrap();
    let named = ["last_seen", "first_seen", "occurrences"].iter().all(|name| said.contains(name));
    assert_eq!((wrong.status, named), (422, true), "{said}");

    let act =
        async |id: &str, what: &str| app.send(&format!("/api/incidents/{id}/{what}"), &Value::Null).await;
    let resolved = act(&pump, "resolve").await;
    assert_eq!((resolved.status, &resolved.body["status"]), (200, &json!("resolved")), "{:?}", resolved.body);
    assert_eq!((act(&pump, "resolve").await.status, act(&valve, "reopen").await.status), (409, 409));
    let open = act(&pump, "reopen").await;
    assert_eq!(
        (open.status, &open.body["status"], &open.body["resolved_at"]),
        (200, &json!("open"), &Value::Null)
    );
    // What comes next is counted there.
    reported(&app, log("pump")).await;
    assert_eq!(app.get(&format!("/api/incidents/{pump}")).await.body["occurrences"], 3);
    // Resolved, it stays so when its cause has an incident of its own meanwhile.
    act(&pump, "resolve").await;
    reported(&app, log("pump")).await;
    let refused = act(&pump, "reopen").await;
    let back = of("pipeline=pump&status=open").await.remove(0);
    assert_eq!(
        (refused.status, refused.body["detail"].as_str().unwrap().contains(&back)),
        (409, true),
        "{:?}",
        refused.body
    );
    let said = app.get(&format!("/api/incidents/{pump}")).await.body["resolutions"].clone();
    let verdicts: Vec<&str> =
        said.as_array().unwrap().iter().map(|said| said["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["closed", "reopened", "closed"], "{said}");
    assert_eq!((&said[1]["author"], &said[1]["origin"]), (&json!("user"), &json!("person")));
    many_at_once(&app, [&valve, &gauge, &pump, &gauge]).await;
    let record = app.get("/api/audit?action=incident.reopened").await.body;
    assert_eq!(record["entries"].as_array().unwrap().len(), 1, "{record}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_before_the_second_try_was_there_can_be_tried_again() {
    let pool = crate::support::pool(&crate::support::fresh_database().await).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let at = files.iter().position(|file| file.to_string_lossy().ends_with("_again.sql")).unwrap();
    let apply = async |file: &std::path::Path| {
        let sql = std::fs::read_to_string(file).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    for file in &files[..at] {
        apply(file).await;
    }
    let seeded = "insert into incidents (id, namespace, fingerprint, title, first_seen, last_seen)
         values ('01a1f000-0000-7000-8000-00000000d001', 'ci', 'f', 't', now(), now());
         insert into reports (id, request_hash, namespace, pod_name, failure, status, incident_id, leads, created_at, finished_at, caller)
         values ('01a1f000-0000-7000-8000-00000000d002', 'h', 'ci', 'p', '{}', 'failed', '01a1f000-0000-7000-8000-00000000d001', true,
                 now() - interval '1 day', now(), 'user');
         insert into resolutions (id, incident_id, verdict, author, origin, created_at)
         values ('01a1f000-0000-7000-8000-00000000d003', '01a1f000-0000-7000-8000-00000000d001', 'closed', 'gitea', 'tracker', now())";
    sqlx::raw_sql(seeded).execute(&pool).await.unwrap();
    apply(&files[at]).await;
    let id: uuid::Uuid = "01a1f000-0000-7000-8000-00000000d002".parse().unwrap();
    let mut connection = pool.acquire().await.unwrap();
    assert!(regreen::db::reinvestigate::retry(&mut connection, id, chrono::Utc::now()).await.unwrap());
    let (status, leads): (String, bool) =
        sqlx::query_as("select status, leads from reports").fetch_one(&mut *connection).await.unwrap();
    assert_eq!((status.as_str(), leads), ("queued", false), "it is placed again");
    sqlx::query("update resolutions set verdict = 'reopened'").execute(&mut *connection).await.unwrap();
}
