//! Settings of one MCP server.

use globset::{Glob, GlobSet, GlobSetBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A child process that speaks on its standard streams.
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

/// One MCP server of the configuration, secrets resolved.
#[derive(Debug, Clone)]
pub struct McpServer {
    /// Unique name: letters, digits, `_`, `-`.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Headers of every request (HTTP transports).
    pub headers: BTreeMap<String, SecretString>,
    /// Environment of the child (stdio); nothing else but `PATH` and `HOME` is inherited.
    pub env: BTreeMap<String, SecretString>,
    /// Limit of connecting, initialising and listing tools.
    pub connect_timeout: Duration,
    /// Limit of one call.
    pub call_timeout: Duration,
    /// Globs of tool names that are offered; empty means all.
    pub allow: Vec<String>,
    /// Globs of tool names that are never offered; wins over `allow`.
    pub deny: Vec<String>,
    /// Globs of tools that are `read` whatever their annotations say.
    pub read: Vec<String>,
    /// Globs of tools that are `write` whatever their annotations say; wins over `read`.
    pub write: Vec<String>,
    /// Calls that somebody asks for go with their own token instead of the service's headers.
    pub passthrough: bool,
    /// Added over the API: names that lead to addresses off limits are not followed.
    pub guarded: bool,
}

impl McpServer {
    /// Whether another one has the same settings, secrets included.
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

    /// It and its path, for people. The rest of a URL may hold a secret.
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

    /// What a server may speak that does not speak this: the other transport of HTTP, at the path that servers of the field give it
    /// if the path may be another one, and at the same path.
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
        // Their path with this transport: one that names the other's.
        all.extend(moved(theirs, own).map(same));
        all
    }
}

/// A set of globs of the configuration, which has been checked: each of them is one.
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
        // One that was added may be reached at its own address alone.
        assert_eq!(streamable("http://m/mcp").others(false), [sse("http://m/mcp")]);
        assert!(Transport::Stdio { command: vec!["x".into()] }.others(true).is_empty());
        assert_eq!(sse("http://u:p@m/sse?k=v").describe(), "`sse` at `/sse`");
    }
}
