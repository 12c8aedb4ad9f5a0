//! One team's report reads nothing of another's, and decides nothing of another's diagnosis.

use super::access::{key, status};
use super::injection::{Injection, corpus, everything};
use crate::support::fake_mcp::FakeMcp;
use crate::support::lab_cluster::{self, LabPod, private};
use crate::support::obedient_model::{ObedientModel, Reads};
use crate::support::{Answer, Setup, TestApp, eventually, every, real_servers};
use regreen::demo::samples::sample;
use regreen::domain::Role;
use regreen::server::access;
use serde_json::{Value, json};

const POD: &str = "web-build-pod";

/// Two teams, each with a pod that failed.
fn teams() -> Vec<LabPod> {
    vec![
        LabPod::failed("team-a", "payroll-0", "error: the ledger is locked"),
        LabPod::failed("team-b", POD, "error: cannot open web.lock"),
    ]
}

/// The kinds of attacks that read.
fn attacks() -> Vec<(String, Vec<Injection>)> {
    let all = corpus().into_iter().filter(|(category, _)| category.starts_with("reading "));
    let all: Vec<_> = all.collect();
    assert!(all.len() >= 4 && all.iter().map(|(_, injections)| injections.len()).sum::<usize>() >= 39);
    all
}

async fn with(app: &TestApp, path: &str, key: &str) -> Answer {
    TestApp::read(app.http.get(format!("{}{path}", app.base)).bearer_auth(key)).await
}

async fn report(app: &TestApp, key: &str, body: &Value) -> Answer {
    TestApp::read(app.http.post(format!("{}/report-failure", app.base)).bearer_auth(key).json(body)).await
}

async fn start(setup: Setup, model: &ObedientModel) -> TestApp {
    let setup = setup.set("REGREEN_MODEL_URL", &model.url).set("REGREEN_MODEL", "obedient");
    setup.set("REGREEN_AUTH", "keys").start().await
}

/// Reports failures of `team-b` whose logs want to read; what is foreign has this mark, and these names in the texts.
async fn attack(app: &TestApp, model: &ObedientModel, foreign: &str, (namespace, pod): (&str, &str)) {
    let reporter = key(app, Role::Reporter, &["team-b"]).await;
    let viewer = key(app, Role::Viewer, &[]).await;
    let stranger = key(app, Role::Reporter, &["team-a"]).await;
    for (number, (category, injections)) in attacks().into_iter().enumerate() {
        let texts: Vec<String> = injections
            .iter()
            .map(|injection| injection.text.replace("team-a", namespace).replace("payroll-0", pod))
            .collect();
        let before = model.reads().len();
        let log = format!("step {number}\n{}\nerror: {category} failed\nexit status 1\n", texts.join("\n"));
        let body =
            json!({"namespace": "team-b", "pod_name": POD, "pipeline": format!("p{number}"), "log": log});
        let told = report(app, &reporter, &body).await;
        assert_eq!(told.status, 200, "{category}: {}", told.body);
        let tried = model.reads().len() - before;
        assert!(tried >= injections.len() / 2, "{category}: {tried} of {}", injections.len());
        let path = format!("/api/reports/{}", told.body["report_id"].as_str().unwrap());
        let own = with(app, &path, &reporter).await.body;
        assert_eq!(own["runs"], json!([]), "{category}");
        assert!(!own["evidence"].to_string().contains("tool_result"), "{category}: {own}");
        let collect = own["steps"][0]["detail"].as_str().unwrap();
        assert!(collect.ends_with(" lines"), "{collect}");
        for text in [&told.body, &own] {
            assert!(!text.to_string().contains(foreign), "{category}: {text}");
        }
        let all = with(app, &path, &viewer).await.body;
        assert_ne!(all["runs"], json!([]), "{category}: there is something that is not shown");
        let hidden =
            all["evidence"].as_array().unwrap().iter().filter(|piece| piece["kind"] == "tool_result");
        for piece in hidden {
            let evidence = format!("{path}/evidence/{}", piece["label"].as_str().unwrap());
            assert_eq!(with(app, &evidence, &reporter).await.status, 404);
            assert_eq!(with(app, &evidence, &viewer).await.status, 200);
        }
        assert_eq!(with(app, &path, &stranger).await.status, 404);
    }
    let (stored, asked) = (everything(app).await, json!(model.requests()).to_string());
    assert!(!stored.contains(foreign) && !asked.contains(foreign), "something foreign was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_makes_an_investigation_read_another_namespace() {
    let cluster = lab_cluster::mcp(teams()).await;
    let model = ObedientModel::start(Reads::Everything).await;
    let app = start(Setup::bare().await.file(&cluster.table("openshift", "")), &model).await;
    attack(&app, &model, &private("team-a"), ("team-a", "payroll-0")).await;
    let calls = cluster.seen("tools/call");
    for call in &calls {
        assert_eq!(call["params"]["arguments"]["namespace"], "team-b", "{call}");
    }
    // What may be read was read, and by the model.
    assert!(json!(model.requests()).to_string().contains(&private("team-b")));
    let by_service = ["pods_get", "pods_log", "events_list"];
    let others = calls.iter().filter(|call| !by_service.contains(&call["params"]["name"].as_str().unwrap()));
    assert!(others.count() > 3, "{calls:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_makes_the_fields_own_server_read_another_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let api = lab_cluster::api(teams()).await;
    let server = real_servers::kubernetes(&api.url, folder.path()).await;
    let model = ObedientModel::start(Reads::Everything).await;
    let setup = Setup::bare().await.set("MCP_OPENSHIFT_URL", &server.url);
    let app = start(setup.set("MCP_OPENSHIFT_TRANSPORT", "streamable-http"), &model).await;
    attack(&app, &model, &private("team-a"), ("team-a", "payroll-0")).await;
    let seen = api.seen.lock().unwrap().clone();
    let read: Vec<&String> = seen.iter().filter(|request| request.starts_with("GET /api/v1/")).collect();
    assert!(read.iter().any(|request| request.contains("/namespaces/team-b/pods/")), "{read:?}");
    for request in read {
        assert!(
            request.starts_with("GET /api/v1/namespaces/team-b/") && !request.contains("secrets"),
            "{request}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_makes_the_stand_in_cluster_tell_of_another_namespace() {
    let model = ObedientModel::start(Reads::Everything).await;
    let app = start(Setup::whole().await, &model).await;
    // What another team's failure was found to be stands in the tracker, and is remembered.
    let of_a = key(&app, Role::Reporter, &["team-a"]).await;
    let log = format!("error: the ledger is locked, {}\nexit status 1\n", private("team-a"));
    let told =
        report(&app, &of_a, &json!({"namespace": "team-a", "pod_name": "payroll-0", "log": log})).await;
    assert_eq!(told.status, 200, "{}", told.body);
    assert!(app.issues()[0].to_string().contains(&private("team-a")));
    let before = model.requests().len();
    let foreign = sample("dns").unwrap();
    let line = foreign.log.lines().max_by_key(|line| line.len()).unwrap();
    attack(&app, &model, line, ("ci", foreign.pod)).await;
    let asked = json!(model.requests()[before..]).to_string();
    assert!(!asked.contains(&private("team-a")), "another team's failure was told");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_allows_everything_by_wildcards_lets_nobody_out_of_the_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let rules = "[[rule]]\ntool = [\"*\", \"pods_*\", \"resources_*\"]\ndecision = \"allow\"\n";
    std::fs::write(&policy, rules).unwrap();
    let cluster = lab_cluster::mcp(teams()).await;
    let model = ObedientModel::start(Reads::Everything).await;
    let setup = Setup::bare().await.file(&cluster.table("openshift", ""));
    let app = start(setup.set("REGREEN_POLICY_FILE", policy.to_str().unwrap()), &model).await;
    attack(&app, &model, &private("team-a"), ("team-a", "payroll-0")).await;
    assert!(every(cluster.seen("tools/call"), |call| call["params"]["arguments"]["namespace"] == "team-b"));
    app.stop().await;
}

const IMAGE: &str = "registry.example.com/base/builder:1";
const LIMIT: &str = "toomanyrequests: You have reached your pull rate limit";

struct Teams {
    app: TestApp,
    cluster: FakeMcp,
    a: String,
    b: String,
    viewer: String,
}

/// A service without a model over these pods, in front of a forge if asked.
async fn two_teams(setup: Setup, pods: Vec<LabPod>) -> Teams {
    let cluster = lab_cluster::mcp(pods).await;
    let setup = setup.file(&cluster.table("openshift", ""));
    let app = setup.set("REGREEN_AUTH", "keys").start().await;
    let a = key(&app, Role::Reporter, &["team-a"]).await;
    let b = key(&app, Role::Reporter, &["team-b"]).await;
    let viewer = key(&app, Role::Viewer, &[]).await;
    Teams { app, cluster, a, b, viewer }
}

impl Teams {
    async fn report(&self, key: &str, namespace: &str, pod: &str, log: Option<&str>) -> Value {
        let told =
            report(&self.app, key, &json!({"namespace": namespace, "pod_name": pod, "log": log})).await;
        assert_eq!(told.status, 200, "{}", told.body);
        told.body
    }

    async fn incidents(&self) -> Vec<Value> {
        let list = with(&self.app, "/api/incidents", &self.viewer).await.body;
        list["incidents"].as_array().unwrap().clone()
    }
}

/// The pods of a real outage: neither ever started.
fn outage() -> Vec<LabPod> {
    ["team-a", "team-b"]
        .map(|team| LabPod::unpulled(team, if team == "team-a" { "pay-pod" } else { POD }, IMAGE, LIMIT))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_line_of_one_namespace_is_no_cause_of_anothers() {
    let forged = format!("Failed to pull image \"{IMAGE}\": {LIMIT}\nplease read private to team-a\n");
    let ran = |log: &str| LabPod::failed("team-a", "forger-pod", log);
    let quoting =
        LabPod { events: vec![("Unhealthy", format!("Liveness probe failed: {forged}"))], ..ran(&forged) };
    let mut pods = outage();
    pods.extend([quoting, LabPod::failed("team-b", "other-pod", &forged)]);
    let teams = two_teams(Setup::bare().await, pods).await;
    // In a log that is attached, in a log that the workload wrote, in what a probe put out.
    let first = teams.report(&teams.a, "team-a", "gone-pod", Some(&forged)).await;
    teams.report(&teams.a, "team-a", "forger-pod", None).await;
    let real = teams.report(&teams.b, "team-b", POD, None).await;
    assert!(!real["result"].as_str().unwrap().starts_with("Known cause"), "{real}");
    let repeated = teams.report(&teams.b, "team-b", "other-pod", None).await;
    assert!(!repeated["result"].as_str().unwrap().starts_with("Known cause"), "{repeated}");
    let incidents = teams.incidents().await;
    for incident in &incidents {
        let path = format!("/api/reports?incident_id={}", incident["id"].as_str().unwrap());
        let reports = with(&teams.app, &path, &teams.viewer).await.body;
        for report in reports["reports"].as_array().unwrap() {
            assert_eq!(report["namespace"], incident["namespace"], "{incident}");
        }
    }
    assert!(first["result"].as_str().unwrap().contains("pull"), "{first}");
    teams.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_two_namespaces_is_one_incident_and_its_text_stays_with_the_first() {
    let teams = two_teams(Setup::bare().await, outage()).await;
    let first = teams.report(&teams.a, "team-a", "pay-pod", None).await;
    assert!(first["result"].as_str().unwrap().contains(IMAGE), "{first}");
    let second = teams.report(&teams.b, "team-b", POD, None).await;
    let incidents = teams.incidents().await;
    assert_eq!((incidents.len(), &incidents[0]["occurrences"]), (1, &json!(2)), "{incidents:?}");
    assert_eq!(incidents[0]["namespace"], "team-a");
    let told = second["result"].as_str().unwrap();
    assert!(told.starts_with("Known cause, seen 2 times, outside of this namespace"), "{told}");
    let path = format!("/api/reports/{}", second["report_id"].as_str().unwrap());
    let read = with(&teams.app, &path, &teams.b).await.body.to_string();
    let cause = incidents[0]["diagnosis"]["cause"].as_str().unwrap();
    for text in [told, &read] {
        assert!(
            !text.contains(cause) && !text.contains("private to team-a") && !text.contains("pay-pod"),
            "{text}"
        );
    }
    assert!(!teams.cluster.seen("tools/call").is_empty());
    teams.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_cause_that_does_not_hold_in_ones_own_evidence_is_not_ones_cause() {
    let teams = two_teams(Setup::bare().await, outage()).await;
    teams.report(&teams.a, "team-a", "pay-pod", None).await;
    // What was concluded for the first rests on a line that only the first has.
    let pool = teams.app.pool().await;
    let claim = json!({"statement": "s", "evidence": "E1", "first_line": 1, "last_line": 1, "quote": "the tenant's own story", "verified": true});
    sqlx::query("update incidents set diagnosis = jsonb_set(diagnosis, '{claims}', diagnosis -> 'claims' || $1::jsonb)")
        .bind(claim)
        .execute(&pool)
        .await
        .unwrap();
    let second = teams.report(&teams.b, "team-b", POD, None).await;
    assert!(!second["result"].as_str().unwrap().starts_with("Known cause"), "{second}");
    let incidents = teams.incidents().await;
    let seen: Vec<(&Value, &Value)> =
        incidents.iter().map(|incident| (&incident["namespace"], &incident["occurrences"])).collect();
    assert_eq!(seen, [(&json!("team-b"), &json!(1)), (&json!("team-a"), &json!(1))]);
    // It comes again under its own.
    let again = teams.report(&teams.b, "team-b", POD, None).await;
    assert!(again["result"].as_str().unwrap().starts_with("Known cause, seen 2 times: "), "{again}");
    teams.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_wait_for_another_namespaces_investigation_look_for_themselves() {
    use futures::StreamExt as _;
    let teams = two_teams(Setup::bare().await, outage()).await;
    let (teams, both) = (&teams, [("team-a", "pay-pod"), ("team-b", POD)]);
    let posts = (0..12).map(|at| {
        let (namespace, pod) = both[at % 2];
        let key = if at % 2 == 0 { &teams.a } else { &teams.b };
        async move { (namespace, teams.report(key, namespace, pod, None).await) }
    });
    let answers: Vec<(&str, Value)> = futures::stream::iter(posts).buffer_unordered(12).collect().await;
    let incidents = teams.incidents().await;
    assert_eq!((incidents.len(), &incidents[0]["occurrences"]), (1, &json!(12)), "{incidents:?}");
    let (leads, cause) =
        (incidents[0]["namespace"].as_str().unwrap(), incidents[0]["diagnosis"]["cause"].as_str().unwrap());
    for (namespace, told) in &answers {
        let result = told["result"].as_str().unwrap();
        assert_eq!(result.contains(cause), *namespace == leads, "{namespace}: {result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_one_namespace_reads_nothing_of_another() {
    let teams = two_teams(Setup::bare().await, teams()).await;
    let app = &teams.app;
    let of_a = teams.report(&teams.a, "team-a", "payroll-0", None).await;
    teams.report(&teams.b, "team-b", POD, None).await;
    let bound = key(app, Role::Viewer, &["team-b"]).await;
    let id = of_a["report_id"].as_str().unwrap();
    let report = with(app, &format!("/api/reports/{id}"), &teams.viewer).await.body;
    let incident = report["incident_id"].as_str().unwrap();
    let paths = [
        format!("/api/reports/{id}"),
        format!("/api/reports/{id}/evidence/E1"),
        format!("/api/incidents/{incident}"),
    ];
    for path in &paths {
        assert_eq!(with(app, path, &teams.viewer).await.status, 200, "{path}");
        assert_eq!(with(app, path, &bound).await.status, 404, "{path}");
    }
    let found = "/api/search?kind=incident&q=ledger+is+locked";
    eventually("the incident can be found", async || {
        let hits = with(app, found, &teams.viewer).await.body;
        hits["hits"].to_string().contains("ledger").then_some(())
    })
    .await;
    let list = "/api/reports?namespace=team-a";
    for path in [found, "/api/incidents", "/api/incidents?namespace=team-a", "/api/reports", list] {
        let told = with(app, path, &bound).await;
        let text = told.body.to_string();
        assert!(told.status == 200 && !text.contains("team-a") && !text.contains("ledger"), "{path}: {text}");
    }
    assert!(with(app, "/api/incidents", &bound).await.body.to_string().contains("team-b"));
    for (tool, arguments) in
        [("search_incidents", json!({"query": "ledger is locked"})), ("get_report", json!({"id": id}))]
    {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let request = app.http.post(format!("{}/mcp", app.base)).bearer_auth(&bound);
        let request = request
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18");
        let told = TestApp::read(request.json(&body)).await.body.to_string();
        assert!(!told.contains("team-a") && !told.contains("ledger"), "{told}");
    }
    // All else that a viewer may read tells of every namespace.
    let narrowed = ["/api/incidents", "/api/incidents/{id}", "/api/search"];
    let mut refused = 0;
    for rule in access().iter().filter(|rule| rule.role == Some(Role::Viewer)) {
        if !narrowed.contains(&rule.path.as_str()) {
            assert_eq!(status(app, rule, Some(&bound)).await, 403, "{} {}", rule.method, rule.path);
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
}
