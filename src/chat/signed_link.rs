//! Signed links that decide a call without login, for mail and messengers. A link is valid for one call and one choice until
//! the call expires. Opening it only shows the call, since programs also follow links. A button press decides.

use super::decide::{self, ApprovalChoice, Decided, Decision, DecisionError, LinkUsed};
use crate::app::App;
use crate::config::{Chat, Config};
use crate::domain::{Actor, Approval, Caller};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde_json::json;
use sha2::Sha256;
use std::net::IpAddr;
use std::sync::Arc;

/// The content of a signed link.
#[derive(Debug, Clone)]
pub struct SignedLink {
    /// The choice that the link makes.
    pub choice: ApprovalChoice,
    /// Expiry in seconds since 1970.
    pub until: i64,
    /// The person who created the link.
    pub made_by: String,
    /// The person to whom the link was issued.
    pub issued_to: String,
}

/// The client that uses a link, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct LinkClient {
    /// The user logged in in the browser, if any.
    pub caller: Option<Caller>,
    /// Client address of the request.
    pub address: Option<IpAddr>,
    /// Id of the request.
    pub request: String,
}

impl SignedLink {
    /// Creates a link that is valid until the call expires.
    #[must_use]
    pub fn new(choice: ApprovalChoice, approval: &Approval, made_by: &str, issued_to: &str) -> Self {
        let until = approval.expires_at.timestamp();
        Self { choice, until, made_by: made_by.to_owned(), issued_to: issued_to.to_owned() }
    }

    /// Returns the URL of the link, if links are configured.
    #[must_use]
    pub fn url(&self, config: &Config, approval: &Approval) -> Option<String> {
        let base = config.server.public_url.as_ref()?;
        let signature = hex::encode(self.mac(&config.chat, approval)?.finalize().into_bytes());
        let place = format!("{base}/links/{}/{}", approval.id, self.choice.as_str());
        let until = self.until.to_string();
        let query = [
            ("until", until.as_str()),
            ("by", &self.made_by),
            ("for", &self.issued_to),
            ("signature", &signature),
        ];
        reqwest::Url::parse_with_params(&place, query).ok().map(Into::into)
    }

    /// Returns the MAC over all fields and the call's hash, which binds the link to these arguments.
    fn mac(&self, config: &Chat, approval: &Approval) -> Option<Hmac<Sha256>> {
        let secret = config.link_secret.as_ref()?;
        let (id, hash, choice) = (approval.id, &approval.hash, self.choice.as_str());
        let said = json!(["approval", id, hash, choice, self.until, self.made_by, self.issued_to]);
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
        mac.update(said.to_string().as_bytes());
        Some(mac)
    }

    /// Whether the signature is valid for this call and the link has not expired.
    #[must_use]
    pub fn is_genuine(
        &self,
        config: &Chat,
        approval: &Approval,
        signature: &str,
        now: DateTime<Utc>,
    ) -> bool {
        let given = hex::decode(signature).ok();
        let signed = given
            .zip(self.mac(config, approval))
            .is_some_and(|(given, mac)| mac.verify_slice(&given).is_ok());
        signed && now.timestamp() < self.until
    }

    /// Decides the call. Requires that [`Self::is_genuine`] has returned true.
    ///
    /// # Errors
    /// See [`DecisionError`].
    pub async fn decide(
        &self,
        app: &Arc<App>,
        approval: &Approval,
        presser: LinkClient,
    ) -> Result<Decided, DecisionError> {
        let Self { choice, made_by, issued_to, .. } = self.clone();
        let mut author = format!("signed link (made by {made_by}, issued to {issued_to})");
        if let Some(caller) = &presser.caller {
            author = format!("{} by {author}", caller.name);
        }
        let link = Some(LinkUsed { made_by, issued_to, address: presser.address });
        let author = Actor::new(author, presser.request);
        let decision = Decision { choice, author, caller: presser.caller, note: None, link };
        decide::decide(app, approval.id, decision).await
    }
}
