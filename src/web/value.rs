//! Converts serializable values to template values.

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

/// Converts a value for a template.
pub(super) fn value(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}
