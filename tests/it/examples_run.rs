//! The scripts within the examples, run as their systems run them.

use super::access::key;
use super::examples_shape::{document, documents, example};
use crate::support::pipelines::{Place, Ran, cluster, shells};
use crate::support::{Setup, TestApp, every};
use regreen::demo::samples::sample;
use regreen::domain::Role;
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("../../examples/report-failure.sh");
/// A build that fails, as `make`.
const MAKE: &str = "echo compiling; echo \"ModuleNotFoundError: No module named 'yaml'\" >&2; exit 2";

async fn regreen() -> (TestApp, String) {
    let app = Setup::whole().await.set("REGREEN_AUTH", "keys").start().await;
    let key = key(&app, Role::Reporter, &["ci"]).await;
    (app, key)
}

/// A checkout of a repository that took the script over, whose build fails.
fn repository() -> Place {
    let place = Place::new();
    place.write("ci/report-failure.sh", SCRIPT);
    place.program("make", MAKE);
    place
}

/// With the programs of the image that the manifests name.
fn in_an_image() -> Place {
    let shells = shells();
    Place::with(shells.iter().find(|shell| shell.ends_with("busybox")).unwrap())
}

/// The reports, oldest first, and that each of them is done.
async fn reports(app: &TestApp, key: &str) -> Vec<Value> {
    let list = TestApp::read(app.http.get(format!("{}/api/reports", app.base)).bearer_auth(key)).await;
    let mut reports = list.body["reports"].as_array().unwrap().clone();
    reports.reverse();
    reports
}

/// That the one report has the build's log, that its issue is told, and the token nowhere.
async fn told(app: &TestApp, key: &str, ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("regreen: Issue created: http://") && !ran.said.contains(key), "{}", ran.said);
    let [report] = &reports(app, key).await[..] else { panic!("one report: {}", ran.said) };
    let path = format!("{}/api/reports/{}/evidence/E1", app.base, report["id"].as_str().unwrap());
    let log = TestApp::read(app.http.get(path).bearer_auth(key)).await.body.to_string();
    assert!(log.contains("compiling") && log.contains("No module named 'yaml'"), "{log}");
    report.clone()
}

/// A text with what its system replaces replaced; what nobody knows is a mistake. Of `a || b` the first that is not empty.
fn replaced(text: &str, (open, close): (&str, &str), values: &[(&str, &str)]) -> String {
    let value = |name: &str| {
        let known = values.iter().find(|(known, _)| *known == name.trim());
        known.unwrap_or_else(|| panic!("{name} in {text}")).1
    };
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((before, inside)) = rest.split_once(open) {
        let (names, after) = inside.split_once(close).unwrap();
        whole.push_str(before);
        whole.push_str(names.split("||").map(value).find(|value| !value.is_empty()).unwrap_or_default());
        rest = after;
    }
    whole + rest
}

/// The environment of a step.
fn environment(
    list: impl Iterator<Item = (String, String)>,
    marks: (&str, &str),
    values: &[(&str, &str)],
) -> Vec<(String, String)> {
    list.map(|(name, value)| (name, replaced(&value, marks, values))).collect()
}

/// The `env` of a container.
fn of_container(container: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    container["env"].as_array().unwrap().iter().map(move |set| (text(&set["name"]), text(&set["value"])))
}

fn borrowed(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn task_run((run, task): (&str, &str), pod: &str, (status, reason): (&str, &str)) -> Value {
    let labels = json!({"tekton.dev/pipelineRun": run, "tekton.dev/pipelineTask": task});
    let condition = json!({"type": "Succeeded", "status": status, "reason": reason, "message": format!("{reason}: failed to pull the image")});
    let status = if pod.is_empty() {
        json!({"conditions": [condition]})
    } else {
        json!({"podName": pod, "conditions": [condition]})
    };
    json!({"kind": "TaskRun", "apiVersion": "tekton.dev/v1", "metadata": {"name": format!("{run}-{task}"), "namespace": "ci", "labels": labels}, "status": status})
}

/// Sets what the environment has already.
fn changed(env: &mut [(String, String)], name: &str, value: &str) {
    let (_, old) = env.iter_mut().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}"));
    value.clone_into(old);
}

/// The step of the Task, with these tasks.
async fn run_tekton(place: &Place, values: &[(&str, &str)], more: &[(&str, &str)], tasks: &[&str]) -> Ran {
    let task = document("tekton/report-failure.yaml", "Task");
    let step = &task["spec"]["steps"][0];
    let mut env = environment(of_container(step), ("$(", ")"), values);
    for (name, value) in more {
        changed(&mut env, name, value);
    }
    env.push(("KUBECONFIG".to_owned(), place.file("kubeconfig").display().to_string()));
    let script = place.write("tekton", step["script"].as_str().unwrap());
    place.run(&[&["sh", &script], tasks].concat(), &borrowed(&env)).await
}

/// The script of the WorkflowTemplate.
async fn run_argo(place: &Place, more: &[(&str, &str)]) -> Ran {
    let template = document("argo/report-failure.yaml", "WorkflowTemplate")["spec"]["templates"][0].clone();
    let values = [
        ("workflow.name", "w-1"),
        ("workflow.namespace", "ci"),
        ("inputs.parameters.pipeline", "checkout"),
        ("inputs.parameters.repository", "git@git.example.com:shop/checkout.git"),
        ("inputs.parameters.commit", "0123abc"),
    ];
    let mut env = environment(of_container(&template["script"]), ("{{", "}}"), &values);
    let file = template["outputs"]["parameters"][0]["valueFrom"]["path"].as_str().unwrap();
    assert!(env.iter().any(|(name, value)| name == "REGREEN_RESULT_FILE" && value == file));
    changed(&mut env, "REGREEN_RESULT_FILE", "issue-url");
    for (name, value) in more {
        changed(&mut env, name, value);
    }
    env.push(("KUBECONFIG".to_owned(), place.file("kubeconfig").display().to_string()));
    let script = place.write("argo", template["script"]["source"].as_str().unwrap());
    place.run(&["sh", &script], &borrowed(&env)).await
}

/// The pod of a node, which is named by its workflow and its place there.
fn argo_pod(node: &str, name: &str, phase: &str) -> Value {
    let (workflow, _) = node.split_once('.').unwrap();
    json!({"kind": "Pod", "apiVersion": "v1", "status": {"phase": phase}, "metadata": {"name": name, "namespace": "ci",
        "labels": {"workflows.argoproj.io/workflow": workflow}, "annotations": {"workflows.argoproj.io/node-name": node}}})
}

/// The Workflow `w-1` with these nodes: type, phase and name.
fn workflow(nodes: &[(&str, &str, &str)]) -> Value {
    let nodes = nodes.iter().enumerate().map(|(id, (r#type, phase, name))| {
        (format!("w-1-{id}"), json!({"name": name, "type": r#type, "phase": phase}))
    });
    json!({"kind": "Workflow", "apiVersion": "argoproj.io/v1alpha1", "metadata": {"name": "w-1", "namespace": "ci"},
        "status": {"phase": "Running", "nodes": nodes.collect::<serde_json::Map<_, _>>()}})
}

/// For how many seconds each failure was tried.
fn tried(ran: &Ran) -> Vec<u64> {
    let pattern = regex::Regex::new(r"was not reported: \S+ did not accept it within (\d+) s").unwrap();
    pattern.captures_iter(&ran.said).map(|found| found[1].parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_costs_no_more_for_several_failures_than_for_one() {
    // Takes connections, and says nothing: each report is tried for as long as it may be.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let names = ["build", "test", "scan"];
    let task_runs = names.map(|name| task_run(("run-1", name), &format!("{name}-pod"), ("False", "Failed")));
    let pods = names.map(|name| argo_pod("w-1.test", name, "Failed"));
    let place = in_an_image();
    let _api = cluster(&place, [&task_runs[..], &pods].concat()).await;
    let (token, result) = (place.write("token", "rgn_x"), place.file("issue-url").display().to_string());
    let values = [
        ("params.regreen-url", url.as_str()),
        ("params.pipeline", "checkout"),
        ("params.pipeline-run", "run-1"),
        ("params.repository", ""),
        ("params.commit", ""),
        ("context.taskRun.namespace", "ci"),
        ("results.issue-url.path", &result),
    ];
    let more = [("REGREEN_TOKEN_FILE", token.as_str()), ("REGREEN_WAIT", "3")];
    let of_argo = [&more[..], &[("REGREEN_URL", &url)]].concat();
    let (tekton, argo) = tokio::join!(
        run_tekton(&place, &values, &more, &["build=Failed", "test=Failed", "scan=Failed"]),
        run_argo(&place, &of_argo)
    );
    for ran in [tekton, argo] {
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        let tried = tried(&ran);
        assert!(tried.len() == names.len() && tried.iter().sum::<u64>() <= 3, "{}", ran.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tekton_reports_the_failed_tasks_of_its_own_run() {
    let (app, key) = regreen().await;
    let place = in_an_image();
    let pod = sample("dns").unwrap().pod;
    let (failed, running) = (("False", "Failed"), ("Unknown", "Running"));
    let task_runs = vec![
        task_run(("run-1", "build"), "run-1-build-pod", ("True", "Succeeded")),
        task_run(("run-1", "test"), pod, failed),
        task_run(("run-1", "scan"), "", ("False", "TaskRunImagePullFailed")),
        task_run(("run-1", "lint"), "run-1-lint-pod", ("False", "TaskRunCancelled")),
        task_run(("run-1", "report-failure"), "run-1-report-failure-pod", running),
        task_run(("run-2", "test"), "run-2-test-pod", failed),
    ];
    let _api = cluster(&place, task_runs).await;
    let (token, result) = (place.write("token", &key), place.file("issue-url").display().to_string());
    let values = [
        ("params.regreen-url", app.base.as_str()),
        ("params.pipeline", "checkout"),
        ("params.pipeline-run", "run-1"),
        ("params.repository", "https://git.example.com/shop"),
        ("params.commit", ""),
        ("context.taskRun.namespace", "ci"),
        ("results.issue-url.path", &result),
    ];
    let tasks = ["build=Succeeded", "test=Failed", "scan=Failed", "lint=Failed", "deploy=None"];
    let ran = run_tekton(&place, &values, &[("REGREEN_TOKEN_FILE", &token)], &tasks).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    let reports = reports(&app, &key).await;
    let told: Vec<_> = reports
        .iter()
        .map(|report| (report["task"].as_str().unwrap(), report["pod_name"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("test", pod), ("scan", "run-1-scan-pod")], "{}", ran.said);
    assert_eq!((&reports[0]["run"], &reports[0]["pipeline"]), (&json!("run-1"), &json!("checkout")));
    assert!(place.read("issue-url").starts_with("http://") && !ran.said.contains(&key), "{}", ran.said);
    let said: String = sqlx::query_scalar("select text from evidence where kind = 'attached'")
        .fetch_one(&app.pool().await)
        .await
        .unwrap();
    assert_eq!(said.trim(), "TaskRunImagePullFailed: failed to pull the image", "why the pod is gone");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_reports_the_failed_pods_of_its_own_workflow() {
    let (app, key) = regreen().await;
    let place = in_an_image();
    let known = sample("dns").unwrap().pod;
    let objects = vec![
        argo_pod("w-1.build", "w-1-build", "Succeeded"),
        argo_pod("w-1.test", known, "Failed"),
        argo_pod("w-1.onExit", "w-1-exit", "Running"),
        argo_pod("w-2.test", "w-2-test", "Failed"),
        workflow(&[
            ("DAG", "Failed", "w-1"),
            ("Pod", "Succeeded", "w-1.build"),
            ("Pod", "Failed", "w-1.test"),
        ]),
    ];
    let _api = cluster(&place, objects).await;
    let token = place.write("token", &key);
    let ran = run_argo(&place, &[("REGREEN_URL", &app.base), ("REGREEN_TOKEN_FILE", &token)]).await;
    assert!(ran.code == Some(0) && !ran.said.contains("nodes"), "{}", ran.said);
    let [report] = &reports(&app, &key).await[..] else { panic!("one report: {}", ran.said) };
    assert_eq!(
        (&report["pod_name"], &report["task"], &report["run"]),
        (&json!(known), &json!("w-1.test"), &json!("w-1"))
    );
    assert_eq!(
        (&report["pipeline"], &report["repository"], &report["commit"]),
        (&json!("checkout"), &json!("https://git.example.com/shop/checkout"), &json!("0123abc"))
    );
    assert!(place.read("issue-url").starts_with("http://"), "{}", ran.said);
    app.stop().await;
}

/// Nodes of the failed pods that were reported, of a workflow that knows these nodes, or of one that cannot be read.
async fn reported(nodes: Option<&[(&str, &str, &str)]>) -> (Vec<String>, Ran) {
    let (app, key) = regreen().await;
    let place = in_an_image();
    let failed = ["fetch(0)", "push(0)[0].image", "lint", "test(0:a b)(0)", "test(0:a b)(1)", "fetcher"];
    let pods = failed.iter().enumerate();
    let pods = pods.map(|(n, node)| argo_pod(&format!("w-1.{node}"), &format!("pod-{n}"), "Failed"));
    let _api = cluster(&place, pods.chain(nodes.map(workflow)).collect()).await;
    let token = place.write("token", &key);
    let ran = run_argo(&place, &[("REGREEN_URL", &app.base), ("REGREEN_TOKEN_FILE", &token)]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    let reports = reports(&app, &key).await;
    app.stop().await;
    (reports.iter().map(|report| report["task"].as_str().unwrap().replacen("w-1.", "", 1)).collect(), ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_reports_no_attempt_that_was_repeated_with_success() {
    let (reported_of_it, ran) = reported(Some(&[
        ("DAG", "Failed", "w-1"),
        // The pod of the second attempt is gone, as `podGC` has it.
        ("Retry", "Succeeded", "w-1.fetch"),
        ("Pod", "Failed", "w-1.fetch(0)"),
        ("Pod", "Succeeded", "w-1.fetch(1)"),
        // Steps that are repeated as a whole.
        ("Retry", "Succeeded", "w-1.push"),
        ("Steps", "Failed", "w-1.push(0)"),
        ("Pod", "Failed", "w-1.push(0)[0].image"),
        // Only a sidecar failed.
        ("Pod", "Succeeded", "w-1.lint"),
        // What succeeded is no attempt's, though its name begins like one.
        ("TaskGroup", "Succeeded", "w-1.test"),
        ("Retry", "Failed", "w-1.test(0:a b)"),
        ("Pod", "Failed", "w-1.test(0:a b)(0)"),
        ("Pod", "Failed", "w-1.test(0:a b)(1)"),
        ("Pod", "Error", "w-1.fetcher"),
    ]))
    .await;
    assert_eq!(reported_of_it, ["test(0:a b)(0)", "test(0:a b)(1)", "fetcher"], "{}", ran.said);
    // What cannot be compared is reported: no right, or nodes that are packed.
    for nodes in [None, Some(&[][..])] {
        let (reported_of_it, ran) = reported(nodes).await;
        assert!(reported_of_it.len() == 6 && ran.said.contains("nodes cannot be read"), "{}", ran.said);
    }
}

/// A job for a branch, whose commit is the workflow's, and one for a pull request, which is known by its head.
async fn actions(file: &str) {
    job(file, "", "0123abc").await;
    job(file, "0123abc", "fedcba9").await;
}

/// The steps of a job of Actions: what builds, and what reports.
async fn job(file: &str, head: &str, sha: &str) {
    let (app, key) = regreen().await;
    let place = repository();
    let workflow = &documents(file)[0];
    let steps = workflow["jobs"]["build"]["steps"].as_array().unwrap();
    let [checkout, build, report] = &steps[..] else { panic!("three steps") };
    assert!(checkout["uses"].is_string() && report["if"] == "failure()");
    assert_eq!(build["shell"], "bash");
    // As the runner does for `shell: bash`.
    let shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail"];
    let script = place.write("build.sh", build["run"].as_str().unwrap());
    let ran = place.run(&[&shell[..], &[&script]].concat(), &[]).await;
    assert_eq!(ran.code, Some(2), "the build fails though tee does not: {}", ran.said);
    let values = [
        ("vars.REGREEN_URL", app.base.as_str()),
        ("vars.REGREEN_NAMESPACE", "ci"),
        ("secrets.REGREEN_TOKEN", &key),
        ("github.run_id", "17"),
        ("github.run_attempt", "2"),
        ("github.run_number", "5"),
        ("github.workflow", "build"),
        ("github.job", "build"),
        ("github.server_url", "https://git.example.com"),
        ("github.repository", "shop/checkout"),
        ("github.event.pull_request.head.sha", head),
        ("github.sha", sha),
        ("runner.temp", "."),
    ];
    let list = report["env"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    let mut env = environment(list, ("${{", "}}"), &values);
    for (name, file) in [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary")] {
        env.push((name.to_owned(), place.file(file).display().to_string()));
    }
    let run = report["run"].as_str().unwrap();
    assert!(!run.contains("${{"), "a value in a script is code");
    let script = place.write("report.sh", run);
    let ran = place.run(&["bash", "-e", &script], &borrowed(&env)).await;
    let report = told(&app, &key, &ran).await;
    assert_eq!(
        (&report["commit"], &report["repository"]),
        (&json!("0123abc"), &json!("https://git.example.com/shop/checkout"))
    );
    assert!(
        report["run_url"]
            .as_str()
            .unwrap()
            .starts_with("https://git.example.com/shop/checkout/actions/runs/")
    );
    assert!(place.read("output").starts_with("issue-url=http://"), "{}", ran.said);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn github_reports_a_failed_job() {
    actions("github/workflow.yml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gitea_reports_a_failed_job() {
    actions("gitea/workflow.yaml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_reports_a_failed_job() {
    let (app, key) = regreen().await;
    let place = repository();
    let file = &documents("gitlab/.gitlab-ci.yml")[0];
    assert_eq!(file["build"]["extends"], ".report_failure");
    let lines = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|line| format!("{}\n", line.as_str().unwrap()))
            .collect::<String>()
    };
    let script = place.write("build.sh", lines(&file["build"]["script"]));
    let ran = place.run(&["bash", "-eo", "pipefail", &script], &[]).await;
    assert_eq!(ran.code, Some(2), "the build fails though tee does not: {}", ran.said);
    let after = place.write("after.sh", lines(&file[".report_failure"]["after_script"]));
    let variables = |status| {
        [
            ("REGREEN_URL", app.base.as_str()),
            ("REGREEN_NAMESPACE", "ci"),
            ("REGREEN_TOKEN", &key),
            ("CI_JOB_STATUS", status),
            ("CI_JOB_ID", "12"),
            ("CI_JOB_NAME", "build"),
            ("CI_JOB_URL", "https://git.example.com/shop/-/jobs/12"),
            ("CI_PIPELINE_ID", "3"),
            ("CI_PROJECT_PATH", "shop/checkout"),
            ("CI_PROJECT_URL", "https://git.example.com/shop/checkout"),
            ("CI_COMMIT_SHA", "0123abc"),
        ]
    };
    let quiet = place.run(&["sh", "-e", &after], &variables("success")).await;
    assert_eq!((quiet.code, quiet.said.as_str()), (Some(0), ""));
    let ran = place.run(&["sh", "-e", &after], &variables("failed")).await;
    let report = told(&app, &key, &ran).await;
    assert_eq!((&report["pod_name"], &report["task"]), (&json!("job-12"), &json!("build")));
    app.stop().await;
}

/// The bodies of a Jenkinsfile's `sh` steps.
fn steps(text: &str) -> Vec<String> {
    let pattern = regex::Regex::new(r"(?s)\bsh (?:'''(.*?)'''|'([^']*)')").unwrap();
    let bodies =
        pattern.captures_iter(text).map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned());
    let bodies: Vec<String> = bodies.collect();
    assert!(every(&bodies, |body| !body.contains('\\')), "Groovy reads backslashes itself");
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn jenkins_reports_a_failed_build() {
    let (app, key) = regreen().await;
    let text = example("jenkins/Jenkinsfile");
    let [build, report, cleanup] = &steps(&text)[..] else { panic!("three steps") };
    for (node, pod, url) in [
        (
            "Agent 7 (built-in)",
            "agent-agent-7--built-in--0",
            "ssh://git@git.example.com:2222/shop/checkout.git",
        ),
        ("maven-x7k2p", "maven-x7k2p", "git@git.example.com:shop/checkout.git"),
    ] {
        let place = repository();
        let [build, report, cleanup] =
            [build, report, cleanup].map(|body| place.write(&format!("{}.sh", body.len()), body));
        // As the plugin runs them, traced.
        let ran = place.run(&["sh", "-xe", &build], &[]).await;
        assert_eq!(ran.code, Some(2), "the build fails though tee does not: {}", ran.said);
        let env = [
            ("REGREEN_URL", app.base.as_str()),
            ("REGREEN_NAMESPACE", "ci"),
            ("REGREEN_TOKEN", &key),
            ("NODE_NAME", node),
            ("JOB_NAME", "shop/checkout"),
            ("BUILD_TAG", "jenkins-shop-checkout-12"),
            ("BUILD_URL", "https://jenkins.example.com/job/12/"),
            ("GIT_URL", url),
            ("GIT_COMMIT", "0123abc"),
        ];
        let ran = place.run(&["sh", "-xe", &report], &env).await;
        assert!(
            ran.code == Some(0) && ran.said.contains("regreen: ") && !ran.said.contains(&key),
            "{}",
            ran.said
        );
        let last = reports(&app, &key).await.pop().unwrap();
        assert_eq!((&last["pod_name"], &last["status"]), (&json!(pod), &json!("done")), "{}", ran.said);
        assert_eq!(
            (&last["repository"], &last["commit"]),
            (&json!("https://git.example.com/shop/checkout"), &json!("0123abc"))
        );
        place.run(&["sh", "-xe", &cleanup], &[]).await;
        assert!(!place.file("build.log").exists() && !place.file("build.status").exists());
        place.program("make", "echo fine");
        let ran = place.run(&["sh", "-xe", &build], &[]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.said);
    }
    assert!(
        text.contains("environment {\n        REGREEN_URL = '") && text.contains("variable: 'REGREEN_TOKEN'")
    );
    app.stop().await;
}
