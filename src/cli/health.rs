//! `health`: checks a running server, for containers without a shell.

use crate::config::{Config, Server};
use anyhow::Context as _;
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// Request timeout.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `health`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the server is. Left out: on this machine, at the address of the settings.
    #[arg(long)]
    url: Option<String>,
    /// Whether it takes work, not only whether it lives.
    #[arg(long)]
    ready: bool,
}

/// Runs the check; exit code 0 means healthy.
pub(super) async fn run(
    load: impl FnOnce() -> anyhow::Result<Config>,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let base = match arguments.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", own_address(&load()?.server)),
    };
    let url = format!("{base}/health/{}", if arguments.ready { "ready" } else { "live" });
    // Ignore proxy variables: the server is reached directly.
    let client = reqwest::Client::builder().no_proxy().timeout(PROBE_TIMEOUT).build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    anyhow::ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
    outln!("ok");
    Ok(ExitCode::SUCCESS)
}

/// Returns the address of the health endpoint as reachable from the same host.
fn own_address(server: &Server) -> SocketAddr {
    let mut address = server.metrics_bind.unwrap_or(SocketAddr::new(server.bind, server.port));
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_where_it_listens() {
        for (settings, address) in [
            ("", "127.0.0.1:8000"),
            ("bind = \"10.1.2.3\"\nport = 80", "10.1.2.3:80"),
            ("metrics_bind = \"0.0.0.0:9090\"", "127.0.0.1:9090"),
            ("metrics_bind = \"[::]:9090\"", "[::1]:9090"),
        ] {
            let file = format!("[auth]\nways = \"keys\"\n[server]\n{settings}").parse().unwrap();
            let config = Config::from_layers(&file, &|_| None).unwrap();
            assert_eq!(own_address(&config.server).to_string(), address);
        }
    }
}
