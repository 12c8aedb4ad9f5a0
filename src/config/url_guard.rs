//! URL checks for servers added over the API: the URL must be allow-listed and must not lead to an address that issues
//! the host's own credentials.

use globset::GlobBuilder;
use reqwest::Url;
use std::net::IpAddr;

/// Host names of cloud metadata services.
const METADATA_HOSTS: [&str; 3] = ["metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];

/// Returns whether an address is link-local, a cloud metadata service or otherwise never allowed. Metadata services
/// issue credentials of this host.
#[must_use]
pub fn is_off_limits(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            four.is_link_local()
                || four.is_unspecified()
                || four.is_broadcast()
                || four.is_multicast()
                // Metadata services of Alibaba, Oracle and Azure.
                || matches!(four.octets(), [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16])
        }
        IpAddr::V6(six) => {
            // IPv4 embedded in IPv6: mapped, compatible, 6to4 and NAT64.
            let parts = six.segments();
            let inner = match parts {
                [0, 0, 0, 0, 0, 0xffff, high, low]
                | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
                | [0x2002, high, low, ..] => Some((high, low)),
                [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some((high, low)),
                _ => None,
            };
            let inner = inner.map(|(high, low)| (u32::from(high) << 16) | u32::from(low));
            inner.is_some_and(|bits| is_off_limits(IpAddr::V4(bits.into())))
                || six.is_unicast_link_local()
                || six.is_unspecified()
                || six.is_multicast()
                // Metadata service of Amazon.
                || parts == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

/// Returns why a URL must not be used, if so. `globs` match URLs, or hosts when they have no scheme.
pub(super) fn problem(url: &str, globs: &[String]) -> Option<String> {
    let Ok(url) = Url::parse(url) else { return Some("is not a URL".to_owned()) };
    if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
        return Some("has to begin with http://, https://, ws:// or wss://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold a user or a password; give them as `headers`".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    // Uses the parsed host: `0x7f.1` and `2130706433` are addresses too.
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = host.trim_end_matches('.').to_lowercase();
    if address.is_ok_and(is_off_limits) || METADATA_HOSTS.contains(&name.as_str()) {
        return Some(
            "is a link-local address or a metadata service, which no added server may be".to_owned(),
        );
    }
    let plain =
        format!("{}://{}{}", url.scheme(), &url[..].split("://").nth(1).map_or("", authority), url.path());
    let matches = |glob: &&String| {
        // A star does not match across `/`.
        let matcher =
            GlobBuilder::new(glob).literal_separator(true).build().map(|glob| glob.compile_matcher());
        matcher.is_ok_and(|matcher| {
            if glob.contains("://") {
                matcher.is_match(&plain) || matcher.is_match(plain.trim_end_matches('/'))
            } else {
                matcher.is_match(&name)
            }
        })
    };
    if globs.iter().any(|glob| matches(&glob)) {
        return None;
    }
    Some("is not among `added_servers.urls`; ask whoever runs this server to allow it there".to_owned())
}

/// Returns host and port from the text after the scheme.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> Option<String> {
        let globs = [
            "https://*.tools.example/**",
            "http://127.0.0.1:*/mcp",
            "mcp.example",
            "169.254.169.254",
            "*.internal",
            "[[]fe80::1[]]",
        ];
        super::problem(url, &globs.map(str::to_owned))
    }

    #[test]
    fn only_what_is_on_the_list_is_reached() {
        for good in [
            "https://a.tools.example/mcp",
            "https://a.tools.example/deep/er/mcp?x=1",
            "http://127.0.0.1:8080/mcp",
            "http://0x7f.1:8080/mcp",
            "wss://mcp.example/any/thing",
            "https://MCP.example.:8443",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, word) in [
            ("https://tools.example/mcp", "added_servers.urls"),
            ("https://evil.example/.tools.example/mcp", "added_servers.urls"),
            ("https://evil.example?.tools.example/mcp", "added_servers.urls"),
            ("https://evil.example#.tools.example/mcp", "added_servers.urls"),
            ("https://evil.example\\.tools.example/mcp", "added_servers.urls"),
            ("http://a.tools.example/mcp", "added_servers.urls"),
            ("http://127.0.0.1:8080/mcp/../admin", "added_servers.urls"),
            ("https://x@a.tools.example/mcp", "user"),
            ("https://mcp.example@evil.example/", "user"),
            ("file:///etc/passwd", "http://"),
            ("gopher://mcp.example/", "http://"),
            ("mcp.example", "not a URL"),
            ("http://169.254.169.254/latest", "link-local"),
            ("http://0xa9fea9fe/latest", "link-local"),
            ("http://2852039166/latest", "link-local"),
            ("http://0251.0376.0251.0376/", "link-local"),
            ("http://[::ffff:169.254.169.254]/", "link-local"),
            ("http://[fe80::1]/", "link-local"),
            ("http://[fd00:ec2::254]/", "link-local"),
            ("http://metadata.google.internal./computeMetadata/v1/", "link-local"),
        ] {
            let problem = problem(bad).unwrap_or_default();
            assert!(problem.contains(word), "{bad}: {problem}");
        }
    }

    #[test]
    fn addresses_in_other_forms_are_the_same_addresses() {
        for off in
            ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "::", "0.0.0.0", "168.63.129.16"]
        {
            assert!(is_off_limits(off.parse().unwrap()), "{off}");
        }
        for fine in ["::1", "127.0.0.1", "10.0.0.7", "fd00::7", "2001:db8::1"] {
            assert!(!is_off_limits(fine.parse().unwrap()), "{fine}");
        }
    }
}
