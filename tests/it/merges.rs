//! People merge and split incidents, and the next report is placed as they taught.

use crate::support::{Answer, Setup, TestApp, eventually, every};
use regreen::db::merges::IncidentMerge;
use regreen::domain::Caller;
use regreen::triage::{self, MergeError};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ALPHA: &str = "begin\nfatal: the pump alpha has no pressure\nexit status 1\n";
const BETA: &str = "begin\npanic: the valve beta is stuck\nexit status 1\n";

/// Reports a failure of the pod; returns its incident.
async fn report(app: &TestApp, pod: &str, log: &str) -> String {
    let told = app.post(&json!({"namespace": "ci", "pod_name": pod, "log": log}), &[]).await;
    assert_eq!(told.status, 200, "{}", told.body);
    let report = app.get(&format!("/api/reports/{}", told.body["report_id"].as_str().unwrap())).await.body;
    report["incident_id"].as_str().unwrap().to_owned()
}

async fn merge(app: &TestApp, from: &str, into: &str) -> Answer {
    app.send(&format!("/api/incidents/{from}/merge"), &json!({"into": into})).await
}

async fn split(app: &TestApp, from: &str, reports: &[Value]) -> Answer {
    app.send(&format!("/api/incidents/{from}/split"), &json!({"reports": reports})).await
}

async fn get(app: &TestApp, incident: &str) -> Value {
    app.get(&format!("/api/incidents/{incident}")).await.body
}

/// Ids of an incident's reports, the latest first.
async fn reports(app: &TestApp, incident: &str) -> Vec<Value> {
    let shown = get(app, incident).await;
    shown["reports"].as_array().unwrap().iter().map(|report| report["id"].clone()).collect()
}

/// Ids and occurrences of the incidents that are listed.
async fn listed(app: &TestApp) -> Vec<(String, u64)> {
    let list = app.get("/api/incidents").await.body["incidents"].clone();
    let of = |one: &Value| (one["id"].as_str().unwrap().to_owned(), one["occurrences"].as_u64().unwrap());
    let mut all: Vec<_> = list.as_array().unwrap().iter().map(of).collect();
    all.sort();
    all
}

async fn done(app: &TestApp) {
    eventually("all reports are over", async || {
        let reports = app.get("/api/reports?limit=200").await.body["reports"].clone();
        every(reports.as_array().unwrap(), |report| report["status"] == "done").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_incidents_are_one_and_the_next_report_of_either_is_counted_there() {
    let app = Setup::whole().await.start().await.read_up().await;
    let alpha = report(&app, "one-pod", ALPHA).await;
    let beta = report(&app, "two-pod", BETA).await;
    let said = json!({"verdict": "note", "author": "bob", "fix": "Ask the wolpertinger."});
    assert_eq!(app.send(&format!("/api/incidents/{beta}/resolution"), &said).await.status, 201);
    let merged = merge(&app, &beta, &alpha).await;
    assert_eq!((merged.status, &merged.body["id"]), (200, &json!(alpha)), "{}", merged.body);
    assert_eq!(merged.body["merged_issue"], "Issue 2 says where it goes on.");
    assert_eq!(listed(&app).await, [(alpha.clone(), 2)]);
    let gone = get(&app, &beta).await;
    assert_eq!(
        (&gone["merged_into"], &gone["status"], &gone["occurrences"]),
        (&json!(alpha), &json!("resolved"), &json!(0)),
    );
    assert_eq!((reports(&app, &alpha).await.len(), reports(&app, &beta).await.len()), (2, 0));
    // Its issue says where it goes on; the other is as it was.
    let issues = app.issues();
    assert_eq!((&issues[0]["comments"], &issues[1]["comments"]), (&json!(0), &json!(1)));
    // What was said of either is found once, at the one that goes on.
    let hits = app.search("wolpertinger", "&kind=incident").await;
    assert_eq!((hits.len(), &hits[0]["incident_id"]), (1, &json!(alpha)), "{hits:?}");
    let title = gone["title"].as_str().unwrap();
    let hits = app.search(title, "&kind=incident").await;
    assert!(every(&hits, |hit| hit["incident_id"] == json!(alpha)), "{hits:?}");
    for (pod, log) in [("two-pod", BETA), ("one-pod", ALPHA)] {
        assert_eq!(report(&app, pod, log).await, alpha);
    }
    assert_eq!((listed(&app).await, app.issues().len()), (vec![(alpha.clone(), 4)], 2));
    let audit = app.get("/api/audit?action=incident.merge").await.body.to_string();
    assert!(audit.contains(&beta) && audit.contains(&format!("into {alpha}, with 1 reports")), "{audit}");
    // After its issue was closed too, both come back as one.
    let close = json!({"verdict": "confirmed", "author": "alice"});
    app.send(&format!("/api/incidents/{alpha}/resolution"), &close).await;
    let back = report(&app, "two-pod", BETA).await;
    assert_eq!(get(&app, &back).await["previous_id"], json!(alpha));
    assert_eq!(report(&app, "one-pod", ALPHA).await, back);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_reports_get_an_incident_and_an_issue_and_so_do_those_like_them() {
    let app = Setup::whole().await.start().await;
    let alpha = report(&app, "one-pod", ALPHA).await;
    let beta = report(&app, "two-pod", BETA).await;
    let moved = reports(&app, &beta).await;
    merge(&app, &beta, &alpha).await;
    let new = split(&app, &alpha, &moved).await;
    assert_eq!((new.status, &new.body["split_from"]), (201, &json!(alpha)), "{}", new.body);
    let new = new.body["id"].as_str().unwrap().to_owned();
    done(&app).await;
    assert_eq!(reports(&app, &new).await, moved);
    let shown = get(&app, &new).await;
    assert!(shown["diagnosis"]["cause"].is_string() && shown["issue_url"].is_string(), "{shown}");
    assert_eq!(app.issues().len(), 3);
    assert_eq!(report(&app, "two-pod", BETA).await, new);
    assert_eq!(report(&app, "one-pod", ALPHA).await, alpha);
    let mut wanted = vec![(alpha.clone(), 2), (new.clone(), 2)];
    wanted.sort();
    assert_eq!(listed(&app).await, wanted);
    let audit = app.get("/api/audit?action=incident.split").await.body.to_string();
    assert!(audit.contains(&format!("1 reports into {new}")), "{audit}");
    // And together again.
    assert_eq!(merge(&app, &alpha, &new).await.status, 200);
    assert_eq!(report(&app, "one-pod", ALPHA).await, new);
    assert_eq!(listed(&app).await, [(new, 5)]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_one_fingerprint_are_split_by_their_lines_or_workloads() {
    let app = Setup::bare().await.start().await;
    let log =
        |more: &str| format!("begin\n{more}ModuleNotFoundError: No module named 'yaml'\nexit status 1\n");
    let (plain, other) = (log(""), log("error: the fuse of rack 7 is blown\n"));
    let alpha = report(&app, "one-pod", &plain).await;
    for (pod, log) in [("one-pod", &plain), ("two-pod", &plain), ("one-pod", &other)] {
        assert_eq!(report(&app, pod, log).await, alpha, "it is one cause at first");
    }
    let all = reports(&app, &alpha).await;
    let alike = split(&app, &alpha, &all[2..3]).await;
    assert_eq!(alike.status, 409, "{}", alike.body);
    assert!(alike.body["detail"].as_str().unwrap().contains("nothing tells report"), "{}", alike.body);
    let mut new = Vec::new();
    for at in 0..2 {
        let told = split(&app, &alpha, &all[at..=at]).await;
        assert_eq!(told.status, 201, "{}", told.body);
        new.push(told.body["id"].as_str().unwrap().to_owned());
        done(&app).await;
    }
    assert_eq!(report(&app, "one-pod", &log("error: the fuse of rack 12 is blown\n")).await, new[0]);
    assert_eq!(report(&app, "two-pod", &plain).await, new[1]);
    assert_eq!(report(&app, "one-pod", &plain).await, alpha);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_without_an_issue_takes_over_that_of_the_merged_one() {
    let app = Setup::whole().await.start().await;
    let alpha = report(&app, "one-pod", ALPHA).await;
    let beta = report(&app, "two-pod", BETA).await;
    let pool = app.pool().await;
    let forget =
        "update incidents set issue_url = null, issue_number = null, diagnosis = null where id = $1::uuid";
    sqlx::query(forget).bind(&alpha).execute(&pool).await.unwrap();
    let (issue, cause) =
        (get(&app, &beta).await["issue_url"].clone(), get(&app, &beta).await["diagnosis"].clone());
    let merged = merge(&app, &beta, &alpha).await;
    assert_eq!((&merged.body["issue_url"], &merged.body["diagnosis"]), (&issue, &cause), "{}", merged.body);
    assert_eq!(report(&app, "one-pod", ALPHA).await, alpha);
    assert_eq!(app.issues().len(), 2, "nothing was filed anew");
    // It is found closed by the mark that it bears.
    let close = json!({"owner": "platform", "repo": "failures", "issue_number": 2, "state": "closed"});
    app.call(("gitea", "edit_issue"), close, CancellationToken::new()).await.unwrap();
    let old = "update incidents set commented_at = now() - interval '2 minutes', issue_checked_at = null";
    sqlx::raw_sql(old).execute(&pool).await.unwrap();
    let back = report(&app, "one-pod", ALPHA).await;
    assert_eq!(get(&app, &back).await["previous_id"], json!(alpha));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_merged_or_split_is_refused_and_nothing_changes() {
    let app = Setup::bare().await.start().await;
    let alpha = report(&app, "one-pod", ALPHA).await;
    let beta = report(&app, "two-pod", BETA).await;
    let body = json!({"namespace": "prod", "pod_name": "one-pod", "log": ALPHA});
    assert_eq!(app.post(&body, &[]).await.status, 200);
    let list = app.get("/api/incidents?namespace=prod").await.body;
    let foreign = list["incidents"][0]["id"].as_str().unwrap().to_owned();
    let before = listed(&app).await;
    let nobody = Uuid::nil().to_string();
    let (leader, of_beta) = (reports(&app, &alpha).await, reports(&app, &beta).await);
    let merge_body = |into: &str| ("merge", json!({ "into": into }));
    for (id, (what, body), status, word) in [
        (&alpha, merge_body(&alpha), 409, "itself"),
        (&alpha, merge_body(&foreign), 409, "two namespaces"),
        (&alpha, merge_body(&nobody), 422, "into"),
        (&alpha, merge_body("x"), 422, "into"),
        (&nobody, merge_body(&alpha), 404, "incident"),
        (&alpha, ("split", json!({"reports": []})), 422, "reports"),
        (&alpha, ("split", json!({"reports": ["x"]})), 422, "reports"),
        (&alpha, ("split", json!({"reports": of_beta})), 422, "reports"),
        (&alpha, ("split", json!({"reports": leader})), 409, "stays"),
        (&nobody, ("split", json!({"reports": leader})), 404, "incident"),
    ] {
        let told = app.send(&format!("/api/incidents/{id}/{what}"), &body).await;
        assert_eq!(told.status, status, "{what} {body}: {}", told.body);
        assert!(told.body["detail"].as_str().unwrap().contains(word), "{what} {body}: {}", told.body);
    }
    let pool = app.pool().await;
    let mark = |sql: &'static str| sqlx::query(sql).bind(&beta).execute(&pool);
    mark("update reports set status = 'waiting' where incident_id = $1::uuid").await.unwrap();
    let busy = merge(&app, &beta, &alpha).await;
    assert!(
        busy.status == 409 && busy.body["detail"].as_str().unwrap().contains("investigated"),
        "{}",
        busy.body
    );
    mark("update reports set status = 'done' where incident_id = $1::uuid").await.unwrap();
    mark("update incidents set status = 'resolved' where id = $1::uuid").await.unwrap();
    for (from, into) in [(&alpha, &beta), (&beta, &alpha)] {
        let told = merge(&app, from, into).await;
        assert!(
            told.status == 409 && told.body["detail"].as_str().unwrap().contains("resolved"),
            "{}",
            told.body
        );
    }
    assert_eq!(listed(&app).await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_bound_to_namespaces_merges_and_splits_there_alone() {
    let app = Setup::bare().await.start().await;
    let (alpha, beta) = (report(&app, "one-pod", ALPHA).await, report(&app, "two-pod", BETA).await);
    let (alpha, beta): (Uuid, Uuid) = (alpha.parse().unwrap(), beta.parse().unwrap());
    let bound =
        |namespace: &str| Caller { namespaces: Some(Arc::from([namespace.to_owned()])), ..Caller::anyone() };
    let merge = async |namespace: &str| {
        let merge = IncidentMerge { from: beta, into: alpha };
        triage::merge(app.app(), &bound(namespace), merge).await
    };
    assert!(matches!(merge("prod").await, Err(MergeError::Missing("incident"))));
    let split = triage::split(app.app(), &bound("prod"), alpha, &[beta]).await;
    assert!(matches!(split, Err(MergeError::Missing("incident"))), "{split:?}");
    // A report of another namespace in it is not theirs to move.
    let pool = app.pool().await;
    let of = async |namespace: &str| {
        let sql = "update reports set namespace = $1 where incident_id = $2";
        sqlx::query(sql).bind(namespace).bind(beta).execute(&pool).await.unwrap();
    };
    of("prod").await;
    assert!(matches!(merge("ci").await, Err(MergeError::Forbidden(_))));
    of("ci").await;
    assert_eq!(merge("ci").await.unwrap().incident.occurrences, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_merges_and_splits_without_scripts() {
    let app = Setup::bare().await.start().await;
    let alpha = report(&app, "one-pod", ALPHA).await;
    let beta = report(&app, "two-pod", BETA).await;
    let page = async |id: &str| {
        let page = app.http.get(format!("{}/incidents/{id}", app.base)).send().await.unwrap();
        (page.status().as_u16(), page.text().await.unwrap())
    };
    let form = async |path: String, fields: &[(&str, &str)]| {
        let request = app.http.request(Method::POST, format!("{}{path}", app.base));
        let sent = request.form(fields).send().await.unwrap();
        (sent.status().as_u16(), sent.url().path().to_owned())
    };
    let (status, shown) = page(&beta).await;
    assert!(status == 200 && shown.contains(&format!("<option value=\"{alpha}\"")), "{shown}");
    let moved = reports(&app, &beta).await[0].as_str().unwrap().to_owned();
    let sent = form(format!("/incidents/{beta}/merge"), &[("into", &alpha)]).await;
    assert_eq!(sent, (200, format!("/incidents/{alpha}")));
    let (_, shown) = page(&beta).await;
    assert!(
        shown.contains("This incident was merged") && shown.contains(&format!("/incidents/{alpha}")),
        "{shown}"
    );
    let (_, shown) = page(&alpha).await;
    assert!(
        shown.contains("Merged into this one") && shown.contains(&format!("value=\"{moved}\"")),
        "{shown}"
    );
    let (status, path) = form(format!("/incidents/{alpha}/split"), &[("reports", &moved)]).await;
    assert!(status == 200 && path != format!("/incidents/{alpha}"), "{path}");
    let (_, shown) = page(path.trim_start_matches("/incidents/")).await;
    assert!(shown.contains("Split from"), "{shown}");
    assert_eq!(form(format!("/incidents/{alpha}/split"), &[]).await.0, 422);
    assert_eq!(form(format!("/incidents/{alpha}/merge"), &[("into", &alpha)]).await.0, 409);
    // What was merged is opened again by splitting.
    let reopened = app.send(&format!("/api/incidents/{beta}/reopen"), &json!({})).await;
    assert!(
        reopened.status == 409 && reopened.body["detail"].as_str().unwrap().contains(&alpha),
        "{}",
        reopened.body
    );
    done(&app).await;
    app.stop().await;
}
