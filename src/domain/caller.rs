//! Who calls, and what they may do.

use super::Actor;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;
use uuid::Uuid;

/// What somebody may do; each may do what those before it may.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
    EnumString,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reports failures, and reads its own reports.
    Reporter,
    /// Reads everything but what only administrators see.
    Viewer,
    /// Chats, approves, resolves.
    Operator,
    /// Changes agents, servers, documents and keys, and reads the record.
    Admin,
}

impl Role {
    /// All of them, from the least.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// How somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// Not at all: no authentication is configured.
    Open,
    /// With an API key of this server.
    Key,
    /// With a token of the OIDC issuer.
    Oidc,
    /// With a Kubernetes service account's token.
    Kubernetes,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// By this name they are on record: `key:NAME`, `oidc:SUBJECT`, `kubernetes:NAMESPACE/ACCOUNT`; `user` when nobody has to
    /// say who they are.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Namespaces they are bound to; all when absent.
    pub namespaces: Option<Arc<[String]>>,
    /// How they showed it.
    pub way: AuthMethod,
    /// Their own token, for MCP servers that want it; never stored.
    pub token: Option<SecretString>,
    /// The id of their request; empty when there is none.
    pub request: String,
}

impl Caller {
    /// Somebody who showed who they are, without a token of their own.
    #[must_use]
    pub fn known(name: String, role: Role, namespaces: Option<Arc<[String]>>, way: AuthMethod) -> Self {
        Self { name, role, namespaces, way, token: None, request: String::new() }
    }

    /// Who calls where nobody has to say who they are: may do everything.
    #[must_use]
    pub fn anyone() -> Self {
        Self::known("user".to_owned(), Role::Admin, None, AuthMethod::Open)
    }

    /// Somebody known from the record, without a token.
    #[must_use]
    pub fn recorded(name: &str, role: &str) -> Self {
        // What cannot be read may do the least.
        let role = Role::parse(role).unwrap_or(Role::Reporter);
        Self::known(name.to_owned(), role, None, AuthMethod::Open)
    }

    /// Whether they may have to do with a namespace.
    #[must_use]
    pub fn may_touch(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|bound| bound.iter().any(|known| known == namespace))
    }

    /// Whether they may read what viewers read of all namespaces.
    #[must_use]
    pub fn reads_all(&self) -> bool {
        self.role >= Role::Viewer && self.namespaces.is_none()
    }

    /// They, in this request.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.named(None)
    }

    /// The same by a name: their own; what they say where nobody has to show who they are.
    #[must_use]
    pub fn named(&self, said: Option<String>) -> Actor {
        let said = said.filter(|_| self.way == AuthMethod::Open);
        Actor::new(said.unwrap_or_else(|| self.name.clone()), self.request.clone())
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::anyone()
    }
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiKey {
    /// Identifies it.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Namespaces it is bound to; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it may be used; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// Whoever calls with it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let namespaces = self.namespaces.clone().map(Into::into);
        Caller::known(format!("key:{}", self.name), self.role, namespaces, AuthMethod::Key)
    }
}
