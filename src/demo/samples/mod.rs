//! Sample failures: pods as a cluster shows them, with logs as real tools write them, the cause where such tools put it
//! and the usual noise around it. Written by code from fixed seeds: the same at every start.

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

/// Namespace of all samples, and the one that the stand-in cluster takes when none is named.
pub const NAMESPACE: &str = "ci";

/// A failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Image of that container.
    pub image: &'static str,
    /// Memory limit of that container.
    pub memory: &'static str,
    /// Pipeline the pod belongs to.
    pub pipeline: &'static str,
    /// Task of the pipeline.
    pub task: &'static str,
    /// Why the container is not well, as Kubernetes says it.
    pub reason: &'static str,
    /// Its exit code.
    pub exit_code: i32,
    /// Whether it ever ran.
    pub started: bool,
    /// When it ended, RFC 3339.
    pub ended: String,
    /// Its log.
    pub log: String,
    /// The log before its restart.
    pub previous_log: Option<String>,
    /// Events, oldest first: type, reason, message.
    pub events: Vec<(&'static str, &'static str, String)>,
    /// Words that a right diagnosis has in its title or cause.
    pub cause_words: &'static [&'static str],
    /// The right class.
    pub class: FailureClass,
}

/// All samples; the first one is what the demonstration reports.
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

/// The sample of that short name.
#[must_use]
pub fn sample(slug: &str) -> Option<Sample> {
    samples().into_iter().find(|sample| sample.slug == slug)
}

impl Sample {
    /// A step that ran, wrote this log and ended with exit code 1; the caller fills in the rest.
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

    /// The log of one of its containers, worded as the kubelet words what it does not have.
    ///
    /// # Errors
    /// There is no such container, it never ran, or there was no run before.
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
