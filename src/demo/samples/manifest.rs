//! Kubernetes representation of a sample: pod, TaskRun and events.

use super::Sample;
use serde_json::{Value, json};

/// Init containers added by Tekton.
pub(super) const INIT_CONTAINERS: &[&str] = &["prepare", "place-scripts"];
/// Log of the init containers.
pub(super) const INIT_LOG: &str = "2026/11/20 09:12:02 Entrypoint initialization";

const CREATED: &str = "2026-11-20T09:11:58Z";
const STARTED: &str = "2026-11-20T09:12:04Z";
const NODE: &str = "worker-3.example.com";

impl Sample {
    /// Returns the step name in the task.
    fn step(&self) -> &str {
        self.container.trim_start_matches("step-")
    }

    /// Returns the name of the TaskRun.
    pub(in crate::demo) fn task_run(&self) -> &str {
        self.pod.trim_end_matches("-pod")
    }

    /// Returns the name of the PipelineRun.
    fn pipeline_run(&self) -> &str {
        self.task_run().trim_end_matches(self.task).trim_end_matches('-')
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/managed-by": "tekton-pipelines",
            "tekton.dev/memberOf": "tasks",
            "tekton.dev/pipeline": self.pipeline,
            "tekton.dev/pipelineRun": self.pipeline_run(),
            "tekton.dev/pipelineTask": self.task,
            "tekton.dev/taskRun": self.task_run(),
        })
    }

    fn terminated(&self) -> Value {
        json!({"terminated": {
            "exitCode": self.exit_code, "reason": self.reason, "startedAt": STARTED, "finishedAt": self.ended,
            "containerID": "cri-o://7c1b7ad2f4e85b1d8d7bb0a0f0ce6c2c5f0f1c62a9f0b3a3b1a4a5ad6c1de9f0"}})
    }

    /// Returns the waiting state of a container whose image cannot be pulled.
    fn waiting(&self) -> Value {
        json!({"waiting": {
            "reason": self.reason, "message": format!("Back-off pulling image \"{}\"", self.image)}})
    }

    /// Returns the pod as in the Kubernetes API.
    #[must_use]
    pub fn manifest(&self) -> Value {
        let state = if self.started { self.terminated() } else { self.waiting() };
        let init = |name: &&str| {
            json!({"name": name, "image": "registry.example.com/tekton/entrypoint:v1.6.0", "ready": true,
                   "restartCount": 0, "state": {"terminated": {
                       "exitCode": 0, "reason": "Completed", "startedAt": CREATED, "finishedAt": STARTED}}})
        };
        let condition =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": STARTED});
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.pod, "namespace": self.namespace, "creationTimestamp": CREATED,
                "labels": self.labels(),
                "annotations": {"pipeline.tekton.dev/release": "v1.6.0"},
                "ownerReferences": [{"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": self.task_run()}],
            },
            "spec": {
                "nodeName": NODE, "restartPolicy": "Never", "serviceAccountName": "pipeline",
                "containers": [{
                    "name": self.container, "image": self.image, "workingDir": "/workspace/source",
                    "resources": {"limits": {"memory": self.memory}, "requests": {"cpu": "500m", "memory": self.memory}},
                }],
            },
            "status": {
                "phase": if self.started { "Failed" } else { "Pending" },
                "qosClass": "Burstable", "startTime": CREATED,
                "conditions": [
                    condition("PodScheduled", "True"), condition("Initialized", "True"),
                    condition("ContainersReady", "False"), condition("Ready", "False")],
                "initContainerStatuses": INIT_CONTAINERS.iter().map(init).collect::<Vec<_>>(),
                "containerStatuses": [{
                    "name": self.container, "image": self.image, "ready": false, "started": false,
                    "restartCount": i32::from(self.previous_log.is_some()), "state": state,
                    "lastState": if self.previous_log.is_some() { self.terminated() } else { json!({}) }}],
            },
        })
    }

    /// Returns the TaskRun of the pod.
    pub(in crate::demo) fn task_run_manifest(&self) -> Value {
        let (step, code) = (self.container, self.exit_code);
        let (reason, message) = if self.started {
            ("Failed", format!("\"{step}\" exited with code {code}: {}", self.reason))
        } else {
            let message = format!(
                "the step \"{}\" in TaskRun \"{}\" failed to pull the image \"{}\". The pod errored with the message: \"Back-off pulling image \"{}\".\"",
                self.step(),
                self.task_run(),
                self.image,
                self.image
            );
            ("TaskRunImagePullFailed", message)
        };
        let mut steps = json!({"name": self.step(), "container": step});
        if self.started {
            steps["terminated"] = self.terminated()["terminated"].clone();
            steps["terminationReason"] = json!(self.reason);
        }
        json!({
            "apiVersion": "tekton.dev/v1",
            "kind": "TaskRun",
            "metadata": {"name": self.task_run(), "namespace": self.namespace, "creationTimestamp": CREATED,
                         "labels": self.labels()},
            "spec": {"serviceAccountName": "pipeline", "taskRef": {"kind": "Task", "name": self.task}, "timeout": "1h0m0s"},
            "status": {
                "podName": self.pod, "startTime": CREATED, "completionTime": self.ended,
                "conditions": [{"type": "Succeeded", "status": "False", "reason": reason, "message": message}],
                "steps": [steps],
            },
        })
    }

    /// Prepends the events of a normal pod start.
    pub(super) fn with_start_events(mut self) -> Self {
        let pod = format!("{}/{}", self.namespace, self.pod);
        let mut events = vec![("Normal", "Scheduled", format!("Successfully assigned {pod} to {NODE}"))];
        if self.started {
            let present = format!("Container image \"{}\" already present on machine", self.image);
            events.extend([
                ("Normal", "Pulled", present),
                ("Normal", "Created", format!("Created container: {}", self.container)),
                ("Normal", "Started", format!("Started container {}", self.container)),
            ]);
        }
        events.append(&mut self.events);
        self.events = events;
        self
    }

    /// Returns the events in the format of kubernetes-mcp-server, oldest first.
    #[must_use]
    pub fn event_list(&self) -> Vec<Value> {
        let shown = |(position, (kind, reason, message)): (usize, &(&str, &str, String))| {
            // All events are within one minute of creation, which limits their number.
            let second = 59.min(position * 3 + 2);
            json!({
                "InvolvedObject": {"Kind": "Pod", "Name": self.pod, "apiVersion": "v1"},
                "Message": message, "Namespace": self.namespace, "Reason": reason,
                "Timestamp": format!("2026-11-20 09:12:{second:02} +0000 UTC"), "Type": kind,
            })
        };
        self.events.iter().enumerate().map(shown).collect()
    }
}
