//! What a model is told about a tool.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether a tool only looks, or changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Looks only.
    Read,
    /// Changes something, or nobody says that it does not.
    Write,
}

/// A tool as offered to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Letters, digits, `_` and `-`, at most 64 characters, unique within a request.
    pub name: String,
    /// One or more sentences for the model.
    pub description: String,
    /// JSON Schema of the arguments; always an object schema.
    pub input_schema: Value,
    /// Read or write.
    pub access: Access,
}
