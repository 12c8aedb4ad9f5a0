//! Tests of workload detection for all supported kinds of pods.

use super::*;
use serde_json::json;

fn of(metadata: Value) -> (String, Option<String>) {
    let workload = Workload::of(&json!({"metadata": metadata})).unwrap();
    (format!("{}:{}", workload.kind, workload.name), workload.task)
}

fn owned(name: &str, kind: &str, owner: &str, labels: &Value) -> String {
    let owners =
        json!([{"kind": "Other", "name": "not-this"}, {"kind": kind, "name": owner, "controller": true}]);
    of(json!({"name": name, "labels": labels, "ownerReferences": owners})).0
}

#[test]
fn owners_are_told_without_what_changes_from_run_to_run() {
    let hash = json!({"pod-template-hash": "7f9c6d5b4"});
    for (name, kind, owner, labels, wanted) in [
        ("web-7f9c6d5b4-x2kqz", "ReplicaSet", "web-7f9c6d5b4", &hash, "deployment:web"),
        ("web-5c8d7b6f9-zz9vx", "ReplicaSet", "web-5c8d7b6f9", &json!({}), "deployment:web"),
        ("db-0", "StatefulSet", "db", &json!({}), "statefulset:db"),
        ("logs-x2kqz", "DaemonSet", "logs", &json!({}), "daemonset:logs"),
        ("nightly-29387520-x2kqz", "Job", "nightly-29387520", &json!({}), "job:nightly"),
        ("nightly-29388960-bvcxz", "Job", "nightly-29388960", &json!({}), "job:nightly"),
        ("x-bvcxz", "Job", "x", &json!({"batch.kubernetes.io/cronjob-name": "nightly"}), "job:nightly"),
        ("build-42-bvcxz", "Job", "build-42", &json!({}), "job:build-<n>"),
        ("migrate-v2-bvcxz", "Job", "migrate-v2", &json!({}), "job:migrate-v2"),
        ("app-3-build", "Build", "app-3", &json!({}), "buildconfig:app"),
        (
            "shop-12-x2kqz",
            "ReplicationController",
            "shop-12",
            &json!({"deploymentconfig": "shop"}),
            "deploymentconfig:shop",
        ),
        ("etcd-master-0", "Node", "master-0", &json!({}), "static:etcd"),
        ("agent-x2kqz", "Runner", "pool-x2kqz", &json!({}), "owner:Runner/pool-<pod>"),
    ] {
        assert_eq!(owned(name, kind, owner, labels), wanted, "{name}");
    }
    let alone = json!({"name": "once-x2kqz", "labels": {"batch.kubernetes.io/job-name": "once"}});
    assert_eq!(of(alone).0, "job:once");
}

#[test]
fn pipelines_are_told_by_their_labels() {
    let tekton = |labels: Value| of(json!({"name": "run-x2kqz-build-pod", "labels": labels}));
    let task = |name: &str| Some(name.to_owned());
    let of_pipeline = json!({"tekton.dev/pipeline": "ci", "tekton.dev/pipelineRun": "ci-x2kqz", "tekton.dev/pipelineTask": "build", "tekton.dev/task": "maven"});
    assert_eq!(tekton(of_pipeline), ("tekton:ci".into(), task("build")));
    // A pipeline embedded in its run.
    let embedded = |run: &str| {
        tekton(
            json!({"tekton.dev/pipeline": run, "tekton.dev/pipelineRun": run, "tekton.dev/pipelineTask": "build"}),
        )
    };
    assert_eq!(embedded("ci-x2kqz"), embedded("ci-zz9vx"));
    assert_eq!(
        tekton(json!({"tekton.dev/task": "maven", "tekton.dev/taskRun": "maven-x2kqz"})).0,
        "tekton-task:maven"
    );
    assert_eq!(tekton(json!({"tekton.dev/taskRun": "maven-x2kqz"})).0, "tekton-task:maven-<pod>");
    let argo = |workflow: &str, node: &str, template: Option<&str>| {
        of(json!({"name": "p", "annotations": {"workflows.argoproj.io/node-name": node},
            "labels": {"workflows.argoproj.io/workflow": workflow, "workflows.argoproj.io/workflow-template": template}}))
    };
    assert_eq!(argo("ci-x2kqz", "ci-x2kqz.build(0)", None), ("argo:ci-<pod>".into(), task("build")));
    assert_eq!(argo("ci-zz9vx", "ci-zz9vx.build(2)", None), ("argo:ci-<pod>".into(), task("build")));
    assert_eq!(argo("ci-zz9vx", "ci-zz9vx", Some("ci")), ("argo:ci".into(), None));
    let jenkins = |run: Option<&str>, label: &str| {
        of(json!({"name": "p", "annotations": {"runUrl": run}, "labels": {"jenkins": "slave", "jenkins/label": label}})).0
    };
    assert_eq!(jenkins(Some("job/team/job/app/12/"), "app_12-x7f2k"), "jenkins:job/team/job/app");
    assert_eq!(jenkins(None, "app_12-x7f2k"), "jenkins:app");
    assert_eq!(jenkins(None, "maven"), "jenkins:maven");
}

#[test]
fn a_pod_that_nothing_owns_is_told_by_its_application_else_by_its_name() {
    let app = |labels: Value| of(json!({"name": "shop-x2kqz", "labels": labels}));
    assert_eq!(
        app(json!({"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "db"})),
        ("app:shop".into(), Some("db".into()))
    );
    assert_eq!(
        app(json!({"app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": "blue"})).0,
        "app:shop/blue"
    );
    assert_eq!(app(json!({"app": "shop"})).0, "app:shop");
    assert_eq!(app(json!({"app": " "})).0, "pod:shop-<pod>");
    assert!(Workload::of(&json!({"kind": "Pod"})).is_none());
}

#[test]
fn no_name_passes_for_two() {
    let workload = |name: &str, task: Option<&str>| Workload {
        kind: "tekton",
        name: name.into(),
        task: task.map(str::to_owned),
        container: None,
    };
    assert_ne!(workload("a\",\"b", None).key(), workload("a", Some("b")).key());
    assert_eq!(plain_name("  My   Pipeline "), plain_name("my pipeline"));
}
