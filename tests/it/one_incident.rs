//! One failure is one incident, however it is reported; what differs in the cluster stays apart.

use crate::support::lab_cluster::{self, LabPod};
use crate::support::pipelines::Place;
use crate::support::{Setup, TestApp, eventually, real_servers};
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("../../examples/report-failure.sh");
const CAUSE: &str = "compiling\nerror: cannot open web.lock";

/// A pod of the task `build` of the pipeline `ci`, as Tekton labels it.
fn of_run(name: &'static str, run: &str) -> LabPod {
    let labels = json!({"tekton.dev/pipeline": "ci", "tekton.dev/pipelineRun": run, "tekton.dev/pipelineTask": "build",
        "tekton.dev/taskRun": format!("{run}-build"), "app.kubernetes.io/managed-by": "tekton-pipelines"});
    let owner = json!([{"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": format!("{run}-build"), "controller": true}]);
    let pod = LabPod::failed("ci", name, CAUSE).with(json!({"labels": labels, "ownerReferences": owner}));
    LabPod { sidecar: Some("error: the proxy was told to stop\n"), ..pod }
}

const POD: &str = "ci-x2kqz-build-pod";
const RETRY: &str = "ci-x2kqz-build-pod-retry1";
const NEXT: &str = "ci-zz9vx-build-pod";
const GONE: &str = "ci-bvcxz-build-pod";

fn pods() -> Vec<LabPod> {
    vec![of_run(POD, "ci-x2kqz"), of_run(RETRY, "ci-x2kqz"), of_run(NEXT, "ci-zz9vx")]
}

/// How a failure can be reported.
enum Way {
    Rest(Value),
    /// Labels of an alert.
    Alert(Value),
    Mcp(Value),
    /// Environment of the script that pipelines run.
    Script(Vec<(&'static str, &'static str)>),
}

fn rest(more: Value) -> Way {
    Way::Rest(whole(more))
}

fn whole(more: Value) -> Value {
    let mut body = json!({"namespace": "ci", "pod_name": POD});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn ways() -> Vec<(&'static str, Way)> {
    let log = of_run(POD, "r").log.unwrap();
    let end = log.split_once('\n').unwrap().1.to_owned();
    let everything = json!({"container_name": "step", "pipeline": "ci", "repository": "https://git.example/o/r", "commit": "4f2a91c"});
    vec![
        ("namespace and pod alone", rest(json!({}))),
        ("the container", rest(json!({"container_name": "step"}))),
        ("a container that was only killed", rest(json!({"container_name": "proxy"}))),
        ("the pipeline", rest(json!({"pipeline": "ci"}))),
        ("pipeline and task", rest(json!({"pipeline": "ci", "task": "build"}))),
        ("another writing of them", rest(json!({"pipeline": " CI ", "task": "Build"}))),
        (
            "another name of the pipeline",
            rest(json!({"pipeline": "Continuous Integration", "task": "compile"})),
        ),
        ("the run", rest(json!({"run": "ci-x2kqz", "run_url": "https://ci.example/runs/7"}))),
        (
            "repository and commit",
            rest(json!({"repository": "https://git.example/o/r", "commit": "4f2a91c"})),
        ),
        ("all of it", rest(everything.clone())),
        ("the log", rest(json!({"log": log}))),
        ("the end of the log, and a pipeline", rest(json!({"log": end, "pipeline": "nightly"}))),
        ("fields that nobody knows", rest(json!({"event": "failed", "pod": {"name": POD}}))),
        ("an alert", Way::Alert(json!({"alertname": "PodFailed", "namespace": "ci", "pod": POD}))),
        (
            "an alert with more labels",
            Way::Alert(
                json!({"alertname": "JobFailed", "namespace": "ci", "pod": POD, "container": "proxy", "job_name": "x"}),
            ),
        ),
        ("an agent", Way::Mcp(whole(json!({})))),
        ("an agent that tells more", Way::Mcp(whole(everything))),
        (
            "the script of the finally task",
            Way::Script(vec![
                ("REGREEN_NAMESPACE", "ci"),
                ("REGREEN_POD", POD),
                ("REGREEN_PIPELINE", "ci"),
                ("REGREEN_TASK", "build"),
                ("REGREEN_RUN", "ci-x2kqz"),
                ("REGREEN_COMMIT", "4f2a91c"),
            ]),
        ),
        ("another try of the task", rest(json!({"pod_name": RETRY}))),
        ("another run of the pipeline", rest(json!({"pod_name": NEXT, "pipeline": "ci"}))),
        ("a pod that is gone, and its log", rest(json!({"pod_name": GONE, "log": log}))),
        (
            "the same with a pipeline",
            rest(json!({"pod_name": GONE, "log": log, "pipeline": "ci", "task": "build"})),
        ),
        ("the same with a container", rest(json!({"pod_name": GONE, "log": log, "container_name": "step"}))),
    ]
}

async fn take(app: &TestApp, name: &str, way: Way) {
    match way {
        Way::Rest(body) => {
            let told = app.post(&body, &[("idempotency-key", name)]).await;
            assert_eq!(told.status, 200, "{name}: {}", told.body);
        }
        Way::Alert(labels) => {
            let alert = json!({"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-11-20T10:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": format!("{:x}", name.len())});
            let told = app.send("/webhooks/alertmanager", &json!({"version": "4", "alerts": [alert]})).await;
            assert_eq!(
                (told.status, told.body["ignored"].to_string()),
                (202, "[]".into()),
                "{name}: {}",
                told.body
            );
        }
        Way::Mcp(arguments) => {
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "triage_failure", "arguments": arguments}});
            let request = app.http.post(format!("{}/mcp", app.base)).json(&call);
            let request = request.header("accept", "application/json, text/event-stream");
            let told = TestApp::read(request.header("mcp-protocol-version", "2025-06-18")).await;
            assert!(told.status == 200 && told.body["result"]["isError"] != true, "{name}: {}", told.body);
        }
        Way::Script(env) => {
            let place = Place::new();
            let script = place.write("report-failure.sh", SCRIPT);
            let ran = place
                .run(&["sh", &script], &[&env[..], &[("REGREEN_URL", app.base.as_str())]].concat())
                .await;
            assert_eq!(ran.code, Some(0), "{name}: {}", ran.said);
        }
    }
}

/// Incidents as (occurrences, namespace).
async fn incidents(app: &TestApp) -> Vec<(u64, String)> {
    let list = app.get("/api/incidents").await.body["incidents"].clone();
    let of =
        |one: &Value| (one["occurrences"].as_u64().unwrap(), one["namespace"].as_str().unwrap().to_owned());
    list.as_array().unwrap().iter().map(of).collect()
}

/// Reports in each way, one after the other; what is there after each.
async fn all_are_one(app: &TestApp, ways: Vec<(&'static str, Way)>) {
    for (number, (name, way)) in (1u64..).zip(ways) {
        take(app, name, way).await;
        eventually(name, async || {
            let reports = app.get("/api/reports?limit=200").await.body["reports"].clone();
            let over = |report: &Value| report["status"] == "done" || report["status"] == "failed";
            let over = reports.as_array().unwrap().iter().filter(|report| over(report)).count();
            (over as u64 == number).then_some(())
        })
        .await;
        assert_eq!(incidents(app).await, [(number, "ci".to_owned())], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_one_incident_and_one_issue_however_it_is_reported() {
    let cluster = lab_cluster::mcp(pods()).await;
    let setup = Setup::whole().await.set("MCP_OPENSHIFT_URL", &cluster.url());
    let app = setup.set("MCP_OPENSHIFT_TRANSPORT", "streamable-http").start().await;
    let ways = ways();
    assert!(ways.len() >= 12);
    all_are_one(&app, ways).await;
    assert_eq!(app.issues().len(), 1);
    // Whatever container a reporter names, the log is that of the one that failed.
    let calls = cluster.seen("tools/call").into_iter().map(|call| call["params"].clone());
    let of_log = |call: &Value| call["name"] == "pods_log" && call["arguments"]["name"] != GONE;
    let asked: Vec<Value> = calls.filter(of_log).collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|call| call["arguments"]["container"] == "step"),
        "{asked:?}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_one_incident_behind_the_fields_own_server() {
    let folder = tempfile::tempdir().unwrap();
    let api = lab_cluster::api(pods()).await;
    let server = real_servers::kubernetes(&api.url, folder.path()).await;
    let setup = Setup::bare().await.set("MCP_OPENSHIFT_URL", &server.url);
    let app = setup.set("MCP_OPENSHIFT_TRANSPORT", "streamable-http").start().await;
    let mut ways = ways();
    // The other order too: who knows least is first.
    ways.reverse();
    all_are_one(&app, ways).await;
    app.stop().await;
}

/// A pod of a deployment.
fn of_deployment(namespace: &'static str, name: &'static str, deployment: &str) -> LabPod {
    let owner =
        json!([{"kind": "ReplicaSet", "name": format!("{deployment}-7f9c6d5b4"), "controller": true}]);
    let labels = json!({"app": "shop", "pod-template-hash": "7f9c6d5b4"});
    LabPod::failed(namespace, name, CAUSE).with(json!({"labels": labels, "ownerReferences": owner}))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_in_the_cluster_stays_apart_whatever_is_said() {
    let mut other_task = of_run("ci-x2kqz-test-pod", "ci-x2kqz");
    other_task.metadata["labels"]["tekton.dev/pipelineTask"] = json!("test");
    other_task.log = Some("running\nFAIL: TestRefund expected 3 but got 4\nexit status 1\n".to_owned());
    let cluster = lab_cluster::mcp(vec![
        of_run(POD, "ci-x2kqz"),
        other_task,
        of_deployment("shop", "web-7f9c6d5b4-x2kqz", "web"),
        of_deployment("shop", "api-7f9c6d5b4-zz9vx", "api"),
        of_deployment("prod", "web-7f9c6d5b4-x2kqz", "web"),
    ])
    .await;
    let app = Setup::bare().await.file(&cluster.table("openshift", "")).start().await;
    let failures = [
        ("ci", POD),
        ("ci", "ci-x2kqz-test-pod"),
        ("shop", "web-7f9c6d5b4-x2kqz"),
        ("shop", "api-7f9c6d5b4-zz9vx"),
        ("prod", "web-7f9c6d5b4-x2kqz"),
    ];
    for said in [json!({}), json!({"pipeline": "one", "task": "t"}), json!({"container_name": "step"})] {
        for (namespace, pod) in failures {
            let mut body = said.clone();
            (body["namespace"], body["pod_name"]) = (json!(namespace), json!(pod));
            assert_eq!(app.post(&body, &[]).await.status, 200);
        }
    }
    let mut found = incidents(&app).await;
    found.sort();
    let wanted = ["ci", "ci", "prod", "shop", "shop"].map(|namespace| (3, namespace.to_owned()));
    assert_eq!(found, wanted);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_of_an_earlier_version_is_found_again() {
    let cluster = lab_cluster::mcp(pods()).await;
    let app = Setup::bare().await.file(&cluster.table("openshift", "")).start().await;
    let body = whole(json!({"pipeline": "ci", "task": "build", "container_name": "step"}));
    assert_eq!(app.post(&body, &[]).await.status, 200);
    // As it was stored before: by what the reporter said, and nothing learned.
    let before = "update incidents set fingerprint = (select fingerprints[array_upper(fingerprints, 1)] from reports limit 1);
                  delete from fingerprint_aliases; update reports set fingerprints = '{}', fine_fingerprints = '{}'";
    sqlx::raw_sql(before).execute(&app.pool().await).await.unwrap();
    assert_eq!(app.post(&body, &[]).await.status, 200);
    // It is known by what was found from then on.
    assert_eq!(app.post(&whole(json!({})), &[]).await.status, 200);
    assert_eq!(incidents(&app).await, [(3, "ci".to_owned())]);
    app.stop().await;
}
