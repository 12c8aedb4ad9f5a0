//! Kinds of resources by what a call names: those of one namespace that a diagnosis needs, and those that hold credentials. The
//! first is a list of what is allowed: what is not known may be of the whole cluster, and then a namespace beside it says nothing.

use super::arguments::folded;
use super::rule::Rule;
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

/// Part of the name of each kind that holds credentials, or hands them on: letters and digits in lower case.
const CREDENTIALS: [&str; 11] = [
    "secret",
    "token",
    "credential",
    "password",
    "passphrase",
    "privatekey",
    "oauthclient",
    "kubeconfig",
    "kubeadmconfig",
    "machineconfig",
    "controllerconfig",
];
/// Short names of such kinds.
const SHORT_CREDENTIALS: [&str; 6] = ["es", "ces", "ss", "css", "mc", "kubeadmconfigs"];
/// Names under which the kind of a resource is given.
pub(super) const NAMES: [&str; 9] = [
    "kind",
    "kinds",
    "resource",
    "resources",
    "resourcekind",
    "resourcetype",
    "resourcetypes",
    "objectkind",
    "objecttype",
];
/// Names of arguments in whose text a kind can stand: an address, or a command.
const TEXTS: [&str; 17] = [
    "command",
    "commands",
    "cmd",
    "args",
    "arguments",
    "argv",
    "extraargs",
    "kubectlargs",
    "path",
    "uri",
    "url",
    "rawpath",
    "apipath",
    "endpoint",
    "selflink",
    "resourceuri",
    "resourceurl",
];

/// A kind that holds credentials, by what a call names: the way to the argument, and the word. Wherever it stands, however it is
/// spelled: its case, plural, short name, group, characters that nobody sees.
pub(super) fn credential(arguments: &Value) -> Option<(Vec<String>, String)> {
    look(arguments, &mut Vec::new(), false)
}

fn look(value: &Value, path: &mut Vec<String>, is_named: bool) -> Option<(Vec<String>, String)> {
    match value {
        Value::Object(map) => map.iter().find_map(|(key, inner)| {
            let name = folded(key);
            let is_kind = NAMES.contains(&name.as_str());
            // What is to be written may speak of them: a Pod that uses one.
            let is_manifest =
                is_kind && inner.as_str().is_some_and(|text| text.contains('\n') && text.contains(':'));
            let is_named = !is_manifest && (is_kind || TEXTS.contains(&name.as_str()));
            path.push(key.clone());
            let found = look(inner, path, is_named);
            path.pop();
            found
        }),
        Value::Array(items) => items.iter().find_map(|item| look(item, path, is_named)),
        Value::String(text) if is_named => holding(text).map(|word| (path.clone(), word)),
        _ => None,
    }
}

/// The word of a text that names such a kind. The text as a whole too: letters may be parted by what nobody sees.
fn holding(text: &str) -> Option<String> {
    let holds =
        |word: &str| CREDENTIALS.iter().any(|part| word.contains(part)) || SHORT_CREDENTIALS.contains(&word);
    let words = text.split(|c: char| c.is_whitespace() || ".,;/:|=&?\"'".contains(c)).map(folded);
    words.chain([folded(text)]).find(|word| holds(word))
}

/// Whether a rule names the word for that argument: it pins it, lists it, or its regular expression spells it.
pub(super) fn is_named_by(rule: &Rule, path: &[String], word: &str) -> bool {
    let same = |value: &Value| {
        let texts = value.as_array().map_or_else(|| vec![value], |all| all.iter().collect());
        texts
            .iter()
            .filter_map(|text| text.as_str())
            .any(|text| holding(text).is_some_and(|held| alike(&held, word)))
    };
    let pinned = rule.pins.iter().any(|(of, value)| of.as_slice() == path && same(value));
    let checked = rule.checks.iter().filter(|(of, _)| of.as_slice() == path).any(|(_, check)| {
        let listed = check.one_of.iter().flatten().any(same);
        let spelled = check.regex.as_ref().is_some_and(|regex| {
            let said = folded(regex.as_str());
            CREDENTIALS.iter().any(|part| said.contains(part) && word.contains(part))
        });
        listed || spelled
    });
    pinned || checked
}

/// Whether two words are forms of one.
fn alike(one: &str, other: &str) -> bool {
    forms(one).any(|form| forms(other).any(|of_other| of_other == form))
}

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

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
