//! Kinds of resources that are of one namespace and that a diagnosis needs. A list of what is allowed: what is not known may be
//! of the whole cluster, and then a namespace beside it says nothing.

use serde_json::Value;

/// Singular, in lower case. No secrets, nothing of the whole cluster.
const PLAIN: [&str; 44] = [
    "pod",
    "event",
    "job",
    "cronjob",
    "deployment",
    "replicaset",
    "statefulset",
    "daemonset",
    "replicationcontroller",
    "controllerrevision",
    "service",
    "endpoints",
    "endpointslice",
    "ingress",
    "networkpolicy",
    "configmap",
    "persistentvolumeclaim",
    "resourcequota",
    "limitrange",
    "horizontalpodautoscaler",
    "poddisruptionbudget",
    "lease",
    "serviceaccount",
    "podmetrics",
    "taskrun",
    "pipelinerun",
    "customrun",
    "task",
    "pipeline",
    "eventlistener",
    "workflow",
    "workflowtemplate",
    "cronworkflow",
    "rollout",
    "build",
    "buildrun",
    "buildconfig",
    "deploymentconfig",
    "imagestream",
    "imagestreamtag",
    "route",
    "virtualmachine",
    "virtualmachineinstance",
    "workload",
];
const SHORT: [&str; 18] = [
    "po", "ev", "cj", "deploy", "rs", "sts", "ds", "rc", "svc", "ep", "ing", "netpol", "cm", "pvc", "quota",
    "limits", "hpa", "pdb",
];
/// What a word may not be, wherever it stands.
const CLOSED: [&str; 12] = [
    "all",
    "secret",
    "sealedsecret",
    "externalsecret",
    "namespace",
    "project",
    "node",
    "persistentvolume",
    "clusterrole",
    "clusterrolebinding",
    "customresourcedefinition",
    "certificatesigningrequest",
];

/// Whether a value names nothing but kinds of one namespace.
pub(super) fn are_plain(value: &Value) -> bool {
    match value {
        Value::String(kind) => is_plain(kind),
        Value::Array(kinds) => {
            !kinds.is_empty() && kinds.iter().all(|kind| kind.as_str().is_some_and(is_plain))
        }
        _ => false,
    }
}

fn is_plain(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    SHORT.contains(&kind.as_str()) || forms(&kind).any(|form| PLAIN.contains(&form.as_str()))
}

/// Whether a word names a kind that nothing here may read.
pub(super) fn is_closed(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    forms(&word).any(|form| CLOSED.contains(&form.as_str()))
}

/// As it is, and as the singular that it may be the plural of.
fn forms(word: &str) -> impl Iterator<Item = String> {
    let cut = |end: &str, more: &str| word.strip_suffix(end).map(|stem| format!("{stem}{more}"));
    let all = [Some(word.to_owned()), cut("s", ""), cut("es", ""), cut("ies", "y")];
    all.into_iter().flatten()
}
