//! Checks the server's addresses and its authentication services.

use super::finding::Finding;
use crate::auth::Auth;
use crate::config::Config;
use crate::domain::{ApiKey, AuthMethod};
use crate::{clock, db};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;

/// Time before the expiry of a key from which it is reported, because pipelines with an expired key fail to report.
const ENDS_SOON: TimeDelta = TimeDelta::days(14);

/// Checks the authentication methods and valid keys.
pub(super) async fn auth(config: &Config, http: reqwest::Client, keys: Option<Vec<ApiKey>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let only_keys = config.auth.oidc.is_none() && config.auth.kubernetes.is_none();
    match keys.filter(|_| config.auth.keys) {
        Some(keys) if keys.is_empty() && only_keys => findings.push(
            Finding::warning("auth", "there is no API key yet, so nobody can call or log in")
                .advice("make one: `regreen token create --role admin --name alice`"),
        ),
        Some(keys) => {
            findings.push(Finding::ok("auth", format!("{} API keys may be used", keys.len())));
            findings.extend(ending(&keys, clock::now()));
        }
        None => {}
    }
    // The checks do not access the database.
    let pool = db::pool(PgConnectOptions::new_without_pgpass(), 1);
    let auth = match Auth::new(config, pool, http) {
        Ok(auth) => auth,
        Err(error) => {
            let finding = Finding::error("auth", format!("{error:#}"));
            findings.push(finding.advice("mount the file, and let this user read it"));
            return findings;
        }
    };
    for (way, found) in auth.look().await {
        findings.push(match found {
            Ok(says) => Finding::ok("auth", says),
            Err(error) => {
                Finding::error("auth", format!("{}: {error:#}", name(way))).advice(advice(way, config))
            }
        });
    }
    if config.auth.oidc.as_ref().is_some_and(|oidc| oidc.client_id.is_some()) && !auth.has_login() {
        let finding =
            Finding::warning("auth", "people cannot log in at the issuer: `server.public_url` is not set");
        findings.push(finding.advice("set `server.public_url` (REGREEN_PUBLIC_URL), and register `/login/callback` under it at the issuer"));
    }
    findings
}

/// Reports keys that expire soon, the next one first.
fn ending(keys: &[ApiKey], now: DateTime<Utc>) -> Option<Finding> {
    let ends = keys.iter().filter_map(|key| key.expires_at.map(|end| (end, key.name.as_str())));
    let mut soon: Vec<_> = ends.filter(|(end, _)| *end - now < ENDS_SOON).collect();
    soon.sort_unstable();
    let (next, _) = soon.first()?;
    let data = json!({ "keys": soon.len(), "next": next });
    let told: Vec<String> = soon
        .into_iter()
        .map(|(end, name)| format!("`{name}` ends on {}", end.format("%Y-%m-%d %H:%M UTC")))
        .collect();
    let advice = "make one of another name (`regreen token create`), put it in this one's place, then `regreen token revoke` this one; `regreen token list` shows who used theirs";
    Some(Finding::warning("auth", told.join(", ")).advice(advice).data(data))
}

fn name(way: AuthMethod) -> &'static str {
    if way == AuthMethod::Kubernetes { "kubernetes" } else { "oidc" }
}

fn advice(way: AuthMethod, config: &Config) -> &'static str {
    let reviews = config.auth.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.issuer.is_none());
    match way {
        AuthMethod::Kubernetes if reviews => {
            "see `auth.kubernetes_api`, `auth.kubernetes_ca` and `auth.kubernetes_token`; let this server's account create `tokenreviews.authentication.k8s.io` (a ClusterRole of its own)"
        }
        AuthMethod::Kubernetes => {
            "see `auth.kubernetes_api` and `auth.kubernetes_ca`; let this server's account read /openid/v1/jwks (the ClusterRole `system:service-account-issuer-discovery`)"
        }
        _ => {
            "see that `auth.oidc_issuer` is the issuer's URL exactly as it names itself, and can be reached from here"
        }
    }
}

/// Checks the listen address and the access control on it.
pub(super) fn address(config: &Config) -> Vec<Finding> {
    let (server, auth) = (&config.server, &config.auth);
    let place = format!("{}:{}", server.bind, server.port);
    let mut findings = vec![if auth.is_on() {
        Finding::ok("address", format!("{place}; who calls has to show who they are"))
    } else if server.bind.is_loopback() {
        Finding::note("address", format!("{place}, loopback alone; nobody has to show who they are"))
            .advice("set `auth.methods` (REGREEN_AUTH) before a proxy or port-forward lets others in")
    } else {
        Finding::warning("address", format!("{place}; whoever reaches it may do everything")).advice(
            "set `auth.methods` (REGREEN_AUTH) to any of keys, oidc, kubernetes, or `server.bind` to 127.0.0.1",
        )
    }];
    if let Some(beside) = server.metrics_bind.filter(|beside| !beside.ip().is_loopback()) {
        findings.push(Finding::note(
            "address",
            format!("metrics and probes at {beside}, open to whoever reaches it"),
        ));
    }
    match &server.public_url {
        None => findings.push(
            Finding::note("address", "issues have no links to their reports: `server.public_url` is not set")
                .advice("set it (REGREEN_PUBLIC_URL) to where people reach this server"),
        ),
        Some(url) if auth.is_on() && url.starts_with("http://") && !url.starts_with("http://localhost") => {
            findings.push(
                Finding::warning(
                    "address",
                    format!("{url} is not https: browsers do not keep who logged in to the pages"),
                )
                .advice("put TLS before the server, and set `server.public_url` to https://"),
            );
        }
        Some(_) => {}
    }
    findings
}
