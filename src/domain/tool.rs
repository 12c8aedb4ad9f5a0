//! What a model is told about a tool.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;

/// Whether a tool only looks, or changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// JSON Schema of the arguments; always an object schema. Shared by all runs.
    pub input_schema: Arc<Value>,
    /// Read or write.
    pub access: Access,
}

/// How a model calls tools.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, IntoStaticStr, EnumString, VariantArray, VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum ToolCalls {
    /// Natively, until an answer shows that it does not; then it is found out.
    #[default]
    Auto,
    /// By the calls of the chat completions API.
    Native,
    /// By a JSON schema that its answer is held to (`response_format`).
    Schema,
    /// Written into its answer as JSON.
    Text,
}

impl ToolCalls {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The value with the keys of its objects in order, so that spelling does not matter where calls are compared.
#[must_use]
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Shows every text in the value, names of properties too.
pub fn each_text(value: &Value, look: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, look)),
        Value::Object(map) => {
            for (key, item) in map {
                look(key);
                each_text(item, look);
            }
        }
        _ => {}
    }
}
