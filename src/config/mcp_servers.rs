//! The `[[mcp]]` tables of the file and the two short forms.

use super::mcp::{McpServer, Transport};
use super::reader::SettingsReader;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    name: String,
    transport: String,
    #[serde(default)]
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default = "connect_timeout")]
    connect_timeout: String,
    #[serde(default = "call_timeout")]
    call_timeout: String,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    pub(super) passthrough: bool,
}

fn connect_timeout() -> String {
    "10s".to_owned()
}

fn call_timeout() -> String {
    "60s".to_owned()
}

/// Reads all servers; errors go to the reader.
pub(super) fn read(r: &mut SettingsReader<'_>, file: &toml::Table) -> Vec<McpServer> {
    let mut servers = Vec::new();
    match file.get("mcp") {
        None => {}
        Some(toml::Value::Array(tables)) => {
            for (index, table) in tables.iter().enumerate() {
                match table.clone().try_into::<RawServer>() {
                    Ok(raw) => servers.extend(server(r, raw)),
                    Err(error) => r.mistake(format!("`mcp[{index}]` (file)"), error.message().trim()),
                }
            }
        }
        Some(_) => r.mistake("`mcp` (file)", "is written as `[[mcp]]`, once per server"),
    }
    for name in ["openshift", "gitea"] {
        let key = format!("{name}.transport");
        let set = r.text(&key).map(|_| r.one_of(&key, &["sse", "streamable-http"]));
        if let Some(url) = r.url(&format!("{name}.url")) {
            let is_sse = set.map_or_else(|| is_sse(name, &url), |set| set == "sse");
            servers.push(short_form(name, is_sse, url));
        }
    }
    let mut seen = BTreeSet::new();
    for server in &servers {
        if !seen.insert(server.name.clone()) {
            r.mistake(format!("`mcp` server `{}`", server.name), "there are two of that name");
        }
    }
    servers
}

/// Detects SSE by the conventional path of each transport, else by the predecessor agent's rule.
fn is_sse(name: &str, url: &str) -> bool {
    let path =
        reqwest::Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    path.ends_with("/sse") || (name == "openshift" && !path.ends_with("/mcp"))
}

fn short_form(name: &str, is_sse: bool, url: String) -> McpServer {
    McpServer {
        name: name.to_owned(),
        transport: if is_sse { Transport::Sse { url } } else { Transport::StreamableHttp { url } },
        headers: BTreeMap::new(),
        env: BTreeMap::new(),
        connect_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(60),
        allow: Vec::new(),
        deny: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
        passthrough: false,
        guarded: false,
    }
}

/// Reads a server; errors go to the reader.
pub(super) fn server(r: &mut SettingsReader<'_>, raw: RawServer) -> Option<McpServer> {
    let name = format!("`mcp` server `{}`", raw.name);
    let legal = !raw.name.is_empty()
        && raw.name.len() <= 32
        && raw.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !legal {
        r.mistake(format!("{name} name"), "has to be 1 to 32 letters, digits, `_` or `-`");
    }
    let transport = transport(r, &name, &raw)?;
    if raw.passthrough && !may_pass_through(&transport) {
        r.mistake(
            format!("{name} passthrough"),
            "needs `streamable-http` or `sse` and https://, or a loopback address: tokens of people go there",
        );
    }
    for (field, globs) in
        [("allow", &raw.allow), ("deny", &raw.deny), ("read", &raw.read), ("write", &raw.write)]
    {
        for glob in globs {
            if let Err(error) = globset::Glob::new(glob) {
                r.mistake(format!("{name} {field}"), format!("`{glob}` is not a glob: {}", error.kind()));
            }
        }
    }
    Some(McpServer {
        transport,
        headers: secrets(r, &name, "headers", &raw.headers),
        env: secrets(r, &name, "env", &raw.env),
        connect_timeout: duration(r, &name, "connect_timeout", &raw.connect_timeout),
        call_timeout: duration(r, &name, "call_timeout", &raw.call_timeout),
        name: raw.name,
        allow: raw.allow,
        deny: raw.deny,
        read: raw.read,
        write: raw.write,
        passthrough: raw.passthrough,
        guarded: false,
    })
}

/// Returns whether user tokens can be sent to the server without exposure in transit.
fn may_pass_through(transport: &Transport) -> bool {
    let (Transport::StreamableHttp { url } | Transport::Sse { url }) = transport else { return false };
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "https" || loopback
}

fn transport(r: &mut SettingsReader<'_>, name: &str, raw: &RawServer) -> Option<Transport> {
    let setting = format!("{name} transport");
    let schemes = match raw.transport.as_str() {
        "stdio" if raw.url.is_none() && !raw.command.is_empty() => {
            return Some(Transport::Stdio { command: raw.command.clone() });
        }
        "stdio" => {
            r.mistake(setting, "`stdio` needs `command` and no `url`");
            return None;
        }
        "streamable-http" | "sse" => ["http", "https"],
        "websocket" => ["ws", "wss"],
        other => {
            r.mistake(setting, format!("`{other}` is not one of stdio, streamable-http, sse, websocket"));
            return None;
        }
    };
    let Some(url) = raw.url.clone().filter(|_| raw.command.is_empty()) else {
        r.mistake(setting, format!("`{}` needs `url` and no `command`", raw.transport));
        return None;
    };
    if !reqwest::Url::parse(&url).is_ok_and(|url| schemes.contains(&url.scheme())) {
        r.mistake(format!("{name} url"), format!("is not an {}:// or {}:// URL", schemes[0], schemes[1]));
    }
    Some(match raw.transport.as_str() {
        "sse" => Transport::Sse { url },
        "websocket" => Transport::WebSocket { url },
        _ => Transport::StreamableHttp { url },
    })
}

fn secrets(
    r: &mut SettingsReader<'_>,
    name: &str,
    field: &str,
    values: &BTreeMap<String, String>,
) -> BTreeMap<String, SecretString> {
    let resolve = |(key, value): (&String, &String)| {
        r.resolve(&format!("{name} {field} `{key}`"), value).map(|secret| (key.clone(), secret))
    };
    values.iter().filter_map(resolve).collect()
}

fn duration(r: &mut SettingsReader<'_>, name: &str, field: &str, value: &str) -> Duration {
    let name = format!("{name} {field}");
    let Ok(time) = humantime::parse_duration(value) else {
        r.mistake(name, format!("`{value}` is not a time such as `30s`"));
        return Duration::from_secs(10);
    };
    r.not_too_long(&name, time)
}
