//! HTTP server settings.

use super::reader::SettingsReader;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// HTTP server settings.
#[derive(Debug, Clone)]
pub struct Server {
    /// Listen address.
    pub bind: IpAddr,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Separate listen address of metrics and probes.
    pub metrics_bind: Option<SocketAddr>,
    /// Base URL of links, without a trailing slash.
    pub public_url: Option<String>,
    /// Maximum request body size in bytes.
    pub body_limit: usize,
    /// Longest time that a report request waits for the outcome.
    pub wait: Duration,
    /// Delay between SIGTERM and shutdown.
    pub stop_delay: Duration,
    /// Grace period of a shutdown.
    pub shutdown_grace: Duration,
    /// Maximum number of concurrent connections.
    pub max_connections: usize,
    /// Timeout of an idle connection and of request headers.
    pub header_timeout: Duration,
    /// Timeout of a request body, regardless of its size.
    pub body_timeout: Duration,
}

pub(super) fn read(r: &mut SettingsReader<'_>) -> Server {
    Server {
        bind: r
            .number("server.bind", "an IP address")
            .map_or(IpAddr::from([127, 0, 0, 1]), |Address(address)| address),
        port: r.bounded("server.port", 0, u16::MAX),
        metrics_bind: socket(r, "server.metrics_bind"),
        public_url: r.url("server.public_url").map(|url| url.trim_end_matches('/').to_owned()),
        body_limit: r.bounded("server.body_limit", 1024, 1 << 30),
        wait: r.duration("server.wait"),
        stop_delay: r.duration("server.stop_delay"),
        shutdown_grace: r.duration("server.shutdown_grace"),
        max_connections: r.bounded("server.max_connections", 1, 1_000_000),
        header_timeout: r.duration("server.header_timeout"),
        body_timeout: r.duration("server.body_timeout"),
    }
}

fn socket(r: &mut SettingsReader<'_>, key: &str) -> Option<SocketAddr> {
    let text = r.text(key)?;
    let address = text.parse().ok();
    if address.is_none() {
        r.mistake(key, format!("`{text}` is not an address and a port, such as 0.0.0.0:9090"));
    }
    address
}

/// An address with the default that `SettingsReader::number` requires.
struct Address(IpAddr);

impl Default for Address {
    fn default() -> Self {
        Self(IpAddr::from([127, 0, 0, 1]))
    }
}

impl std::str::FromStr for Address {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
