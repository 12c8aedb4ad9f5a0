//! Tests of the simulated cluster's tools.

use super::*;

fn call(name: &str, arguments: &Value) -> Result<String, String> {
    let tools = tools(Arc::new(samples()));
    let tool = tools.iter().find(|tool| tool.name == name).expect("a tool of that name");
    (tool.run)(arguments).map(|value| value.as_str().expect("text").to_owned())
}

#[test]
fn a_log_is_cut_to_its_end_unless_more_is_asked_for() {
    let pod = json!({"namespace": "ci", "name": "importer-nightly-t5j9k-import-pod"});
    let lines = |tail: Value| {
        let mut arguments = pod.clone();
        arguments["tail"] = tail;
        call("pods_log", &arguments).expect("a log").lines().count()
    };
    assert_eq!((lines(Value::Null), lines(json!(0)), lines(json!(7))), (100, 100, 7));
    assert!(lines(json!(1_000_000)) > 19_000);
    assert!(call("pods_log", &pod).expect("a log").ends_with("Killed"));
}

#[test]
fn a_missing_log_is_an_error_in_words() {
    let waiting = json!({"name": "webshop-build-r2f5g-lint-pod", "namespace": "ci"});
    let why = call("pods_log", &waiting).expect_err("never started");
    assert!(why.starts_with("failed to get pod webshop-build-r2f5g-lint-pod log in namespace ci:"), "{why}");
    let why = call("pods_log", &json!({"name": "nobody"})).expect_err("no such pod");
    assert!(why.ends_with("pods \"nobody\" not found"), "{why}");
    assert!(
        call("pods_get", &json!({"name": "webshop-build-r2f5g-lint-pod", "namespace": "other"})).is_err()
    );
}

#[test]
fn pods_and_task_runs_are_yaml() {
    let of = |text: String| serde_norway::from_str::<Value>(&text).expect("YAML");
    let pod = of(call("pods_get", &json!({"name": "importer-nightly-t5j9k-import-pod"})).expect("a pod"));
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "OOMKilled");
    let ask = |kind: &str, name: &str, api: &str| {
        call("resources_get", &json!({"apiVersion": api, "kind": kind, "name": name, "namespace": "ci"}))
    };
    let run = of(ask("TaskRun", "webshop-build-r2f5g-lint", "tekton.dev/v1").expect("a TaskRun"));
    assert_eq!(run["status"]["conditions"][0]["reason"], "TaskRunImagePullFailed");
    assert_eq!(run["status"]["podName"], "webshop-build-r2f5g-lint-pod");
    assert!(ask("Pod", "webshop-build-r2f5g-lint-pod", "v1").is_ok());
    assert!(
        ask("TaskRun", "none", "tekton.dev/v1").is_err_and(|why| why.contains("taskruns \"none\" not found"))
    );
    assert!(ask("Secret", "any", "v1").is_err_and(|why| why.contains("no matches for kind")));
}

#[test]
fn events_and_pods_of_a_namespace_are_listed() {
    let events = call("events_list", &json!({"namespace": "ci"})).expect("events");
    let (head, list) = events.split_once('\n').expect("a head");
    assert_eq!(head, "# The following events (YAML format) were found:");
    let list: Vec<Value> = serde_norway::from_str(list).expect("YAML");
    assert!(
        list.iter().any(|event| event["Message"]
            .as_str()
            .is_some_and(|text| text.starts_with("Failed to pull image")))
    );
    assert_eq!(call("events_list", &json!({})).expect("events"), events);
    assert_eq!(call("events_list", &json!({"namespace": "none"})).expect("none"), "# No events found");
    let table = call("pods_list_in_namespace", &json!({"namespace": "ci"})).expect("pods");
    assert_eq!(table.lines().count(), samples().len() + 1);
}

#[test]
fn the_one_tool_that_destroys_says_so_and_does_nothing() {
    let tools = tools(Arc::new(samples()));
    let destroys: Vec<_> =
        tools.iter().filter(|tool| tool.effect != Effect::Reads).map(|tool| tool.name).collect();
    assert_eq!(destroys, ["pods_delete"]);
    let why = call("pods_delete", &json!({"name": "webshop-build-r2f5g-lint-pod"})).expect_err("refused");
    assert!(why.contains("is forbidden"), "{why}");
}

#[tokio::test]
async fn it_starts_and_stops() {
    let shutdown = Shutdown::new();
    let url = start(&shutdown).await.expect("starts");
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/sse"), "{url}");
    assert!(shutdown.finish(std::time::Duration::from_secs(20)).await);
}
