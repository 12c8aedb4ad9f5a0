//! The HTTP client of servers that were added over the API: a name that leads to an address off limits is not followed, whatever
//! it led to when the server was added.

use crate::config::is_off_limits;
use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Looks names up and refuses those that lead off limits.
#[derive(Debug)]
struct Guard;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(allowed(found)?)
        })
    }
}

fn allowed(found: impl Iterator<Item = SocketAddr>) -> std::io::Result<Addrs> {
    let found: Vec<SocketAddr> = found.collect();
    // One bad address among good ones is somebody's trick.
    if found.iter().any(|address| is_off_limits(address.ip())) {
        return Err(std::io::Error::other(
            "its name leads to a link-local address or a metadata service, which no added server may be",
        ));
    }
    Ok(Box::new(found.into_iter()))
}

/// A client with the guard; no proxy, which would look names up by itself.
pub(super) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().dns_resolver(Arc::new(Guard)).no_proxy()
}

/// The same, ready to use: it follows no redirects.
pub(super) fn client() -> anyhow::Result<reqwest::Client> {
    builder()
        .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot set up the HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_judged() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let good = [address("10.0.0.1"), address("127.0.0.1")];
        assert_eq!(allowed(good.into_iter()).map(Iterator::count).ok(), Some(2));
        assert!(allowed([good[0], address("169.254.169.254")].into_iter()).is_err());
        assert!(allowed([address("::ffff:169.254.1.1")].into_iter()).is_err());
        let found = Guard.resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.count() > 0);
    }
}
