//! Order of properties in JSON schemas sent to models. Models write arguments in schema order, and a grammar made from the
//! schema permits no other order, so premises come before conclusions. Models also tend to omit optional properties.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

/// Schema keyword for the order of properties, as supported by Google's models. Models are told that all listed properties
/// are required; validation uses `required`. The keyword itself is not sent.
const ORDER: &str = "propertyOrdering";

/// Serializes a value with the properties of each schema ordered by `propertyOrdering`, all of them required, or by
/// `required`; other properties follow.
pub(super) struct InOrder<'a>(pub(super) &'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            Value::Object(map) => {
                let mut written = serializer.serialize_map(None)?;
                for (key, value) in map {
                    match value {
                        _ if key == ORDER => {}
                        Value::Array(_) if key == "required" => {
                            written.serialize_entry(key, map.get(ORDER).unwrap_or(value))?;
                        }
                        Value::Object(properties) if key == "properties" => {
                            written.serialize_entry(key, &Properties(&ordered(map, properties)))?;
                        }
                        value => written.serialize_entry(key, &InOrder(value))?,
                    }
                }
                written.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

struct Properties<'a>(&'a [(&'a String, &'a Value)]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, InOrder(value))))
    }
}

/// Returns the names of the properties to request from a model, in order.
pub(super) fn asked(schema: &Map<String, Value>) -> Vec<&str> {
    let named = schema.get(ORDER).or_else(|| schema.get("required"));
    named.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Returns the properties of a schema in order.
pub(super) fn ordered<'a>(
    schema: &'a Map<String, Value>,
    properties: &'a Map<String, Value>,
) -> Vec<(&'a String, &'a Value)> {
    let first = asked(schema);
    let place = |name: &str| first.iter().position(|first| *first == name).unwrap_or(first.len());
    let mut all: Vec<(&String, &Value)> = properties.iter().collect();
    all.sort_by_key(|(name, _)| place(name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn properties_stand_in_their_order() {
        let schema = json!({"tools": [{
            "type": "object",
            "properties": {"cause": {}, "claims": {"items": {
                "properties": {"evidence": {}, "quote": {}, "statement": {}},
                "propertyOrdering": ["quote", "statement"], "required": ["evidence"]}}, "note": {}},
            "required": ["claims", "cause"]}]});
        let written = serde_json::to_string(&InOrder(&schema)).unwrap();
        let at = |name: &str| written.find(&format!("\"{name}\":{{")).unwrap();
        let order = ["claims", "quote", "statement", "evidence", "cause", "note"];
        assert!(order.map(at).is_sorted(), "{written}");
        assert!(!written.contains(ORDER));
        assert!(written.contains(r#""required":["quote","statement"]"#), "{written}");
    }
}
