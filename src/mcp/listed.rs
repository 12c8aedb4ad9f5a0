//! A tool as its server lists it, and as it may be used.

use crate::db::definitions::Hashed;
use crate::domain::{Access, Definition};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// A tool as its server lists it.
#[derive(Debug, Clone)]
pub(super) struct ListedTool {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: Arc<Value>,
    /// The server says that it only reads.
    pub(super) reads: bool,
    /// What it is taken for. While a change waits, the stricter of before and now.
    pub(super) access: Access,
    /// Of its definition as it is listed.
    pub(super) hash: String,
    /// A rule speaks of it, and it changed: it is not used without a person.
    pub(super) is_held: bool,
    /// What waits for an admin.
    pub(super) unconfirmed: Option<Arc<Unconfirmed>>,
}

impl ListedTool {
    /// Its definition, as far as it is known here.
    pub(super) fn definition(&self) -> Definition {
        let Self { description, schema, reads, access, .. } = self;
        Definition {
            description: description.clone(),
            input_schema: Arc::clone(schema),
            reads: *reads,
            access: *access,
        }
    }

    /// The definition as it is listed.
    pub(super) fn hashed(&self) -> Hashed {
        Hashed { hash: self.hash.clone(), definition: self.definition() }
    }
}

/// A definition that is not in force.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Unconfirmed {
    /// Of the definition that the server lists; what is confirmed.
    pub hash: String,
    /// Since when it waits; absent while it could not be compared yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The definition that was judged; absent while it could not be compared yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Definition>,
    /// The definition that the server lists.
    pub now: Definition,
}
