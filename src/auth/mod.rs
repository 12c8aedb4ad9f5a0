//! Authentication of callers: API keys, tokens of the OIDC issuer, tokens of Kubernetes service accounts, and page sessions.
//! Authorization is decided at the routes.

mod discovery;
mod jwt;
mod key;
mod kubernetes;
mod oidc;
mod refusals;
mod reviews;
mod secret;

pub use key::{CreateKeyError, NewKey, make as make_key, revoke as revoke_key};
pub use oidc::AuthorizationRequest;
pub use refusals::{LeftOut, Refusals};
pub use secret::{KEY_PREFIX, Secret, hash};

use crate::clock;
use crate::config::Config;
use crate::db::{self, keys, sessions};
use crate::domain::{ApiKey, AuthMethod, Caller};
use kubernetes::Kubernetes;
use oidc::Oidc;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use std::net::IpAddr;
use std::time::Duration;

/// Maximum length of a token that is checked, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Credentials of a request.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Token of the `Authorization: Bearer` header.
    pub bearer: Option<SecretString>,
    /// Session cookie of the pages.
    pub cookie: Option<SecretString>,
    /// Address of the client, as used for rate limits: invalid tokens count against it.
    pub address: Option<IpAddr>,
}

/// Reason why a caller is not authenticated or has no role.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// The request has no credentials.
    #[error("{0}")]
    Silent(&'static str),
    /// The credentials are invalid, with a message for the caller.
    #[error("{0}")]
    Refused(String),
    /// The caller is known but has no role.
    #[error("{0}")]
    NoRole(String),
    /// Too many invalid tokens came from the address; holds the time to wait.
    #[error("too many tokens from your address were not taken; try again in {} s", seconds(*.0))]
    TooMany(Duration),
    /// The credentials cannot be checked at present.
    #[error("{0}")]
    Away(String),
    /// The database is unavailable.
    #[error("the database is away; try again in a moment")]
    Database,
}

impl From<sqlx::Error> for AuthError {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "who calls cannot be looked up");
        Self::Database
    }
}

/// Rounds a wait up to whole seconds, at least one.
pub(crate) fn seconds(wait: Duration) -> u32 {
    let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Authenticates callers.
pub struct Auth {
    pool: PgPool,
    keys: bool,
    oidc: Option<Oidc>,
    kubernetes: Option<Kubernetes>,
    session_expires: Duration,
    /// Refused logins, counted for the audit log.
    pub refusals: Refusals,
}

impl Auth {
    /// Creates the authenticator from the settings, without network requests.
    ///
    /// # Errors
    /// The cluster's certificates cannot be read.
    pub fn new(config: &Config, pool: PgPool, http: reqwest::Client) -> anyhow::Result<Self> {
        let auth = &config.auth;
        let callback = config.server.public_url.as_ref().map(|base| format!("{base}/login/callback"));
        Ok(Self {
            pool,
            keys: auth.keys,
            oidc: auth.oidc.clone().map(|oidc| Oidc::new(oidc, callback, http)),
            kubernetes: auth.kubernetes.clone().map(Kubernetes::new).transpose()?,
            session_expires: auth.session_expires,
            refusals: Refusals::default(),
        })
    }

    /// Returns whether callers must authenticate.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.keys || self.oidc.is_some() || self.kubernetes.is_some()
    }

    /// Returns whether users can log in at the issuer.
    #[must_use]
    pub fn has_login(&self) -> bool {
        self.oidc.as_ref().is_some_and(Oidc::has_login)
    }

    /// Returns whether API keys are accepted.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys
    }

    /// Checks the connection to each identity provider and returns the results by method.
    pub async fn look(&self) -> Vec<(AuthMethod, anyhow::Result<String>)> {
        let mut found = Vec::new();
        if let Some(oidc) = &self.oidc {
            found.push((AuthMethod::Oidc, oidc.look().await));
        }
        if let Some(kubernetes) = &self.kubernetes {
            found.push((AuthMethod::Kubernetes, kubernetes.look().await));
        }
        found
    }

    /// Authenticates the caller.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn caller(&self, credentials: &Credentials) -> Result<Caller, AuthError> {
        if !self.is_on() {
            return Ok(Caller::anyone());
        }
        match (&credentials.bearer, &credentials.cookie) {
            (Some(bearer), _) => self.by_token(bearer, credentials.address).await,
            (None, Some(cookie)) => self.by_cookie(cookie).await,
            (None, None) => Err(AuthError::Silent(
                "say who you are: send `Authorization: Bearer` with an API key or a token",
            )),
        }
    }

    async fn by_token(&self, token: &SecretString, address: Option<IpAddr>) -> Result<Caller, AuthError> {
        let text = token.expose_secret();
        if text.len() > MAX_TOKEN {
            return Err(AuthError::Refused("the token is longer than 16 KiB".to_owned()));
        }
        if text.starts_with(KEY_PREFIX) {
            return Ok(self.key(text).await?.caller());
        }
        let Some(issuer) = jwt::issuer(text) else {
            return Err(AuthError::Refused(
                "what was sent is neither an API key of this server nor a token of an issuer".to_owned(),
            ));
        };
        match (&self.oidc, &self.kubernetes) {
            (Some(oidc), _) if oidc.is(&issuer) => oidc.caller(token).await,
            (_, Some(kubernetes)) if kubernetes.may_be(&issuer) => kubernetes.caller(text, address).await,
            _ => Err(AuthError::Refused("the token is of an issuer that is not trusted here".to_owned())),
        }
    }

    /// Returns the API key if it is valid.
    async fn key(&self, text: &str) -> Result<ApiKey, AuthError> {
        if !self.keys {
            return Err(AuthError::Refused(
                "API keys are not taken here: `auth.methods` lacks `keys`".to_owned(),
            ));
        }
        let known = db::with_timeout(keys::used(&self.pool, &hash(text), clock::now())).await?;
        known.ok_or_else(|| {
            AuthError::Refused("the API key is not known, was revoked, or has expired".to_owned())
        })
    }

    async fn by_cookie(&self, cookie: &SecretString) -> Result<Caller, AuthError> {
        let known =
            db::with_timeout(sessions::find(&self.pool, &hash(cookie.expose_secret()), clock::now())).await?;
        known.ok_or(AuthError::Silent("you are not logged in any more; log in again"))
    }

    /// Logs in with an API key. Returns the caller and the session cookie.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn log_in(&self, key: &SecretString) -> Result<(Caller, Secret), AuthError> {
        let key = self.key(key.expose_secret().trim()).await?;
        let caller = key.caller();
        let cookie = self.open(&caller, Some(key.id)).await?;
        Ok((caller, cookie))
    }

    /// Starts a login. Returns the URL of the issuer and the state that the browser has to return.
    ///
    /// # Errors
    /// No issuer is configured for logins, or it is unavailable.
    pub async fn begin_login(&self, next: &str) -> Result<AuthorizationRequest, AuthError> {
        self.issuer()?.send(&self.pool, next).await
    }

    /// Completes a login after the return from the issuer. Returns the caller, the session cookie and the requested page.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn complete_login(
        &self,
        code: &str,
        state: &str,
    ) -> Result<(Caller, Secret, String), AuthError> {
        let (caller, next) = self.issuer()?.complete_login(&self.pool, code, state).await?;
        let cookie = self.open(&caller, None).await?;
        Ok((caller, cookie, next))
    }

    fn issuer(&self) -> Result<&Oidc, AuthError> {
        self.oidc.as_ref().filter(|oidc| oidc.has_login()).ok_or(AuthError::Silent(
            "there is no issuer to log in at: set `auth.oidc_client_id` and `server.public_url`",
        ))
    }

    async fn open(&self, caller: &Caller, key: Option<uuid::Uuid>) -> Result<Secret, AuthError> {
        let cookie = Secret::new();
        let now = clock::now();
        let hash = hash(cookie.expose());
        let session =
            sessions::NewSession { hash: &hash, caller, key, expires_at: now + self.session_expires };
        sessions::open(&self.pool, &session, now).await?;
        Ok(cookie)
    }

    /// Ends the session of a cookie.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn log_out(&self, cookie: &SecretString) -> sqlx::Result<()> {
        sessions::close(&self.pool, &hash(cookie.expose_secret())).await
    }
}
