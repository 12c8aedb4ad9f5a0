//! Form generated from a tool's JSON Schema, and conversion of the submitted values to arguments.

use super::forms::{FormFields, field};
use serde::Serialize;
use serde_json::{Map, Value};

/// A field of the form.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Input {
    name: String,
    /// `text`, `number`, `choice` or `json`.
    kind: &'static str,
    choices: Vec<String>,
    required: bool,
    description: String,
    value: String,
}

/// Returns the fields of a schema, required ones first, with the submitted or default values.
pub(super) fn inputs(schema: &Value, sent: &FormFields) -> Vec<Input> {
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
    };
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let mut inputs: Vec<Input> = properties
        .iter()
        .map(|(name, property)| {
            let choices = choices(property);
            let default = match &property["default"] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let given = field(sent, name);
            Input {
                name: name.clone(),
                kind: kind(property, &choices),
                choices,
                required: required(name),
                description: property["description"].as_str().unwrap_or_default().to_owned(),
                value: if given.is_empty() { default } else { given.to_owned() },
            }
        })
        .collect();
    inputs.sort_by_key(|input| !input.required);
    inputs
}

fn choices(property: &Value) -> Vec<String> {
    if kind_of(property) == "boolean" {
        return vec!["true".to_owned(), "false".to_owned()];
    }
    property["enum"].as_array().map(|values| values.iter().map(shown).collect()).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the type; of several types or schemas, the first that is not null.
fn kind_of(property: &Value) -> &str {
    if let Some(any) = property["anyOf"].as_array().or_else(|| property["oneOf"].as_array()) {
        return any.iter().map(kind_of).find(|kind| !kind.is_empty()).unwrap_or_default();
    }
    let kinds = match &property["type"] {
        Value::Array(kinds) => kinds.as_slice(),
        kind => std::slice::from_ref(kind),
    };
    kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
}

fn kind(property: &Value, choices: &[String]) -> &'static str {
    match kind_of(property) {
        _ if !choices.is_empty() => "choice",
        "string" => "text",
        "number" | "integer" => "number",
        _ => "json",
    }
}

/// Returns the arguments of a call, without empty fields.
///
/// # Errors
/// A field is not valid JSON; returns a message that names it.
pub(super) fn arguments(schema: &Value, sent: &FormFields) -> Result<Value, String> {
    let none = Map::new();
    let mut arguments = Map::new();
    for (name, property) in schema["properties"].as_object().unwrap_or(&none) {
        let text = field(sent, name);
        if text.is_empty() {
            continue;
        }
        let chosen =
            property["enum"].as_array().and_then(|all| all.iter().find(|value| shown(value) == text));
        let value = if let Some(chosen) = chosen {
            chosen.clone()
        } else if kind_of(property) == "string" {
            Value::from(text)
        } else {
            serde_json::from_str(text).map_err(|_| {
                let wanted = kind_of(property);
                format!("`{name}` has to be {}, as JSON", if wanted.is_empty() { "a value" } else { wanted })
            })?
        };
        arguments.insert(name.clone(), value);
    }
    Ok(Value::Object(arguments))
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_becomes_a_form_and_what_was_sent_the_arguments() {
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "tail": {"type": "integer", "default": 100},
            "previous": {"type": ["boolean", "null"]},
            "kind": {"type": "string", "enum": ["Pod", "Job"]},
            "labels": {"type": "object"},
            "level": {"enum": ["low", 3]},
            "since": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "name": {"type": "string", "description": "Name of the pod"},
        }});
        let shapes: Vec<(String, &str, bool)> = inputs(&schema, &vec![])
            .into_iter()
            .map(|input| (input.name, input.kind, input.required))
            .collect();
        let shape = |name: &str, kind, required| (name.to_owned(), kind, required);
        assert_eq!(shapes[0], shape("name", "text", true));
        for expected in [
            ("tail", "number"),
            ("previous", "choice"),
            ("kind", "choice"),
            ("labels", "json"),
            ("level", "choice"),
            ("since", "text"),
        ] {
            assert!(shapes.contains(&shape(expected.0, expected.1, false)), "{shapes:?}");
        }
        let sent = |pairs: &[(&str, &str)]| -> FormFields {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let all = sent(&[
            ("name", "7"),
            ("tail", "20"),
            ("previous", "true"),
            ("labels", "{\"a\":1}"),
            ("kind", ""),
            ("level", "3"),
            ("since", "1h"),
            ("other", "x"),
        ]);
        assert_eq!(
            arguments(&schema, &all),
            Ok(
                json!({"name": "7", "tail": 20, "previous": true, "labels": {"a": 1}, "level": 3, "since": "1h"})
            )
        );
        assert!(
            arguments(&schema, &sent(&[("tail", "many")])).unwrap_err().contains("`tail` has to be integer")
        );
    }
}
