//! Hosts that text of unknown origin may link to.

use globset::{GlobSet, GlobSetBuilder};
use reqwest::Url;

/// Permitted link hosts. Links to other hosts are shown as text, because a browser would send data in the URL to the host.
#[derive(Debug, Clone, Default)]
pub struct LinkPolicy {
    hosts: GlobSet,
}

impl LinkPolicy {
    /// Creates the policy from globs for host names; adds this server's own host.
    #[must_use]
    pub fn new(globs: &[String], public_url: Option<&str>) -> Self {
        let own = public_url.and_then(host);
        let mut hosts = GlobSetBuilder::new();
        let globs = globs.iter().map(|glob| glob.to_lowercase());
        // Invalid globs are rejected when the configuration is loaded.
        let globs = globs.chain(own).filter_map(|glob| globset::Glob::new(&glob).ok());
        globs.for_each(|glob| {
            hosts.add(glob);
        });
        Self { hosts: hosts.build().unwrap_or_default() }
    }

    /// Returns the normalized URL if a link to it is permitted. Normalization ensures that a browser interprets the URL in the
    /// same way.
    #[must_use]
    pub fn allowed(&self, url: &str) -> Option<String> {
        let parsed = Url::parse(url).ok()?;
        let is_plain = matches!(parsed.scheme(), "http" | "https")
            && parsed.username().is_empty()
            && parsed.password().is_none();
        let is_known = parsed.host_str().is_some_and(|host| self.hosts.is_match(host));
        // A normalized URL contains no Markdown syntax other than these characters.
        let is_safe = !parsed.as_str().contains(['(', ')', '`', '<', '>', '\\', '*', '|']);
        (is_plain && is_known && is_safe).then(|| parsed.into())
    }
}

fn host(url: &str) -> Option<String> {
    let host = Url::parse(url).ok()?.host_str()?.to_owned();
    // An IPv6 address is in brackets, which a glob would interpret as a character class.
    Some(globset::escape(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_are_linked() {
        let links = LinkPolicy::new(&["*.Docs.example".to_owned()], Some("https://regreen.example:8443/x"));
        assert_eq!(links.allowed("https://a.docs.example/p?q=1").unwrap(), "https://a.docs.example/p?q=1");
        assert_eq!(links.allowed("HTTPS:\\\\A.docs.example").unwrap(), "https://a.docs.example/");
        assert!(links.allowed("https://regreen.example/approvals/1").is_some());
        for foreign in [
            "https://docs.example.evil/",
            "https://evil/?docs.example",
            "https://regreen.example@evil.example/",
            "https://user@regreen.example/",
            "javascript:alert(1)//regreen.example",
            "//regreen.example/x",
            "/approvals/1",
            "ftp://a.docs.example/",
        ] {
            assert_eq!(links.allowed(foreign), None, "{foreign}");
        }
        let six = LinkPolicy::new(&[], Some("http://[::1]:8000"));
        assert!(six.allowed("http://[::1]/x").is_some() && six.allowed("http://[::2]/x").is_none());
    }
}
