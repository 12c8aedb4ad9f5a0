//! Links that decide a call without a login, for mail and messengers: signed, for one call and one choice, until the call
//! expires. Following one shows the call; deciding takes a press of a button, since programs follow links too.

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

/// A link, as its address holds it.
#[derive(Debug, Clone)]
pub struct SignedLink {
    /// What it decides.
    pub choice: ApprovalChoice,
    /// Until when, in seconds since 1970.
    pub until: i64,
    /// Who made it.
    pub made_by: String,
    /// For whom.
    pub issued_to: String,
}

/// Who presses the button of a link, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct LinkClient {
    /// Whoever is logged in in the browser.
    pub caller: Option<Caller>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request: String,
}

impl SignedLink {
    /// For a call, until it expires.
    #[must_use]
    pub fn new(choice: ApprovalChoice, approval: &Approval, made_by: &str, issued_to: &str) -> Self {
        let until = approval.expires_at.timestamp();
        Self { choice, until, made_by: made_by.to_owned(), issued_to: issued_to.to_owned() }
    }

    /// Its address, if links are configured.
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

    /// Over all that it says, and the call's own hash: it is for these arguments and no others.
    fn mac(&self, config: &Chat, approval: &Approval) -> Option<Hmac<Sha256>> {
        let secret = config.link_secret.as_ref()?;
        let (id, hash, choice) = (approval.id, &approval.hash, self.choice.as_str());
        let said = json!(["approval", id, hash, choice, self.until, self.made_by, self.issued_to]);
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
        mac.update(said.to_string().as_bytes());
        Some(mac)
    }

    /// Whether it was made here, for this call, and is not over.
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

    /// Decides the call by a link that is genuine.
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
