//! Sample failures: pods as a cluster shows them, with logs as real tools write them. The same at every start.

mod builds;
mod platform;
mod tests_failing;
mod writer;

use crate::domain::FailureClass;
use serde_json::{Value, json};

/// Namespace of all samples.
pub const NAMESPACE: &str = "ci";

/// A failed pod.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Short name.
    pub slug: &'static str,
    /// What happened, for people.
    pub title: &'static str,
    /// Namespace.
    pub namespace: &'static str,
    /// Pod.
    pub pod: &'static str,
    /// The container that failed.
    pub container: &'static str,
    /// Pipeline the pod belongs to.
    pub pipeline: &'static str,
    /// Why the container is not well, as Kubernetes says it.
    pub reason: &'static str,
    /// Its exit code.
    pub exit_code: i32,
    /// Whether it ever ran.
    pub started: bool,
    /// Its log.
    pub log: String,
    /// The log before its restart.
    pub previous_log: Option<String>,
    /// Events: type, reason, message.
    pub events: Vec<(&'static str, &'static str, String)>,
    /// Words that a right diagnosis has in its title or cause.
    pub cause_words: &'static [&'static str],
    /// The right class.
    pub class: FailureClass,
}

/// All samples; the first one is what the demonstration reports.
#[must_use]
pub fn samples() -> Vec<Sample> {
    vec![
        builds::maven_dependency(),
        builds::rust_compile(),
        tests_failing::surefire(),
        tests_failing::python_import(),
        tests_failing::go_vet(),
        platform::image_pull(),
        platform::out_of_memory(),
        platform::registry_auth(),
        platform::disk_full(),
        platform::dns(),
        platform::git_clone(),
        platform::helm_upgrade(),
    ]
}

/// The sample of that short name.
#[must_use]
pub fn sample(slug: &str) -> Option<Sample> {
    samples().into_iter().find(|sample| sample.slug == slug)
}

impl Sample {
    /// The pod as the API server shows it.
    #[must_use]
    pub fn manifest(&self) -> Value {
        let ended = json!({"terminated": {
            "exitCode": self.exit_code, "reason": self.reason,
            "startedAt": "2026-11-20T09:12:04Z", "finishedAt": "2026-11-20T09:19:47Z"}});
        let state = if self.started { ended.clone() } else { json!({"waiting": {"reason": self.reason}}) };
        let restarted = self.previous_log.is_some();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.pod, "namespace": self.namespace,
                "labels": {"tekton.dev/pipeline": self.pipeline, "tekton.dev/memberOf": "tasks", "app.kubernetes.io/managed-by": "tekton-pipelines"}},
            "spec": {"nodeName": "worker-3", "restartPolicy": "Never", "containers": [{"name": self.container, "image": "registry.example.com/ci/builder:2026.11"}]},
            "status": {
                "phase": if self.started { "Failed" } else { "Pending" },
                "containerStatuses": [{
                    "name": self.container, "ready": false, "restartCount": i32::from(restarted),
                    "state": state, "lastState": if restarted { ended } else { json!({}) }}]},
        })
    }

    /// Its events as the field's server prints them.
    #[must_use]
    pub fn event_list(&self) -> Vec<Value> {
        let object = json!({"Kind": "Pod", "Name": self.pod, "apiVersion": "v1"});
        let event = |(kind, reason, message): &(&str, &str, String)| {
            json!({"InvolvedObject": object, "Message": message, "Namespace": self.namespace, "Reason": reason,
                   "Timestamp": "2026-11-20 09:19:47 +0000 UTC", "Type": kind})
        };
        self.events.iter().map(event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_long_deterministic_and_hold_their_cause() {
        let all = samples();
        assert!(all.len() >= 12);
        for (one, two) in all.iter().zip(samples()) {
            assert_eq!(one.log, two.log, "{}", one.slug);
            let lines = one.log.lines().count();
            assert!(!one.started || (200..=20_000).contains(&lines), "{}: {lines} lines", one.slug);
            let everything = format!("{} {:?} {}", one.log, one.events, one.manifest());
            for word in one.cause_words {
                assert!(everything.contains(word), "{}: nothing says {word}", one.slug);
            }
        }
        assert!(all.iter().any(|sample| sample.log.lines().count() > 15_000));
    }
}
