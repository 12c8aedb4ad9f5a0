//! An OIDC issuer: its tokens, and logins with the code flow and PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9700).

use super::discovery::{Discovered, Discovery};
use super::jwt::{Expected, Keys};
use super::secret::challenge;
use super::{AuthError, Secret, hash};
use crate::clock;
use crate::config;
use crate::db::sessions::{self, Login};
use crate::domain::{AuthMethod, Caller, Role};
use anyhow::Context as _;
use jsonwebtoken::jwk::JwkSet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;

/// Time limit of a request to the issuer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of an answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Maximum duration of a login.
const LOGIN: Duration = Duration::from_secs(600);

pub(super) struct Oidc {
    config: config::Oidc,
    callback: Option<String>,
    http: reqwest::Client,
    keys: Keys,
    discovery: Discovery,
}

/// A login request at the issuer.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// URL to which the browser is redirected.
    pub url: String,
    /// State that the browser has to return.
    pub state: Secret,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

impl Oidc {
    pub(super) fn new(config: config::Oidc, callback: Option<String>, http: reqwest::Client) -> Self {
        Self { config, callback, http, keys: Keys::default(), discovery: Discovery::default() }
    }

    pub(super) fn is(&self, issuer: &str) -> bool {
        self.config.issuer == issuer
    }

    pub(super) fn has_login(&self) -> bool {
        self.config.client_id.is_some() && self.callback.is_some()
    }

    /// Authenticates a token. The caller keeps the token for servers that require it.
    pub(super) async fn caller(&self, token: &SecretString) -> Result<Caller, AuthError> {
        let claims = self.check(token.expose_secret(), &self.config.audience).await?;
        Ok(Caller { token: Some(token.clone()), ..self.known(&claims)? })
    }

    async fn check(&self, token: &str, audience: &str) -> Result<Value, AuthError> {
        let expected = Expected { issuer: &self.config.issuer, audience };
        self.keys.check(token, &expected, || self.jwks()).await
    }

    async fn jwks(&self) -> anyhow::Result<JwkSet> {
        let found = self.discover().await?;
        let keys = self.get(&found.jwks_uri).await.context("the issuer's keys");
        keys.inspect_err(|_| self.discovery.doubt())
    }

    /// Returns the metadata of the issuer from the cache.
    async fn discover(&self) -> anyhow::Result<Arc<Discovered>> {
        self.discovery.get(|| self.ask()).await
    }

    async fn ask(&self) -> anyhow::Result<Discovered> {
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let found: Discovered = self.get(&url).await.context("the issuer's configuration")?;
        anyhow::ensure!(
            found.issuer == self.config.issuer,
            "the issuer calls itself `{}`; set `auth.oidc_issuer` to exactly that if it is right",
            found.issuer
        );
        Ok(found)
    }

    /// Checks that the issuer provides what logins and tokens require. Returns a summary with the number of keys.
    pub(super) async fn look(&self) -> anyhow::Result<String> {
        let found = self.ask().await?;
        let keys = self.jwks().await?.keys.len();
        anyhow::ensure!(keys > 0, "the issuer publishes no keys");
        let endpoints = found.authorization_endpoint.is_some() && found.token_endpoint.is_some();
        anyhow::ensure!(!self.has_login() || endpoints, "the issuer names no endpoints to log in at");
        let login =
            if self.has_login() { "people log in there" } else { "nobody logs in there to the pages" };
        Ok(format!("the issuer {} publishes {keys} keys; {login}", self.config.issuer))
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        read(self.http.get(url)).await
    }

    /// Returns the caller and role that the claims of a verified token name.
    fn known(&self, claims: &Value) -> Result<Caller, AuthError> {
        let name = claims[&self.config.name_claim]
            .as_str()
            .filter(|name| (1..=200).contains(&name.len()) && !name.chars().any(char::is_control));
        let Some(name) = name else {
            let claim = &self.config.name_claim;
            return Err(AuthError::Refused(format!(
                "the token does not say who you are: it lacks the claim `{claim}`"
            )));
        };
        let role = self.role(claims).ok_or_else(|| {
            let claim = &self.config.role_claim;
            AuthError::NoRole(format!(
                "`{name}` has no role here: nothing in the claim `{claim}` is among `auth.oidc_roles`"
            ))
        })?;
        Ok(Caller::known(format!("oidc:{name}"), role, None, AuthMethod::Oidc))
    }

    fn role(&self, claims: &Value) -> Option<Role> {
        let found = self.config.role_claim.split('.').try_fold(claims, |at, name| at.get(name));
        // A name that contains dots may be the name of a single claim.
        let found = claims.get(&self.config.role_claim).or(found);
        let values: Vec<&str> = match found {
            Some(Value::String(text)) => text.split_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        values.into_iter().filter_map(|value| self.config.roles.of(value)).max().or(self.config.default_role)
    }

    /// Starts a login.
    pub(super) async fn send(&self, pool: &PgPool, next: &str) -> Result<AuthorizationRequest, AuthError> {
        let found = self.discover().await.map_err(away)?;
        let endpoint = found.authorization_endpoint.as_deref().unwrap_or_default();
        let (state, nonce, verifier) = (Secret::new(), Secret::new(), Secret::new());
        let pairs = [
            ("response_type", "code"),
            ("client_id", self.config.client_id.as_deref().unwrap_or_default()),
            ("redirect_uri", self.callback.as_deref().unwrap_or_default()),
            ("scope", &self.config.scopes.join(" ")),
            ("state", state.expose()),
            ("nonce", nonce.expose()),
            ("code_challenge", &challenge(verifier.expose())),
            ("code_challenge_method", "S256"),
        ];
        let url = reqwest::Url::parse_with_params(endpoint, pairs)
            .map_err(|_| away(anyhow::anyhow!("the issuer names no endpoint to log in at")))?;
        let now = clock::now();
        let login = Login {
            nonce: nonce.expose().to_owned(),
            verifier: verifier.expose().to_owned(),
            next: next.to_owned(),
        };
        sessions::begin(pool, &hash(state.expose()), &login, now, now + LOGIN).await?;
        Ok(AuthorizationRequest { url: url.into(), state })
    }

    /// Completes a login. Returns the caller and the requested page.
    pub(super) async fn complete_login(
        &self,
        pool: &PgPool,
        code: &str,
        state: &str,
    ) -> Result<(Caller, String), AuthError> {
        let login = sessions::take(pool, &hash(state), clock::now()).await?;
        let login =
            login.ok_or(AuthError::Silent("this login has expired or was used already; log in again"))?;
        let client = self.config.client_id.as_deref().unwrap_or_default();
        let found = self.discover().await.map_err(away)?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.callback.as_deref().unwrap_or_default()),
            ("code_verifier", &login.verifier),
        ];
        let mut request = self.http.post(found.token_endpoint.as_deref().unwrap_or_default());
        match &self.config.client_secret {
            Some(secret) => request = request.basic_auth(client, Some(secret.expose_secret())),
            None => form.push(("client_id", client)),
        }
        let tokens = read(request.form(&form)).await.inspect_err(|_| self.discovery.doubt());
        let tokens: Tokens = tokens.map_err(away)?;
        let token = tokens.id_token.ok_or_else(|| away(anyhow::anyhow!("the issuer gave no ID token")))?;
        let claims = self.check(&token, client).await?;
        if claims["nonce"].as_str() != Some(&login.nonce) {
            return Err(AuthError::Refused("the issuer's token belongs to another login".to_owned()));
        }
        Ok((self.known(&claims)?, login.next))
    }
}

/// Sends a request and parses a successful answer.
pub(super) async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> anyhow::Result<T> {
    let mut response = request.timeout(ISSUER_TIMEOUT).send().await.map_err(reqwest::Error::without_url)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        anyhow::ensure!(body.len() + piece.len() <= MAX_ANSWER, "the answer is longer than 1 MiB");
        body.extend_from_slice(&piece);
    }
    if !status.is_success() {
        // Only the error code (RFC 6749, section 5.2): the rest may repeat parts of the request.
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name: String = said["error"].as_str().unwrap_or_default().chars().take(60).collect();
        anyhow::bail!("it answered {status} {name}");
    }
    serde_json::from_slice(&body).context("its answer is not understood")
}

fn away(error: anyhow::Error) -> AuthError {
    let error = format!("{error:#}");
    tracing::warn!(error, "the issuer that people log in at did not do its part");
    AuthError::Away("the issuer to log in at cannot be reached or refuses; try again in a moment".to_owned())
}
