//! Identifies the workload of a failed pod by properties that are stable across runs. Owner references and labels are set
//! by the workload itself, so a scope is valid only within its namespace.

use super::pod::failed_container;
use super::template::mask;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// Maximum length of a name read from a pod, in characters.
const MAX_NAME: usize = 300;

/// Build number with an optional random suffix: `_12-x7f2k`, `-12-x7f2k`.
static BUILD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[_-]\d+(?:-[a-z0-9]{5})?$").expect("a fixed pattern"));
/// Hash of a ReplicaSet, for pods without the label that contains it.
static HASH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-[bcdfghjklmnpqrstvwxz2456789]{8,10}$").expect("a fixed pattern"));
/// Time in the name of a CronJob's Job: minutes since 1970.
static SCHEDULED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"-\d{7,10}$").expect("a fixed pattern"));
/// Retry number of Argo: `build(1)`.
static TRY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\(\d+\)$").expect("a fixed pattern"));

/// The workload that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Kind of workload: `tekton`, `jenkins`, `deployment`, …
    pub kind: &'static str,
    /// Name of the pipeline, deployment or job.
    pub name: String,
    /// Task or stage within the pipeline.
    pub task: Option<String>,
    /// The container that failed.
    pub container: Option<String>,
}

impl Workload {
    /// Returns the workload of a pod; `None` when the value is not a pod.
    #[must_use]
    pub fn of(pod: &Value) -> Option<Self> {
        let name = text(&pod["metadata"]["name"])?;
        let known = [jenkins, tekton, argo, owner, application].iter().find_map(|known| known(pod));
        let (kind, name, task) = known.unwrap_or_else(|| ("pod", mask(&name), None));
        Some(Self { kind, name, task, container: failed_container(pod).name })
    }

    /// Returns pipeline and task if the workload is a pipeline that a reporter would name.
    #[must_use]
    pub fn pipeline(&self) -> Option<(&str, Option<&str>)> {
        let is_pipeline = matches!(self.kind, "tekton" | "argo" | "jenkins");
        is_pipeline.then_some((self.name.as_str(), self.task.as_deref()))
    }

    /// Returns a unique text for the workload.
    #[must_use]
    pub fn key(&self) -> String {
        serde_json::json!([self.kind, self.name, self.task, self.container]).to_string()
    }
}

type Known = (&'static str, String, Option<String>);

fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().take(MAX_NAME).collect())
}

fn label(pod: &Value, name: &str) -> Option<String> {
    text(&pod["metadata"]["labels"][name])
}

fn annotation(pod: &Value, name: &str) -> Option<String> {
    text(&pod["metadata"]["annotations"][name])
}

/// Agents of the Jenkins Kubernetes plugin: the job path without the build number, or else the label of the pod template.
fn jenkins(pod: &Value) -> Option<Known> {
    let label_of_template = label(pod, "jenkins/label");
    label_of_template.as_ref().or(label(pod, "jenkins").as_ref())?;
    let job = annotation(pod, "runUrl").map(|url| {
        let path = url.trim_matches('/');
        let digits = |last: &str| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        path.rsplit_once('/').filter(|(_, last)| digits(last)).map_or(path, |(job, _)| job).to_owned()
    });
    let name = job.or_else(|| Some(BUILD.replace(&label_of_template?, "").into_owned()))?;
    Some(("jenkins", name, None))
}

/// A task of a Tekton pipeline, or a standalone task. For a pipeline embedded in its run, the label contains the name of
/// the run.
fn tekton(pod: &Value) -> Option<Known> {
    let task = ["tekton.dev/pipelineTask", "tekton.dev/task", "tekton.dev/clusterTask"];
    let task = task.iter().find_map(|name| label(pod, name));
    let run = label(pod, "tekton.dev/pipelineRun");
    // Pipelines as Code sets the name of the original pipeline.
    let pipeline = label(pod, "pipelinesascode.tekton.dev/original-prname").or_else(|| {
        let pipeline = label(pod, "tekton.dev/pipeline")?;
        Some(if run.as_ref() == Some(&pipeline) { mask(&pipeline) } else { pipeline })
    });
    let pipeline = pipeline.or_else(|| run.as_deref().map(mask));
    match (pipeline, task) {
        (Some(pipeline), task) => Some(("tekton", pipeline, task)),
        (None, Some(task)) => Some(("tekton-task", task, None)),
        (None, None) => Some(("tekton-task", mask(&label(pod, "tekton.dev/taskRun")?), None)),
    }
}

/// A node of an Argo workflow.
fn argo(pod: &Value) -> Option<Known> {
    let named = ["cron-workflow", "workflow-template", "cluster-workflow-template"];
    let template = named.iter().find_map(|name| label(pod, &format!("workflows.argoproj.io/{name}")));
    let workflow = label(pod, "workflows.argoproj.io/workflow");
    let name = template.or_else(|| workflow.as_deref().map(mask))?;
    let node = annotation(pod, "workflows.argoproj.io/node-name").map(|node| {
        let within = workflow.as_deref().and_then(|workflow| node.strip_prefix(workflow)).unwrap_or(&node);
        TRY.replace(within.trim_start_matches('.'), "").into_owned()
    });
    Some(("argo", name, node.filter(|node| !node.is_empty())))
}

/// The owner of the pod.
fn owner(pod: &Value) -> Option<Known> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owners = owners.map(Vec::as_slice).unwrap_or_default();
    let controls = |owner: &&Value| owner["controller"] == true;
    let first = owners.iter().find(controls).or_else(|| owners.first());
    let (kind, name) = match first {
        Some(first) => (first["kind"].as_str().unwrap_or_default(), text(&first["name"])?),
        None => {
            let job = ["batch.kubernetes.io/job-name", "job-name"];
            ("Job", job.iter().find_map(|name| label(pod, name))?)
        }
    };
    let known = match kind {
        "Job" => ("job", job(pod, &name)),
        "ReplicaSet" => ("deployment", without_hash(pod, &name)),
        "ReplicationController" => {
            let config = annotation(pod, "openshift.io/deployment-config.name");
            (
                "deploymentconfig",
                config.or_else(|| label(pod, "deploymentconfig")).unwrap_or_else(|| mask(&name)),
            )
        }
        "Build" => {
            let config = annotation(pod, "openshift.io/build-config.name");
            ("buildconfig", config.unwrap_or_else(|| BUILD.replace(&name, "").into_owned()))
        }
        "StatefulSet" => ("statefulset", name),
        "DaemonSet" => ("daemonset", name),
        // The name of a static pod ends with the name of its node.
        "Node" => {
            let own = text(&pod["metadata"]["name"])?;
            ("static", own.strip_suffix(&format!("-{name}")).unwrap_or(&own).to_owned())
        }
        other => return Some(("owner", format!("{other}/{}", mask(&name)), None)),
    };
    Some((known.0, known.1, None))
}

/// Returns the CronJob's name, or else the Job's name without parts that change from run to run.
fn job(pod: &Value, name: &str) -> String {
    let cron = ["batch.kubernetes.io/cronjob-name", "cronjob-name", "cronjob"];
    let cron = cron.iter().find_map(|label_name| label(pod, label_name));
    cron.unwrap_or_else(|| {
        let scheduled = SCHEDULED.replace(name, "");
        if scheduled.is_empty() || scheduled == name { mask(name) } else { scheduled.into_owned() }
    })
}

/// Derives a Deployment's name from its ReplicaSet.
fn without_hash(pod: &Value, name: &str) -> String {
    let hashes = ["pod-template-hash", "rollouts-pod-template-hash"];
    let told = hashes.iter().find_map(|hash| label(pod, hash));
    let stripped = told.and_then(|hash| name.strip_suffix(&format!("-{hash}")).map(str::to_owned));
    stripped.unwrap_or_else(|| HASH.replace(name, "").into_owned())
}

/// A pod without an owner, identified by its application labels.
fn application(pod: &Value) -> Option<Known> {
    let name = label(pod, "app.kubernetes.io/name");
    let instance = label(pod, "app.kubernetes.io/instance");
    let component = label(pod, "app.kubernetes.io/component");
    let plain = ["app", "k8s-app"].iter().find_map(|name| label(pod, name));
    let name = match (name, instance) {
        (Some(name), Some(instance)) if name != instance => format!("{name}/{}", mask(&instance)),
        (Some(name), _) => name,
        (None, Some(instance)) => mask(&instance),
        (None, None) => plain?,
    };
    Some(("app", name, component))
}

/// Normalizes white space and case in the name of a pipeline or task.
#[must_use]
pub fn plain_name(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
