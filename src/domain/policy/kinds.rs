//! Resource kinds in tool arguments: namespaced kinds that a diagnosis needs, and kinds that hold credentials. The first
//! list is an allowlist, because an unknown kind may be cluster-scoped, and a namespace argument does not restrict such a
//! kind.

use super::arguments::folded;
use super::rule::Rule;
use serde_json::Value;

/// Allowed kinds, singular and lower case. No secrets and no cluster-scoped kinds.
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
/// Kinds that are rejected in any argument whose name ends in `type`.
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

/// Substrings of the names of kinds that hold or distribute credentials, in lower case without punctuation.
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
/// Short names of kinds that hold or distribute credentials.
const SHORT_CREDENTIALS: [&str; 6] = ["es", "ces", "ss", "css", "mc", "kubeadmconfigs"];
/// Names of arguments that specify a resource kind.
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
/// Names of arguments whose text may contain a kind, such as an address or a command.
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

/// Finds a kind that holds credentials. Returns the path of the argument and the matching word. Detects any spelling: case,
/// plural, short name, group, invisible characters.
pub(super) fn credential(arguments: &Value) -> Option<(Vec<String>, String)> {
    look(arguments, &mut Vec::new(), false)
}

fn look(value: &Value, path: &mut Vec<String>, is_named: bool) -> Option<(Vec<String>, String)> {
    match value {
        Value::Object(map) => map.iter().find_map(|(key, inner)| {
            let name = folded(key);
            let is_kind = NAMES.contains(&name.as_str());
            // A manifest to write may mention such kinds, for example a Pod that uses a Secret.
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

/// Returns the word that names such a kind. Also checks the text as a whole, because invisible characters may separate the
/// letters.
fn holding(text: &str) -> Option<String> {
    let holds =
        |word: &str| CREDENTIALS.iter().any(|part| word.contains(part)) || SHORT_CREDENTIALS.contains(&word);
    let words = text.split(|c: char| c.is_whitespace() || ".,;/:|=&?\"'".contains(c)).map(folded);
    words.chain([folded(text)]).find(|word| holds(word))
}

/// Whether a rule names the word for this argument: in a pin, in a list of values, or in a regular expression.
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

/// Whether two words are forms of the same word.
fn alike(one: &str, other: &str) -> bool {
    forms(one).any(|form| forms(other).any(|of_other| of_other == form))
}

/// Whether a value names only allowed namespaced kinds.
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

/// Whether a word names a rejected kind.
pub(super) fn is_closed(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    forms(&word).any(|form| CLOSED.contains(&form.as_str()))
}

/// Returns the word and its possible singular forms.
fn forms(word: &str) -> impl Iterator<Item = String> {
    let cut = |end: &str, more: &str| word.strip_suffix(end).map(|stem| format!("{stem}{more}"));
    let all = [Some(word.to_owned()), cut("s", ""), cut("es", ""), cut("ies", "y")];
    all.into_iter().flatten()
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
