//! The stand-in cluster: an OpenShift MCP server over HTTP+SSE, with the tools and arguments of the field's own server.

use super::mcp_server::{Offer, Run, Tool, router, serve};
use super::samples::{Sample, samples};
use crate::shutdown::Shutdown;
use serde_json::{Value, json};
use std::sync::Arc;

/// Starts the cluster on loopback; returns the URL of its event stream.
///
/// # Errors
/// No port is free.
pub async fn start(shutdown: &Shutdown) -> anyhow::Result<String> {
    let pods = Arc::new(samples());
    let offer = Offer { name: "stand-in-openshift", tools: tools(&pods) };
    let address = serve(router(offer, shutdown.token().clone()), shutdown).await?;
    Ok(format!("http://{address}/sse"))
}

fn tools(pods: &Arc<Vec<Sample>>) -> Vec<Tool> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let pod = json!({"name": text("Name of the Pod"), "namespace": text("Namespace of the Pod")});
    let mut log = pod.clone();
    log["container"] = text("Name of the container");
    log["previous"] = json!({"type": "boolean", "description": "Log of the previous run of the container"});
    log["tail"] = json!({"type": "integer", "description": "Number of lines from the end"});
    let schema = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required});
    let with = |run: fn(&[Sample], &Value) -> Result<Value, String>| -> Run {
        let pods = Arc::clone(pods);
        Box::new(move |arguments| run(&pods, arguments))
    };
    let namespace = json!({"namespace": text("Namespace")});
    let tool = |name, description, schema, run| Tool { name, description, read_only: true, schema, run };
    vec![
        tool("pods_log", "Get the logs of a Kubernetes Pod", schema(log, &["name"]), with(pods_log)),
        tool("pods_get", "Get a Kubernetes Pod by its name", schema(pod.clone(), &["name"]), with(pods_get)),
        tool(
            "pods_list_in_namespace",
            "List the Pods of a namespace",
            schema(namespace.clone(), &["namespace"]),
            with(pods_list),
        ),
        tool(
            "events_list",
            "List the events of the cluster or of a namespace",
            schema(namespace, &[]),
            with(events_list),
        ),
        Tool {
            name: "pods_delete",
            description: "Delete a Kubernetes Pod",
            read_only: false,
            schema: schema(pod, &["name"]),
            run: with(|_, _| Err("this cluster does not delete pods".to_owned())),
        },
    ]
}

fn find<'a>(pods: &'a [Sample], arguments: &Value) -> Result<&'a Sample, String> {
    let name = arguments["name"].as_str().unwrap_or_default();
    let namespace = arguments["namespace"].as_str();
    pods.iter()
        .find(|pod| pod.pod == name && namespace.is_none_or(|namespace| namespace == pod.namespace))
        .ok_or_else(|| format!("pods \"{name}\" not found"))
}

fn pods_log(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let pod = find(pods, arguments)?;
    if let Some(container) = arguments["container"].as_str().filter(|name| *name != pod.container) {
        return Err(format!("container {container} is not valid for pod {}", pod.pod));
    }
    let previous = arguments["previous"].as_bool().unwrap_or(false);
    let log = match (previous, &pod.previous_log) {
        (true, None) => {
            return Err(format!(
                "previous terminated container \"{}\" in pod \"{}\" not found",
                pod.container, pod.pod
            ));
        }
        (true, Some(log)) => log.as_str(),
        (false, _) if !pod.started => {
            return Err(format!(
                "container \"{}\" in pod \"{}\" is waiting to start: trying and failing to pull image",
                pod.container, pod.pod
            ));
        }
        (false, _) => pod.log.as_str(),
    };
    let lines: Vec<&str> = log.lines().collect();
    let tail = arguments["tail"].as_u64().and_then(|tail| usize::try_from(tail).ok()).unwrap_or(100);
    Ok(json!(lines[lines.len().saturating_sub(tail)..].join("\n")))
}

fn pods_get(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let pod = find(pods, arguments)?;
    serde_norway::to_string(&pod.manifest()).map(Value::String).map_err(|error| error.to_string())
}

fn pods_list(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let namespace = arguments["namespace"].as_str().unwrap_or_default();
    let mut table = String::from("NAMESPACE NAME READY STATUS\n");
    for pod in pods.iter().filter(|pod| pod.namespace == namespace) {
        table.push_str(&format!("{} {} 0/1 {}\n", pod.namespace, pod.pod, pod.reason));
    }
    Ok(Value::String(table))
}

fn events_list(pods: &[Sample], arguments: &Value) -> Result<Value, String> {
    let namespace = arguments["namespace"].as_str();
    let events: Vec<Value> = pods
        .iter()
        .filter(|pod| namespace.is_none_or(|namespace| namespace == pod.namespace))
        .flat_map(Sample::event_list)
        .collect();
    if events.is_empty() {
        return Ok(json!("No events found"));
    }
    let yaml = serde_norway::to_string(&events).map_err(|error| error.to_string())?;
    Ok(Value::String(format!("The following events (YAML format) were found:\n{yaml}")))
}
