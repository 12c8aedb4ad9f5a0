//! Callers and their permissions.

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
    /// All roles, lowest first.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all roles.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a role name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// How a caller authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// No authentication is configured.
    Open,
    /// API key of this server.
    Key,
    /// Token of the OIDC issuer.
    Oidc,
    /// Token of a Kubernetes service account.
    Kubernetes,
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name in the audit log: `key:NAME`, `oidc:SUBJECT` or `kubernetes:NAMESPACE/ACCOUNT`; `user` when no authentication is
    /// configured.
    pub name: String,
    /// Role of the caller.
    pub role: Role,
    /// Namespaces that the caller is restricted to; all when absent.
    pub namespaces: Option<Arc<[String]>>,
    /// Authentication method.
    pub way: AuthMethod,
    /// The caller's own token, for MCP servers that require it; never stored.
    pub token: Option<SecretString>,
    /// Request id; empty when there is none.
    pub request: String,
}

impl Caller {
    /// Creates an authenticated caller without a token and without a request id.
    #[must_use]
    pub fn known(name: String, role: Role, namespaces: Option<Arc<[String]>>, way: AuthMethod) -> Self {
        Self { name, role, namespaces, way, token: None, request: String::new() }
    }

    /// Creates the caller used when no authentication is configured: an admin without restrictions.
    #[must_use]
    pub fn anyone() -> Self {
        Self::known("user".to_owned(), Role::Admin, None, AuthMethod::Open)
    }

    /// Creates a caller from a stored name and role, without a token.
    #[must_use]
    pub fn recorded(name: &str, role: &str) -> Self {
        // An unknown role becomes the lowest one.
        let role = Role::parse(role).unwrap_or(Role::Reporter);
        Self::known(name.to_owned(), role, None, AuthMethod::Open)
    }

    /// Whether the caller has access to a namespace.
    #[must_use]
    pub fn may_touch(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|bound| bound.iter().any(|known| known == namespace))
    }

    /// Whether the caller may read everything that viewers read, in all namespaces.
    #[must_use]
    pub fn reads_all(&self) -> bool {
        self.role >= Role::Viewer && self.namespaces.is_none()
    }

    /// Returns the audit actor for this caller and request.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.named(None)
    }

    /// Like [`Self::actor`], but uses the name `said`, if given, when no authentication is configured.
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
    /// Returns the caller that authenticates with this key.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let namespaces = self.namespaces.clone().map(Into::into);
        Caller::known(format!("key:{}", self.name), self.role, namespaces, AuthMethod::Key)
    }
}
