//! Service accounts of a cluster: bound tokens, verified by the API server (TokenReview) or with the cluster's keys.

use super::jwt::{Expected, Keys};
use super::oidc::read;
use super::reviews::Reviews;
use super::{AuthError, hash};
use crate::config;
use crate::domain::{AuthMethod, Caller, Role};
use anyhow::Context as _;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

/// Authenticator for the service accounts of a cluster.
pub(super) struct Kubernetes {
    config: config::Kubernetes,
    http: reqwest::Client,
    keys: Keys,
    reviews: Reviews<Account>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    namespace: String,
    name: String,
}

impl Account {
    /// Parses a user name of the form `system:serviceaccount:NAMESPACE:NAME`.
    fn parse(user: &str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        (plain(namespace) && plain(name))
            .then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// The relevant part of a TokenReview (`authentication.k8s.io/v1`).
#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

impl Kubernetes {
    pub(super) fn new(config: config::Kubernetes) -> anyhow::Result<Self> {
        // A separate client: the cluster's CA is trusted only for its API server.
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("regreen/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &config.ca {
            let pem = std::fs::read(path)
                .with_context(|| format!("`auth.kubernetes_ca`: {} cannot be read", path.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("`auth.kubernetes_ca`: {} is no PEM file", path.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().context("cannot set up the client for the API server")?;
        Ok(Self { config, http, keys: Keys::default(), reviews: Reviews::default() })
    }

    /// Returns whether a token of this issuer is checked here.
    pub(super) fn may_be(&self, issuer: &str) -> bool {
        self.config.issuer.as_ref().is_none_or(|own| own == issuer)
    }

    /// Authenticates a token sent from an address.
    pub(super) async fn caller(&self, token: &str, address: Option<IpAddr>) -> Result<Caller, AuthError> {
        let account = match &self.config.issuer {
            Some(issuer) => self.by_keys(token, issuer).await?,
            None => self.by_review(token, address).await?,
        };
        let path = format!("{}/{}", account.namespace, account.name);
        let role = self.config.roles.of(&path).ok_or_else(|| {
            AuthError::NoRole(format!(
                "the service account {path} has no role here: it is not among `auth.kubernetes_roles`"
            ))
        })?;
        let namespaces = (role == Role::Reporter).then(|| [account.namespace].into());
        Ok(Caller::known(format!("kubernetes:{path}"), role, namespaces, AuthMethod::Kubernetes))
    }

    async fn by_keys(&self, token: &str, issuer: &str) -> Result<Account, AuthError> {
        let expected = Expected { issuer, audience: &self.config.audience };
        let claims = self.keys.check(token, &expected, || self.jwks()).await?;
        Account::parse(claims["sub"].as_str().unwrap_or_default()).ok_or_else(not_an_account)
    }

    async fn jwks(&self) -> anyhow::Result<JwkSet> {
        let request = self.http.get(format!("{}/openid/v1/jwks", self.config.api));
        read(self.authorised(request)?).await.context("the cluster's keys")
    }

    /// Checks that tokens can be verified: reads the cluster's keys, or requests a review of an invalid token.
    pub(super) async fn look(&self) -> anyhow::Result<String> {
        let api = &self.config.api;
        if self.config.issuer.is_some() {
            let keys = self.jwks().await?.keys.len();
            anyhow::ensure!(keys > 0, "the cluster publishes no keys");
            return Ok(format!("{api} publishes {keys} keys"));
        }
        self.review("regreen-doctor").await.context("a TokenReview")?;
        Ok(format!("{api} answers TokenReviews"))
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::RequestBuilder> {
        let Some(path) = &self.config.token else { return Ok(request) };
        let token = std::fs::read_to_string(path)
            .with_context(|| format!("`auth.kubernetes_token`: {} cannot be read", path.display()))?;
        Ok(request.bearer_auth(token.trim()))
    }

    async fn by_review(&self, token: &str, address: Option<IpAddr>) -> Result<Account, AuthError> {
        let key = hash(token);
        if let Some(known) = self.reviews.known(&key) {
            return known.map_err(AuthError::Refused);
        }
        let turn = self.reviews.turn(address).await.map_err(AuthError::TooMany)?;
        // The answer may have been cached while this request waited.
        if let Some(known) = self.reviews.known(&key) {
            turn.settle();
            return known.map_err(AuthError::Refused);
        }
        let status = match self.review(token).await {
            Ok(status) => status,
            Err(error) => {
                turn.settle();
                let error = format!("{error:#}");
                tracing::warn!(error, "the API server cannot be asked about a token");
                return Err(AuthError::Away(
                    "the cluster's API server cannot be asked about the token; try again in a moment"
                        .to_owned(),
                ));
            }
        };
        let answer = self.judge(&status);
        self.reviews.keep(key, &answer);
        if answer.is_ok() {
            turn.settle();
        }
        answer.map_err(AuthError::Refused)
    }

    fn judge(&self, status: &Status) -> Result<Account, String> {
        if !status.authenticated {
            return Err("the token is not taken: the cluster does not know it, or it has expired".to_owned());
        }
        // An API server that does not support audiences returns none: its tokens are valid for every audience.
        if !status.audiences.contains(&self.config.audience) {
            let audience = &self.config.audience;
            return Err(format!("the token is not taken: it is not bound to the audience `{audience}`"));
        }
        Account::parse(&status.user.username).ok_or_else(|| not_an_account().to_string())
    }

    async fn review(&self, token: &str) -> anyhow::Result<Status> {
        let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", self.config.api);
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.config.audience]},
        });
        let review: Review = read(self.authorised(self.http.post(url))?.json(&body)).await?;
        Ok(review.status)
    }
}

fn not_an_account() -> AuthError {
    AuthError::Refused("the token is not taken: it is not a service account's".to_owned())
}

#[cfg(test)]
mod unit {
    use super::Account;

    #[test]
    fn only_a_service_account_is_one() {
        let account = Account::parse("system:serviceaccount:team-a:pipeline").unwrap();
        assert_eq!((account.namespace.as_str(), account.name.as_str()), ("team-a", "pipeline"));
        for user in [
            "system:node:team-a",
            "system:serviceaccount:team-a",
            "system:serviceaccount:team-a:pipeline:more",
            "system:serviceaccount::x",
            "system:serviceaccount:a/b:x",
            "admin",
        ] {
            assert_eq!(Account::parse(user), None, "{user}");
        }
    }
}
