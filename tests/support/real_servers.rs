//! Real MCP servers as child processes in front of fake APIs.

use super::eventually;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A child process that ends with the test.
pub struct RealServer {
    child: Child,
    pub url: String,
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a path below `.tools`, which `make tools` fills.
pub fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

/// Returns a port for a program with a fixed port; each port is returned once. The range is below the system's
/// ephemeral ports, so that nothing else takes a port before the program listens on it.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Concurrent test runs on one host start at distant ports.
    let begin = std::process::id().wrapping_mul(1_009) % COUNT;
    let next = |_| FIRST + (begin + GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let mut ports = (0..COUNT).map(next).filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| is_free(*port)).expect("no port is free")
}

/// Returns whether the port is free on all IPv4 and IPv6 addresses, because programs differ in which they use.
fn is_free(port: u16) -> bool {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        // A host without IPv6.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok(),
    }
}

/// Starts a program and waits until it listens on the port.
pub async fn start(mut command: Command, port: u16) -> RealServer {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the real server listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    RealServer { child, url: format!("http://127.0.0.1:{port}/mcp") }
}

/// Versions of the Kubernetes MCP server: the chart's version only serves `/mcp`, the older one also `/sse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kubernetes {
    V0_0_54,
    V0_0_67,
}

/// Starts the Kubernetes MCP server with a kubeconfig in `folder` for an API.
pub async fn kubernetes(api: &str, folder: &Path) -> RealServer {
    kubernetes_of(Kubernetes::V0_0_67, api, folder).await
}

/// Starts the given version.
pub async fn kubernetes_of(version: Kubernetes, api: &str, folder: &Path) -> RealServer {
    let kubeconfig = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{api}'}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u, namespace: ci}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let port = free_port();
    let (modules, more): (_, &[&str]) = match version {
        Kubernetes::V0_0_54 => ("npm/node_modules/kubernetes-mcp-server-old/node_modules", &[]),
        Kubernetes::V0_0_67 => ("npm/node_modules", &["--bind-address", "127.0.0.1"]),
    };
    let program =
        format!("{modules}/kubernetes-mcp-server-linux-amd64/bin/kubernetes-mcp-server-linux-amd64");
    let mut command = Command::new(tool(&program));
    command.arg("--kubeconfig").arg(kubeconfig).args(more).args(["--port", &port.to_string()]);
    start(command, port).await
}

/// Starts the Gitea MCP server for an API.
pub async fn gitea(api: &str) -> RealServer {
    let port = free_port();
    let mut command = Command::new(tool("py/bin/gitea-mcp"));
    command.args([
        "serve",
        "--transport",
        "http",
        "--host",
        "127.0.0.1",
        "--path",
        "/mcp",
        "--port",
        &port.to_string(),
    ]);
    command.env("GITEA_URL", api).env("GITEA_TOKEN", "t");
    start(command, port).await
}

/// Starts the Jenkins MCP server for an API.
pub async fn jenkins(api: &str) -> RealServer {
    let port = free_port();
    let mut command = Command::new(tool("jenkins/bin/mcp-jenkins"));
    command.args(["--jenkins-url", api, "--jenkins-username", "u", "--jenkins-password", "p"]);
    command.args(["--transport", "streamable-http", "--host", "127.0.0.1", "--port", &port.to_string()]);
    start(command, port).await
}

/// Starts the MCP reference server `everything` with one of its HTTP transports.
pub async fn everything(transport: &str, path: &str) -> RealServer {
    everything_on(free_port(), transport, path).await
}

/// Starts it on the given port.
pub async fn everything_on(port: u16, transport: &str, path: &str) -> RealServer {
    let mut command = Command::new("node");
    command
        .arg(tool("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js"))
        .arg(transport);
    command.env("PORT", port.to_string());
    let mut server = start(command, port).await;
    server.url = format!("http://127.0.0.1:{port}{path}");
    server
}

/// Starts a WebSocket server based on the Python SDK on the given port.
pub async fn websocket_on(port: u16) -> RealServer {
    let mut command = Command::new(tool("py/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/websocket_server.py"));
    command.arg(port.to_string());
    let mut server = start(command, port).await;
    server.url = format!("ws://127.0.0.1:{port}/ws");
    server
}
