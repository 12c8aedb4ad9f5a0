//! JSON Web Tokens (RFC 7519), checked as RFC 8725 recommends: algorithm, key, issuer, audience and validity period.

use super::AuthError;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::Value;
use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Asymmetric signatures only: with a shared-secret algorithm, a public key could be used as the secret.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Permitted clock skew.
const SKEW: Duration = Duration::from_secs(60);
/// Age after which the keys are read again.
const FRESH: Duration = Duration::from_secs(3600);
/// Maximum age of keys that cannot be refreshed.
const GOOD: Duration = Duration::from_secs(24 * 3600);
/// Minimum interval between two requests for an unknown key, whatever key ids tokens name.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Returns the unverified issuer of a token, which selects the keys for the check. `None` if it is not a token.
pub(super) fn issuer(token: &str) -> Option<String> {
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
    Some(claims["iss"].as_str()?.to_owned())
}

/// Required issuer and audience of a token.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
}

/// Cached public keys of an issuer.
#[derive(Default)]
pub(super) struct Keys {
    known: RwLock<Known>,
    /// Held during a request to the issuer; concurrent callers wait for its result.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Vec<Jwk>,
    read: Option<Instant>,
    tried: Option<Instant>,
}

impl Keys {
    /// Returns the claims of a valid token. `fetch` reads the issuer's keys.
    ///
    /// # Errors
    /// The token is invalid, or the keys cannot be read.
    pub(super) async fn check<F: Future<Output = anyhow::Result<JwkSet>>>(
        &self,
        token: &str,
        expected: &Expected<'_>,
        fetch: impl Fn() -> F,
    ) -> Result<Value, AuthError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| refused("it is no signed token, or of an algorithm that is not taken"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused("it is signed by an algorithm that is not taken"));
        }
        if header.crit.is_some() {
            return Err(refused("it names extensions (`crit`) that are not understood"));
        }
        let key = self.key(&header, fetch).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = SKEW.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[expected.issuer]);
        validation.set_audience(&[expected.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_jwk(&key).map_err(|_| refused("its issuer's key is not understood"))?;
        let data = jsonwebtoken::decode::<Value>(token, &key, &validation);
        data.map(|data| data.claims).map_err(|error| refused(why(error.kind())))
    }

    async fn key<F: Future<Output = anyhow::Result<JwkSet>>>(
        &self,
        header: &Header,
        fetch: impl Fn() -> F,
    ) -> Result<Jwk, AuthError> {
        if let (Some(key), true) = (self.find(header), self.age(|known| known.read) < FRESH) {
            return Ok(key);
        }
        let _turn = self.looking.lock().await;
        // Another task may have refreshed the keys in the meantime.
        let found = self.find(header);
        if found.is_none() || self.age(|known| known.read) >= FRESH {
            if self.age(|known| known.tried) >= LOOK_AGAIN {
                self.look(fetch).await;
            }
            if self.age(|known| known.read) >= GOOD {
                return Err(AuthError::Away(
                    "the keys of the token's issuer cannot be read; try again in a moment".to_owned(),
                ));
            }
        }
        self.find(header).ok_or_else(|| refused("it is signed with a key that its issuer does not publish"))
    }

    async fn look<F: Future<Output = anyhow::Result<JwkSet>>>(&self, fetch: impl Fn() -> F) {
        let fetched = fetch().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tried = Some(Instant::now());
        match fetched {
            Ok(set) => {
                known.keys = set.keys;
                known.read = known.tried;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    "the keys of an issuer of tokens cannot be read; those known are believed for a day"
                );
            }
        }
    }

    fn age(&self, of: impl Fn(&Known) -> Option<Instant>) -> Duration {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        of(&known).map_or(Duration::MAX, |at| at.elapsed())
    }

    /// Returns the key that the token names, or the only suitable key if it names none.
    fn find(&self, header: &Header) -> Option<Jwk> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut fitting = known.keys.iter().filter(|key| fits(key, header.alg));
        match &header.kid {
            Some(kid) => fitting.find(|key| key.common.key_id.as_ref() == Some(kid)).cloned(),
            None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
        }
    }
}

/// Returns whether a key can verify signatures of an algorithm.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let common = &key.common;
    let of_family = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512)
        }
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, A::ES256 | A::ES384),
        AlgorithmParameters::OctetKeyPair(_) => matches!(algorithm, A::EdDSA),
        _ => false,
    };
    let by_use = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let by_operation = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let by_name = common.key_algorithm.is_none_or(|own| own == algorithm.into());
    of_family && by_use && by_operation && by_name
}

fn refused(why: &str) -> AuthError {
    AuthError::Refused(format!("the token is not taken: {why}"))
}

fn why(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind as K;
    match kind {
        K::InvalidSignature => "its signature is wrong",
        K::ExpiredSignature => "it has expired",
        K::ImmatureSignature => "it is not valid yet",
        K::InvalidIssuer => "it is of another issuer",
        K::InvalidAudience => "it was made for another audience",
        K::MissingRequiredClaim(_) => "it lacks one of the claims exp, iss, aud, sub",
        K::InvalidAlgorithm => "its algorithm is not that of its key",
        _ => "it cannot be read",
    }
}
