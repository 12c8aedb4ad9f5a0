//! Simulated cluster: an OpenShift MCP server over HTTP+SSE with the tools, arguments and wording of
//! kubernetes-mcp-server. Serves the sample failures read-only.

use super::mcp_server::{Effect, Offer, Run, Tool, bind, serve};
use super::samples::{NAMESPACE, Sample, samples};
use crate::shutdown::Shutdown;
use axum::Router;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// Default number of log lines.
const TAIL: usize = 100;

/// Starts the cluster on loopback and returns the URL of its event stream.
///
/// # Errors
/// Fails when no port is free.
pub async fn start(shutdown: &Shutdown) -> anyhow::Result<String> {
    let (listener, address) = bind().await?;
    let offer = Offer { name: "stand-in-openshift", tools: tools(Arc::new(samples())) };
    serve(listener, offer, Router::new(), shutdown);
    Ok(format!("http://{address}/sse"))
}

fn tools(pods: Arc<Vec<Sample>>) -> Vec<Tool> {
    let bind = |run: fn(&[Sample], &Value) -> Result<Value, String>| -> Run {
        let pods = Arc::clone(&pods);
        Box::new(move |arguments| run(&pods, arguments))
    };
    let reads = |name, description, schema, run| Tool {
        name,
        description,
        effect: Effect::Reads,
        schema,
        run: bind(run),
    };
    let name = ("name", "string", "Name of the Pod");
    let namespace = ("namespace", "string", "Namespace of the Pod; the server's own when left out");
    let container = ("container", "string", "Name of the Pod container (Optional)");
    let previous = ("previous", "boolean", "Return previous terminated container logs (Optional)");
    let tail =
        ("tail", "integer", "Number of lines to retrieve from the end of the logs (Optional, default: 100)");
    let api = ("apiVersion", "string", "apiVersion of the resource, for example v1 or tekton.dev/v1");
    let kind = ("kind", "string", "kind of the resource, for example Pod or TaskRun");
    vec![
        reads(
            "pods_log",
            "Get the logs of a Kubernetes Pod in the current or provided namespace with the provided name",
            schema(&[name, namespace, container, previous, tail], &["name"]),
            pods_log,
        ),
        reads(
            "pods_get",
            "Get a Kubernetes Pod in the current or provided namespace with the provided name",
            schema(&[name, namespace], &["name"]),
            pods_get,
        ),
        reads(
            "pods_list_in_namespace",
            "List all the Kubernetes pods in the specified namespace in the current cluster",
            schema(&[("namespace", "string", "Namespace to list pods from")], &["namespace"]),
            pods_list,
        ),
        reads(
            "events_list",
            "List Kubernetes events (warnings, errors, state changes) in the current cluster",
            schema(&[("namespace", "string", "Namespace of the events; all when left out")], &[]),
            events_list,
        ),
        reads(
            "resources_get",
            "Get a Kubernetes resource by its apiVersion, kind, namespace and name",
            schema(&[api, kind, name, namespace], &["apiVersion", "kind", "name"]),
            resources_get,
        ),
        Tool {
            name: "pods_delete",
            description: "Delete a Kubernetes Pod in the current or provided namespace with the provided name",
            effect: Effect::Destroys,
            schema: schema(&[name, namespace], &["name"]),
            run: bind(pods_delete),
        },
    ]
}

/// Builds an object schema from properties (name, type, description).
fn schema(properties: &[(&str, &str, &str)], required: &[&str]) -> Value {
    let properties: Value = properties
        .iter()
        .map(|(name, kind, text)| ((*name).to_owned(), json!({"type": kind, "description": text})))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn named(arguments: &Value) -> (&str, &str) {
    let text = |name: &str| arguments[name].as_str();
    (text("name").unwrap_or_default(), text("namespace").unwrap_or(NAMESPACE))
}

fn find<'a>(pods: &'a [Sample], arguments: &Value) -> Result<&'a Sample, String> {
    let (name, namespace) = named(arguments);
    pods.iter()
        .find(|pod| pod.pod == name && pod.namespace == namespace)
        .ok_or_else(|| format!("pods \"{name}\" not found"))
}

fn pods_log(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let (name, namespace) = named(arguments);
    let failed = |why: String| format!("failed to get pod {name} log in namespace {namespace}: {why}");
    let pod = find(pods, arguments).map_err(failed)?;
    let container = arguments["container"].as_str().unwrap_or(pod.container);
    let previous = arguments["previous"].as_bool().unwrap_or(false);
    let log = pod.log_of(container, previous).map_err(failed)?;
    let asked = arguments["tail"].as_u64().and_then(|tail| usize::try_from(tail).ok());
    let tail = asked.filter(|tail| *tail > 0).unwrap_or(TAIL);
    let lines: Vec<&str> = log.lines().collect();
    let text = lines[lines.len().saturating_sub(tail)..].join("\n");
    if text.is_empty() {
        return Ok(json!(format!("The pod {name} in namespace {namespace} has not logged any message yet")));
    }
    Ok(json!(text))
}

fn pods_get(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let (name, namespace) = named(arguments);
    let failed = |why: String| format!("failed to get pod {name} in namespace {namespace}: {why}");
    yaml(&find(pods, arguments).map_err(failed)?.manifest())
}

fn pods_list(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let (_, namespace) = named(arguments);
    let mut table = format!(
        "{:<12}{:<12}{:<6}{:<46}{:<7}{:<18}{:<10}LABELS\n",
        "NAMESPACE", "APIVERSION", "KIND", "NAME", "READY", "STATUS", "RESTARTS"
    );
    for pod in pods.iter().filter(|pod| pod.namespace == namespace) {
        writeln!(
            table,
            "{:<12}{:<12}{:<6}{:<46}{:<7}{:<18}{:<10}tekton.dev/pipeline={},tekton.dev/pipelineTask={}",
            pod.namespace, "v1", "Pod", pod.pod, "0/1", pod.reason, 0, pod.pipeline, pod.task
        )
        .map_err(|error| error.to_string())?;
    }
    Ok(Value::String(table))
}

fn events_list(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let namespace = arguments["namespace"].as_str();
    let seen = |pod: &&Sample| namespace.is_none_or(|namespace| namespace == pod.namespace);
    let events: Vec<Value> = pods.iter().filter(seen).flat_map(Sample::event_list).collect();
    if events.is_empty() {
        return Ok(json!("# No events found"));
    }
    let text = serde_norway::to_string(&events).map_err(|error| error.to_string())?;
    Ok(json!(format!("# The following events (YAML format) were found:\n{text}")))
}

fn resources_get(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let (name, namespace) = named(arguments);
    let text = |name: &str| arguments[name].as_str().unwrap_or_default();
    let (api, kind) = (text("apiVersion"), text("kind"));
    let mut here = pods.iter().filter(|pod| pod.namespace == namespace);
    let found = match (api, kind) {
        ("v1", "Pod") => here.find(|pod| pod.pod == name).map(Sample::manifest),
        ("tekton.dev/v1" | "tekton.dev/v1beta1", "TaskRun") => {
            here.find(|pod| pod.task_run() == name).map(Sample::task_run_manifest)
        }
        _ => {
            return Err(format!(
                "failed to get resource: no matches for kind \"{kind}\" in version \"{api}\""
            ));
        }
    };
    let manifest = found.ok_or_else(|| {
        format!("failed to get resource: {}s \"{name}\" not found", kind.to_ascii_lowercase())
    })?;
    yaml(&manifest)
}

fn pods_delete(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let (name, namespace) = named(arguments);
    let failed = |why: String| format!("failed to delete pod {name} in namespace {namespace}: {why}");
    let pod = find(pods, arguments).map_err(failed)?;
    Err(failed(format!("pods \"{}\" is forbidden: the stand-in cluster keeps its pods", pod.pod)))
}

fn yaml(value: &Value) -> Result<Value, String> {
    serde_norway::to_string(value).map(Value::String).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
