//! HTTP client for servers added over the API: refuses names that resolve to a forbidden address at connection time,
//! whatever they resolved to when the server was added.

use crate::config::is_off_limits;
use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Resolver that refuses names with forbidden addresses.
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
    // A forbidden address among allowed ones indicates an attack.
    if found.iter().any(|address| is_off_limits(address.ip())) {
        return Err(std::io::Error::other(
            "its name leads to a link-local address or a metadata service, which no added server may be",
        ));
    }
    Ok(Box::new(found.into_iter()))
}

/// Returns a client builder with the guard and without a proxy, which would resolve names itself.
pub(super) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().dns_resolver(Arc::new(Guard)).no_proxy()
}

/// Returns a client with the guard. It follows no redirects.
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
