//! A tool as its server lists it, with the access under which it may be used.

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
    /// The server declares that the tool only reads.
    pub(super) reads: bool,
    /// Effective access. While a change is unconfirmed, the stricter of the old and the new.
    pub(super) access: Access,
    /// Hash of the listed definition.
    pub(super) hash: String,
    /// A policy rule names the tool and the tool changed: it is not used without approval by a person.
    pub(super) is_held: bool,
    /// Change that waits for an admin.
    pub(super) unconfirmed: Option<Arc<Unconfirmed>>,
}

impl ListedTool {
    /// Returns the listed definition.
    pub(super) fn definition(&self) -> Definition {
        let Self { description, schema, reads, access, .. } = self;
        Definition {
            description: description.clone(),
            input_schema: Arc::clone(schema),
            reads: *reads,
            access: *access,
        }
    }

    /// Returns the listed definition and its hash.
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
