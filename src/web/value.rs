//! What is serialised as a value of a template.

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

/// A value for a template.
pub(super) fn value(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}
