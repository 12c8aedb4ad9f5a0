//! Secrets issued by this server: 256 random bits. Only a SHA-256 hash is stored, since secrets of this size cannot be
//! guessed and need no slow hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Prefix of API keys, by which people and secret scanners recognise them.
pub const KEY_PREFIX: &str = "rgn_";

/// A secret, shown once.
#[derive(Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// Generates a secret.
    ///
    /// # Panics
    /// The operating system provides no random bytes.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no secret is the default")]
    pub fn new() -> Self {
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        Self(SecretString::from(URL_SAFE_NO_PAD.encode(random)))
    }

    /// Generates an API key.
    #[must_use]
    pub fn key() -> Self {
        Self(SecretString::from(format!("{KEY_PREFIX}{}", Self::new().expose())))
    }

    /// Returns the text of the secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Returns the hash under which a secret is stored.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Returns the code challenge of a verifier (RFC 7636, `S256`).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(hash(verifier))
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::evidence::redact::Redactor;

    #[test]
    fn a_challenge_is_that_of_the_rfc() {
        // RFC 7636, appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn a_key_is_known_by_its_beginning_and_redacted() {
        let key = Secret::key();
        assert!(key.expose().starts_with(KEY_PREFIX) && key.expose().len() == 47);
        let log = format!("curl -H 'X-Key: {}' https://regreen.example", key.expose());
        assert!(!Redactor::new().redact(&log).contains(key.expose()));
    }
}
