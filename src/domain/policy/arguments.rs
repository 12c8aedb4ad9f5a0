//! Applies a rule to arguments: pinned arguments are overwritten, checked arguments are validated. Other spellings of an
//! argument name cannot bypass the rule.

use super::rule::Rule;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Maximum depth of nested schemas.
pub(super) const MAX_DEPTH: usize = 8;

pub(super) type Properties<'a> = BTreeMap<&'a str, &'a Value>;

/// Returns the arguments to send.
///
/// # Errors
/// Which condition fails, as a message for the model.
pub(super) fn settle(rule: Option<&Rule>, schema: Option<&Value>, arguments: Value) -> Result<Value, String> {
    let mut arguments = match arguments {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        _ => return Err("the arguments have to be one JSON object".to_owned()),
    };
    let Some(rule) = rule.filter(|rule| rule.paths().next().is_some()) else {
        return Ok(Value::Object(arguments));
    };
    let level = schema.map(Level::of);
    let paths: Vec<&[String]> = rule.paths().collect();
    strangers(&arguments, level.as_ref(), &paths)?;
    for (path, value) in &rule.pins {
        set(&mut arguments, path, value.clone());
    }
    for (path, check) in &rule.checks {
        let name = path.join(".");
        let given = at(&arguments, path).filter(|value| !value.is_null());
        let value = given.or_else(|| schema.and_then(|root| default_of(root, path)));
        match value {
            Some(value) if check.holds(value) => {
                // The server's default passed the check; send it explicitly, so that the server cannot use another value.
                let value = value.clone();
                set(&mut arguments, path, value);
            }
            Some(_) => return Err(format!("`{name}` has to be {}", check.words())),
            None if check.required => {
                return Err(format!("`{name}` is missing; it has to be {}", check.words()));
            }
            None => {}
        }
    }
    Ok(Value::Object(arguments))
}

/// Explains why a rule cannot apply to a tool of this schema: the tool does not accept a pinned or required argument.
pub(super) fn cannot_hold(rule: &Rule, schema: Option<&Value>) -> Option<String> {
    let root = schema?;
    let wanted = rule.checks.iter().filter(|(_, check)| check.required).map(|(path, _)| path);
    let mut paths = rule.pins.iter().map(|(path, _)| path).chain(wanted);
    let unknown = paths.find(|path| !takes(root, path))?;
    let name = unknown.join(".");
    Some(format!(
        "the rule says what `{name}` has to be, and the tool does not say that it takes such an argument"
    ))
}

/// Whether a schema accepts an argument. Objects that the schema does not describe accept any content.
fn takes(root: &Value, path: &[String]) -> bool {
    let mut schema = root;
    for (depth, name) in path.iter().enumerate() {
        match properties(schema, root, MAX_DEPTH) {
            Some(known) => match known.get(name.as_str()) {
                Some(next) => schema = next,
                None => return false,
            },
            None => return depth > 0,
        }
    }
    true
}

fn default_of<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut schema = root;
    for name in path {
        schema = properties(schema, root, MAX_DEPTH)?.get(name.as_str()).copied()?;
    }
    resolved(schema, root).get("default").filter(|value| !value.is_null())
}

/// Schema of one object within the arguments.
pub(super) struct Level<'a> {
    root: &'a Value,
    /// Properties of the object; `None` when the schema does not describe them.
    known: Option<Properties<'a>>,
}

impl<'a> Level<'a> {
    /// Top level of the arguments.
    pub(super) fn of(root: &'a Value) -> Self {
        Self { root, known: Some(properties(root, root, MAX_DEPTH).unwrap_or_default()) }
    }
}

/// Rejects arguments that could be another name of an argument covered by the rule: unknown names, and alternative
/// spellings where the schema describes nothing.
pub(super) fn strangers(
    given: &Map<String, Value>,
    level: Option<&Level<'_>>,
    paths: &[&[String]],
) -> Result<(), String> {
    let names: BTreeSet<&str> = paths.iter().filter_map(|path| path.first()).map(String::as_str).collect();
    let known = level.and_then(|level| level.known.as_ref());
    for key in given.keys().filter(|key| !names.contains(key.as_str())) {
        let is_known = known.is_some_and(|known| known.contains_key(key.as_str()));
        let shown = key.escape_debug();
        if known.is_some() && !is_known {
            return Err(format!("the tool has no argument `{shown}`"));
        }
        if !is_known && names.iter().any(|name| folded(name) == folded(key)) {
            return Err(format!("`{shown}` is another spelling of an argument that the policy speaks of"));
        }
    }
    for name in names {
        let deeper: Vec<&[String]> =
            paths.iter().filter(|path| path.len() > 1 && path[0] == name).map(|path| &path[1..]).collect();
        if let Some(Value::Object(inner)) = given.get(name).filter(|_| !deeper.is_empty()) {
            let inside = level.map(|level| {
                let schema = level.known.as_ref().and_then(|known| known.get(name).copied());
                let known = schema.and_then(|schema| properties(schema, level.root, MAX_DEPTH));
                Level { root: level.root, known }
            });
            strangers(inner, inside.as_ref(), &deeper)?;
        }
    }
    Ok(())
}

/// Normalizes a name as lenient servers do: ignores case, `_`, `-` and invisible characters.
pub(super) fn folded(name: &str) -> String {
    let plain = name.chars().filter(|c| c.is_alphanumeric());
    plain.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

pub(super) fn set(arguments: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        arguments.insert(name.clone(), value);
        return;
    }
    let inner = arguments.entry(name.as_str()).or_insert_with(|| json!({}));
    if !inner.is_object() {
        *inner = json!({});
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

/// Removes an argument if present.
pub(super) fn remove(arguments: &mut Map<String, Value>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        arguments.remove(name);
    } else if let Some(Value::Object(inner)) = arguments.get_mut(name) {
        remove(inner, rest);
    }
}

pub(super) fn at<'a>(arguments: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (name, rest) = path.split_first()?;
    let value = arguments.get(name)?;
    if rest.is_empty() { Some(value) } else { at(value.as_object()?, rest) }
}

/// Follows `$ref` references within the schema.
pub(super) fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..MAX_DEPTH {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        match target.and_then(|pointer| root.pointer(pointer)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// Properties described by a schema and its branches; `None` when it describes none.
pub(super) fn properties<'a>(schema: &'a Value, root: &'a Value, depth: usize) -> Option<Properties<'a>> {
    let schema = resolved(schema, root);
    let own = schema.get("properties").and_then(Value::as_object);
    let mut found: Option<Properties<'a>> =
        own.map(|own| own.iter().map(|(name, property)| (name.as_str(), property)).collect());
    if depth == 0 {
        return found;
    }
    let branches = ["allOf", "anyOf", "oneOf"].iter().filter_map(|part| schema.get(*part)?.as_array());
    for branch in branches.flatten() {
        if let Some(more) = properties(branch, root, depth - 1) {
            found.get_or_insert_default().extend(more);
        }
    }
    found
}

/// Returns the schema without pinned arguments, and a description of the rule's conditions.
pub(super) fn offered(rule: &Rule, schema: &Arc<Value>) -> (Arc<Value>, String) {
    let mut schema = Arc::clone(schema);
    let mut words = String::new();
    for (path, value) in &rule.pins {
        without(Arc::make_mut(&mut schema), path);
        let _ = write!(words, " The policy sets `{}` to {value}.", path.join("."));
    }
    for (path, check) in &rule.checks {
        let _ = write!(words, " `{}` has to be {}.", path.join("."), check.words());
    }
    (schema, words)
}

/// Removes a property from the schema. Allows additional properties, because a pinned argument sent anyway is overwritten
/// and not an error.
pub(super) fn without(schema: &mut Value, path: &[String]) {
    let (Some((name, rest)), Some(map)) = (path.split_first(), schema.as_object_mut()) else { return };
    if map.get("additionalProperties") == Some(&Value::Bool(false)) {
        map.remove("additionalProperties");
    }
    if rest.is_empty()
        && let Some(required) = map.get_mut("required").and_then(Value::as_array_mut)
    {
        required.retain(|known| known != name);
    }
    let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) else { return };
    if rest.is_empty() {
        properties.remove(name);
    } else if let Some(inner) = properties.get_mut(name) {
        without(inner, rest);
    }
}
