//! Builds tool arguments with the names of the tool's schema. MCP servers disagree on names: `name` or `pod_name`, `tail` or
//! `tailLines`, `index` or `issue_number`.

use serde_json::{Map, Value};

/// Possible names of an argument, most likely first.
pub(super) type Names = &'static [&'static str];

/// Names and value of an argument.
pub(super) type Argument<'a> = (&'a [&'a str], Value);

pub(super) const NAMESPACE: Names = &["namespace"];
pub(super) const POD: Names = &["name", "pod_name", "podName", "pod"];
pub(super) const TAIL: Names = &["tail", "tailLines", "tail_lines", "lines"];
pub(super) const CONTAINER: Names = &["container", "container_name", "containerName"];
pub(super) const PREVIOUS: Names = &["previous"];
pub(super) const OWNER: Names = &["owner", "org"];
pub(super) const REPO: Names = &["repo", "repository", "repo_name"];
/// Owner and repository in one argument.
pub(super) const PROJECT: Names =
    &["project_id", "projectId", "project", "project_path", "projectPath", "id"];
pub(super) const TITLE: Names = &["title"];
pub(super) const BODY: Names = &["body", "description", "content"];
pub(super) const ISSUE: Names = &[
    "issue_number",
    "issueNumber",
    "index",
    "number",
    "issue_index",
    "issue_iid",
    "issueIid",
    "noteable_iid",
    "iid",
    "issue",
];
pub(super) const COMMENT: Names = &["body", "comment", "content", "note"];
pub(super) const PAGE: Names = &["page"];
pub(super) const PAGE_SIZE: Names = &["limit", "per_page", "perPage", "page_size", "pageSize", "first"];
pub(super) const CURSOR: Names = &["after", "cursor", "page_token", "pageToken"];
pub(super) const METHOD: Names = &["method", "action", "operation"];

/// Whether a tool has an argument with one of these names.
pub(super) fn takes(schema: &Value, names: Names) -> bool {
    known(schema, names).is_some()
}

/// Returns the name that the schema uses. A schema without properties accepts any name, so the first one is returned.
pub(super) fn known<'a>(schema: &Value, names: &[&'a str]) -> Option<&'a str> {
    match schema.get("properties").and_then(Value::as_object) {
        None => names.first().copied(),
        Some(known) => names.iter().find(|name| known.contains_key(**name)).copied(),
    }
}

/// Builds an arguments object that fits the schema. Omits arguments that the schema lacks. Converts values to the schema's
/// form: numbers to strings, enum values to the schema's spelling, numbers to the schema's maximum.
pub(super) fn fitting(schema: &Value, wanted: &[Argument<'_>]) -> Value {
    let mut arguments = Map::new();
    for (names, value) in wanted {
        if let Some(name) = known(schema, names) {
            arguments.insert(name.to_owned(), written(&property(schema, name), value.clone()));
        }
    }
    Value::Object(arguments)
}

/// Returns the schema of an argument, or `null` if there is none.
pub(super) fn property(schema: &Value, name: &str) -> Value {
    resolved(schema, &schema["properties"][name]).clone()
}

/// Resolves a reference within the schema.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Returns the allowed values of an argument if the schema lists them, directly or in `anyOf` and `oneOf`.
pub(super) fn listed(schema: &Value, name: &str) -> Option<Vec<Value>> {
    let property = property(schema, name);
    let of = |part: &Value| -> Option<Vec<Value>> {
        let part = resolved(schema, part);
        let one = part.get("const").map(|value| vec![value.clone()]);
        one.or_else(|| part["enum"].as_array().cloned())
    };
    let branches = ["anyOf", "oneOf"].iter().filter_map(|key| property[*key].as_array()).flatten();
    let among: Vec<Value> = branches.filter_map(of).flatten().filter(|value| !value.is_null()).collect();
    of(&property).or_else(|| (!among.is_empty()).then_some(among))
}

/// Returns the first argument that allows one of these words, with the word in the schema's spelling.
pub(super) fn choice<'a>(schema: &Value, names: &[&'a str], words: &[&str]) -> Option<(&'a str, Value)> {
    let is = |value: &Value, word: &str| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(word));
    names.iter().find_map(|name| {
        let listed = listed(schema, name)?;
        let word = words.iter().find_map(|word| listed.iter().find(|value| is(value, word)))?;
        Some((*name, word.clone()))
    })
}

/// Converts a value to the form that the argument's schema requires.
fn written(property: &Value, value: Value) -> Value {
    let is_only = |kind: &str| match &property["type"] {
        Value::String(one) => one == kind,
        Value::Array(all) => all.iter().all(|one| one == kind || one == "null") && !all.is_empty(),
        _ => false,
    };
    match &value {
        Value::Number(number) if is_only("string") => Value::String(number.to_string()),
        Value::Number(number) => match (number.as_f64(), property["maximum"].as_f64()) {
            (Some(asked), Some(most)) if asked > most => property["maximum"].clone(),
            _ => value,
        },
        Value::String(text) => {
            let spelled = property["enum"].as_array().into_iter().flatten();
            let same = |one: &&Value| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(text));
            spelled
                .clone()
                .find(|one| **one == value)
                .or_else(|| spelled.clone().find(same))
                .cloned()
                .unwrap_or(value)
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schema_chooses_the_names() {
        let wanted: &[Argument<'_>] =
            &[(&["name", "pod_name"], json!("p")), (&["tail", "tailLines"], json!(5)), (&["x"], json!(1))];
        let schema = json!({"properties": {"pod_name": {}, "tailLines": {}}});
        assert_eq!(fitting(&schema, wanted), json!({"pod_name": "p", "tailLines": 5}));
        assert_eq!(fitting(&json!({"type": "object"}), wanted), json!({"name": "p", "tail": 5, "x": 1}));
    }

    #[test]
    fn the_schema_chooses_the_spelling() {
        let schema = json!({"$defs": {"s": {"enum": ["OPEN", "CLOSED"]}}, "properties": {
            "issue_iid": {"type": "string"}, "perPage": {"type": "number", "maximum": 30}, "state": {"$ref": "#/$defs/s"},
            "kind": {"anyOf": [{"const": "Issue"}, {"type": "null"}]}, "free": {"type": "string"}}});
        let wanted: &[Argument<'_>] = &[
            (ISSUE, json!(7)),
            (PAGE_SIZE, json!(50)),
            (&["state"], json!("open")),
            (&["free"], json!("x")),
        ];
        let fits = json!({"issue_iid": "7", "perPage": 30, "state": "OPEN", "free": "x"});
        assert_eq!(fitting(&schema, wanted), fits);
        assert_eq!(listed(&schema, "state"), Some(vec![json!("OPEN"), json!("CLOSED")]));
        assert_eq!((listed(&schema, "free"), listed(&schema, "none")), (None, None));
        assert_eq!(choice(&schema, &["none", "kind"], &["pull", "issue"]), Some(("kind", json!("Issue"))));
        assert_eq!(choice(&schema, &["free"], &["x"]), None);
    }
}
