//! Finds the failed container in a pod's status. Text that is not a manifest yields no container.

use serde_json::Value;

/// Maximum length in bytes of YAML from a server. Objects of a cluster have at most 1.5 MB, and the parser has no deadline.
const MAX_YAML: usize = 4 << 20;

/// Parses YAML or JSON; `None` when the text is invalid or too long.
#[must_use]
pub fn yaml(text: &str) -> Option<Value> {
    if text.len() > MAX_YAML { None } else { serde_norway::from_str(text).ok() }
}

/// The container whose log is relevant.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FailedContainer {
    /// Name of the container.
    pub name: Option<String>,
    /// The container ran before, and that run has its own log.
    pub restarted: bool,
    /// The container has no log.
    pub never_started: bool,
}

/// Returns the failed container, including init containers. Chooses the container that failed first, because others are
/// killed with the pod a moment later. If none failed and the pod has only one container, returns that container.
#[must_use]
pub fn failed_container(pod: &Value) -> FailedContainer {
    let status = &pod["status"];
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let containers: Vec<Value> =
        list("initContainerStatuses").into_iter().chain(list("containerStatuses")).collect();
    let exit = |container: &Value, state: &str| container[state]["terminated"]["exitCode"].as_i64();
    let failed = |container: &&Value| exit(container, "state").is_some_and(|code| code != 0);
    let died_before = |container: &&Value| exit(container, "lastState").is_some_and(|code| code != 0);
    let reason =
        |container: &Value| container["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned();
    let waits = |container: &&Value| {
        !matches!(reason(container).as_str(), "" | "PodInitializing" | "ContainerCreating")
    };
    let ended = |container: &Value, state: &str| {
        container[state]["terminated"]["finishedAt"].as_str().map(str::to_owned)
    };
    let first = containers
        .iter()
        .filter(failed)
        .min_by_key(|container| ended(container, "state").unwrap_or_else(|| "~".to_owned()))
        // A sidecar that failed once long ago is not the current crash.
        .or_else(|| containers.iter().filter(died_before).find(|container| waits(container)))
        .or_else(|| latest(containers.iter().filter(died_before), |container| ended(container, "lastState")))
        .or_else(|| containers.iter().find(waits));
    let Some(first) = first else {
        return FailedContainer { name: only_container(pod), ..FailedContainer::default() };
    };
    let restarted =
        first["restartCount"].as_i64().unwrap_or(0) > 0 || !first["lastState"]["terminated"].is_null();
    FailedContainer {
        name: first["name"].as_str().map(ToOwned::to_owned),
        restarted,
        never_started: waits(&first) && !restarted && first["state"]["terminated"].is_null(),
    }
}

/// Returns the container with the latest time. The first wins among equal or missing times.
fn latest<'a>(
    containers: impl Iterator<Item = &'a Value>,
    time: impl Fn(&Value) -> Option<String>,
) -> Option<&'a Value> {
    let later = |best: &'a Value, next: &'a Value| if time(next) > time(best) { next } else { best };
    containers.reduce(later)
}

fn only_container(pod: &Value) -> Option<String> {
    match pod["spec"]["containers"].as_array()?.as_slice() {
        [one] => one["name"].as_str().map(ToOwned::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(pod: &str) -> FailedContainer {
        failed_container(&yaml(pod).unwrap())
    }

    #[test]
    fn the_container_that_failed_first_is_the_one() {
        let pod = "status:\n  containerStatuses:\n  - name: step-a\n    state: {terminated: {exitCode: 0}}\n  - name: step-c\n    state: {terminated: {exitCode: 1, finishedAt: '2026-01-01T00:00:02Z'}}\n  - name: step-b\n    state: {terminated: {exitCode: 101, finishedAt: '2026-01-01T00:00:01Z'}}\n";
        let found = failed(pod);
        assert_eq!(found.name.as_deref(), Some("step-b"));
        assert!(!found.restarted && !found.never_started);
    }

    #[test]
    fn a_container_that_waits_for_its_image_never_started() {
        let pod = "status: {containerStatuses: [{name: app, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]}";
        let wanted = FailedContainer { name: Some("app".into()), restarted: false, never_started: true };
        assert_eq!(failed(pod), wanted);
    }

    #[test]
    fn what_crashes_now_goes_before_what_died_once() {
        let died = |name: &str, at: &str, state: &str| {
            format!(
                "{{name: {name}, restartCount: 1, lastState: {{terminated: {{exitCode: 1, finishedAt: '{at}'}}}}, state: {state}}}"
            )
        };
        let pod = |states: [String; 2]| format!("status: {{containerStatuses: [{}]}}", states.join(", "));
        let (waiting, running) = ("{waiting: {reason: CrashLoopBackOff}}", "{running: {}}");
        let crashes = pod([
            died("proxy", "2026-01-02T00:00:00Z", running),
            died("app", "2026-01-01T00:00:00Z", waiting),
        ]);
        assert_eq!(failed(&crashes).name.as_deref(), Some("app"));
        let runs = pod([
            died("proxy", "2026-01-01T00:00:00Z", running),
            died("app", "2026-01-02T00:00:00Z", running),
        ]);
        assert_eq!(failed(&runs).name.as_deref(), Some("app"));
    }

    #[test]
    fn where_none_failed_only_a_single_one_is_meant() {
        assert_eq!(failed("spec: {containers: [{name: app}]}").name.as_deref(), Some("app"));
        assert_eq!(failed("spec: {containers: [{name: app}, {name: proxy}]}").name, None);
        assert!(yaml("no: [manifest").is_none());
    }
}
