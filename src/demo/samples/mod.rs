//! Sample failures: pods of a cluster with realistic logs, including the usual noise around the cause. Generated from
//! fixed seeds, so that they are the same at every start.

mod containers;
mod git;
mod go;
mod helm;
mod java;
mod manifest;
mod maven;
mod memory;
mod node;
mod python;
mod rust;
#[cfg(test)]
mod tests;
mod writer;

use crate::domain::FailureClass;
use writer::Log;

/// Namespace of all samples and default namespace of the simulated cluster.
pub const NAMESPACE: &str = "ci";

/// A failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Short name.
    pub slug: &'static str,
    /// Description of the failure.
    pub title: &'static str,
    /// Namespace.
    pub namespace: &'static str,
    /// Pod name.
    pub pod: &'static str,
    /// Name of the failed container.
    pub container: &'static str,
    /// Container image.
    pub image: &'static str,
    /// Memory limit of the container.
    pub memory: &'static str,
    /// Name of the pipeline.
    pub pipeline: &'static str,
    /// Name of the pipeline task.
    pub task: &'static str,
    /// Kubernetes reason of the container state.
    pub reason: &'static str,
    /// Exit code.
    pub exit_code: i32,
    /// Whether the container ever started.
    pub started: bool,
    /// End time, RFC 3339.
    pub ended: String,
    /// Its log.
    pub log: String,
    /// Log of the run before the restart.
    pub previous_log: Option<String>,
    /// Events, oldest first: type, reason, message.
    pub events: Vec<(&'static str, &'static str, String)>,
    /// Words required in the title or cause of a correct diagnosis.
    pub cause_words: &'static [&'static str],
    /// Correct failure class.
    pub class: FailureClass,
}

/// Returns all samples; the first one is the demo's default.
#[must_use]
pub fn samples() -> Vec<Sample> {
    [
        java::missing_artifact(),
        rust::compile_error(),
        java::failing_tests(),
        python::missing_module(),
        go::vet(),
        containers::image_pull(),
        memory::out_of_memory(),
        containers::registry_auth(),
        node::disk_full(),
        go::dns(),
        git::bad_credentials(),
        helm::upgrade(),
    ]
    .map(Sample::with_start_events)
    .into()
}

/// Returns the sample with this name.
#[must_use]
pub fn sample(slug: &str) -> Option<Sample> {
    samples().into_iter().find(|sample| sample.slug == slug)
}

impl Sample {
    /// Creates a step with this log and exit code 1; the caller sets the other fields.
    fn failed(log: Log) -> Self {
        let (log, ended) = log.done();
        Self {
            slug: "",
            title: "",
            namespace: NAMESPACE,
            pod: "",
            container: "",
            image: "",
            memory: "2Gi",
            pipeline: "",
            task: "",
            reason: "Error",
            exit_code: 1,
            started: true,
            ended,
            log,
            previous_log: None,
            events: Vec::new(),
            cause_words: &[],
            class: FailureClass::Unknown,
        }
    }

    /// Returns the log of a container; errors are worded like the kubelet's.
    ///
    /// # Errors
    /// Fails when the container does not exist, never started, or has no previous run.
    pub fn log_of(&self, container: &str, previous: bool) -> Result<&str, String> {
        let pod = self.pod;
        if manifest::INIT_CONTAINERS.contains(&container) && !previous {
            return Ok(manifest::INIT_LOG);
        }
        if container != self.container {
            return Err(format!("container {container} is not valid for pod {pod}"));
        }
        match (previous, &self.previous_log) {
            (true, Some(log)) => Ok(log),
            (true, None) => {
                Err(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))
            }
            (false, _) if !self.started => Err(format!(
                "container \"{container}\" in pod \"{pod}\" is waiting to start: trying and failing to pull image"
            )),
            (false, _) => Ok(&self.log),
        }
    }
}
