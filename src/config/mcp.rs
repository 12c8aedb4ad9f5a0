//! Settings of one MCP server.

use globset::{Glob, GlobSet, GlobSetBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::time::Duration;

/// Transport of an MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Child process that uses standard input and output.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Streamable HTTP (MCP 2025-03-26 and later).
    StreamableHttp {
        /// Endpoint.
        url: String,
    },
    /// The older HTTP+SSE (MCP 2024-11-05).
    Sse {
        /// Endpoint of the event stream.
        url: String,
    },
    /// WebSocket with the subprotocol `mcp`.
    WebSocket {
        /// Endpoint.
        url: String,
    },
}

/// A configured MCP server with resolved secrets.
#[derive(Debug, Clone)]
pub struct McpServer {
    /// Unique name: letters, digits, `_`, `-`.
    pub name: String,
    /// Transport.
    pub transport: Transport,
    /// Headers of every request (HTTP and WebSocket transports).
    pub headers: BTreeMap<String, SecretString>,
    /// Environment of the child process (stdio); only `PATH` and `HOME` are inherited.
    pub env: BTreeMap<String, SecretString>,
    /// Timeout for connecting, initialising and listing tools.
    pub connect_timeout: Duration,
    /// Timeout of one call.
    pub call_timeout: Duration,
    /// Globs of offered tools; empty means all.
    pub allow: Vec<String>,
    /// Globs of tools that are never offered; overrides `allow`.
    pub deny: Vec<String>,
    /// Globs of tools classified as `read` regardless of their annotations.
    pub read: Vec<String>,
    /// Globs of tools classified as `write` regardless of their annotations; overrides `read`.
    pub write: Vec<String>,
    /// Sends the caller's own token instead of the configured headers for calls made on behalf of a caller.
    pub passthrough: bool,
    /// Whether the server was added over the API; its host must not resolve to a forbidden address.
    pub guarded: bool,
}

impl McpServer {
    /// Returns whether both have the same settings, including secrets.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let secrets = |values: &BTreeMap<String, SecretString>| -> Vec<(String, String)> {
            values.iter().map(|(name, secret)| (name.clone(), secret.expose_secret().to_owned())).collect()
        };
        let plain = |server: &Self| {
            let globs = [&server.allow, &server.deny, &server.read, &server.write].map(Clone::clone);
            (
                server.name.clone(),
                server.transport.clone(),
                server.connect_timeout,
                server.call_timeout,
                globs,
                server.passthrough,
            )
        };
        plain(self) == plain(other)
            && secrets(&self.headers) == secrets(&other.headers)
            && secrets(&self.env) == secrets(&other.env)
    }
}

impl Transport {
    /// Stable name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdio { .. } => "stdio",
            Self::StreamableHttp { .. } => "streamable-http",
            Self::Sse { .. } => "sse",
            Self::WebSocket { .. } => "websocket",
        }
    }

    /// Describes the transport and its URL path. The rest of a URL may contain a secret.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Stdio { .. } => "`stdio`".to_owned(),
            Self::StreamableHttp { url } | Self::Sse { url } | Self::WebSocket { url } => {
                let path = reqwest::Url::parse(url).map(|url| url.path().to_owned());
                format!("`{}` at `{}`", self.as_str(), path.unwrap_or_default())
            }
        }
    }

    /// Returns alternative transports to try: the other HTTP transport, at its conventional path if `may_move` is set,
    /// and at the same path.
    #[must_use]
    pub fn others(&self, may_move: bool) -> Vec<Self> {
        let (url, is_sse) = match self {
            Self::StreamableHttp { url } => (url, false),
            Self::Sse { url } => (url, true),
            Self::Stdio { .. } | Self::WebSocket { .. } => return Vec::new(),
        };
        let other = |url: String| if is_sse { Self::StreamableHttp { url } } else { Self::Sse { url } };
        let same = |url: String| if is_sse { Self::Sse { url } } else { Self::StreamableHttp { url } };
        let moved = |from: &str, to: &str| {
            let mut moved = reqwest::Url::parse(url).ok().filter(|_| may_move)?;
            let stem = moved.path().trim_end_matches('/').strip_suffix(from)?.to_owned();
            moved.set_path(&format!("{stem}{to}"));
            Some(String::from(moved))
        };
        let (own, theirs) = if is_sse { ("/sse", "/mcp") } else { ("/mcp", "/sse") };
        let mut all: Vec<Self> = moved(own, theirs).map(other).into_iter().collect();
        all.push(other(url.clone()));
        // The same transport at its own conventional path, when the URL has the other one's.
        all.extend(moved(theirs, own).map(same));
        all
    }
}

/// Builds a set of globs that were validated with the configuration.
#[must_use]
pub fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| Glob::new(pattern).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_transport_is_looked_for_where_servers_have_it() {
        let sse = |url: &str| Transport::Sse { url: url.to_owned() };
        let streamable = |url: &str| Transport::StreamableHttp { url: url.to_owned() };
        assert_eq!(
            sse("http://m:8080/a/sse?k=v").others(true),
            [streamable("http://m:8080/a/mcp?k=v"), streamable("http://m:8080/a/sse?k=v")]
        );
        assert_eq!(sse("http://m/mcp").others(true), [streamable("http://m/mcp"), sse("http://m/sse")]);
        assert_eq!(streamable("http://m/mcp/").others(true), [sse("http://m/sse"), sse("http://m/mcp/")]);
        assert_eq!(
            streamable("http://m/sse").others(true),
            [sse("http://m/sse"), streamable("http://m/mcp")]
        );
        // A server added over the API may only be reached at its own address.
        assert_eq!(streamable("http://m/mcp").others(false), [sse("http://m/mcp")]);
        assert!(Transport::Stdio { command: vec!["x".into()] }.others(true).is_empty());
        assert_eq!(sse("http://u:p@m/sse?k=v").describe(), "`sse` at `/sse`");
    }
}
