//! The product's MCP client as the official conformance suite drives it: `client URL`, scenario in the environment.

use regreen::audit::Recorder;
use regreen::blocking::BlockingPool;
use regreen::config::{McpServer, Transport};
use regreen::domain::policy::AccessDecision;
use regreen::domain::{Access, Actor};
use regreen::mcp::{Connector, Registry, ToolCaller};
use regreen::shutdown::Shutdown;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: mcp_conformance URL");
        return ExitCode::FAILURE;
    };
    let server = McpServer {
        name: "suite".to_owned(),
        transport: Transport::StreamableHttp { url },
        headers: BTreeMap::new(),
        env: BTreeMap::new(),
        connect_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(20),
        allow: Vec::new(),
        deny: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
        passthrough: false,
        guarded: false,
    };
    let shutdown = Shutdown::new();
    let http = reqwest::Client::builder().build().expect("a client without options");
    let connector = Connector { http, blocking: BlockingPool::default() };
    let registry = Registry::start(vec![server], Arc::default(), None, connector, &shutdown);
    registry.wait_for_first_attempts().await;
    let recorder = Recorder::new(Actor::service("conformance"));
    let mut good = registry.is_connected("suite");
    for tool in registry.known(None) {
        let spec = tool.spec();
        assert!(matches!(spec.access, Access::Read | Access::Write));
        let arguments = arguments(&spec.input_schema);
        let name = spec.name.clone();
        let called = match registry.authorize(&ToolCaller::service(&recorder), "suite", &name, arguments) {
            Ok(AccessDecision::Allowed(permit)) => {
                registry.call(permit, &recorder, CancellationToken::new()).await.map(drop)
            }
            Ok(other) => unreachable!("the service's own calls are allowed: {other:?}"),
            Err(error) => Err(error),
        };
        if let Err(error) = called {
            eprintln!("{name}: {error}");
            good = false;
        }
    }
    shutdown.finish(Duration::from_secs(5)).await;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A value for every required argument.
fn arguments(schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let value = |name: &str| match schema["properties"][name]["type"].as_str() {
        Some("number" | "integer") => json!(5),
        Some("boolean") => json!(true),
        _ => json!("x"),
    };
    required.map(|name| (name.to_owned(), value(name))).collect::<serde_json::Map<_, _>>().into()
}
