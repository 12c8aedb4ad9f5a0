//! Tools, as described to a model.

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

/// A tool offered to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Name: letters, digits, `_` and `-`; at most 64 characters; unique within a request.
    pub name: String,
    /// One or more sentences that describe the tool to the model.
    pub description: String,
    /// JSON Schema of the arguments, always of type object. Shared by all runs.
    pub input_schema: Arc<Value>,
    /// Whether the tool reads or writes.
    pub access: Access,
}

/// How a model calls tools.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, IntoStaticStr, EnumString, VariantArray, VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum ToolCalls {
    /// Native tool calls first. If an answer shows that the model does not support them, the method is detected.
    #[default]
    Auto,
    /// Tool calls of the chat completions API.
    Native,
    /// An answer constrained by a JSON schema (`response_format`).
    Schema,
    /// JSON within the text of the answer.
    Text,
}

impl ToolCalls {
    /// All methods.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all methods.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Returns the value with sorted object keys, so that equal calls compare equal regardless of key order.
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

/// Calls `look` for every string in the value, including property names.
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
