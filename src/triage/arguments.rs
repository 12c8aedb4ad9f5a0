//! Arguments of a server's tool, named as its own schema names them: servers of the field disagree on
//! `name` or `pod_name`, `tail` or `tailLines`, `index` or `issue_number`.

use serde_json::{Map, Value};

/// The names a value goes by, likeliest first.
pub(super) type Names = &'static [&'static str];

/// One value and its names.
pub(super) type Argument<'a> = (&'a [&'a str], Value);

pub(super) const NAMESPACE: Names = &["namespace"];
pub(super) const POD: Names = &["name", "pod_name", "podName", "pod"];
pub(super) const TAIL: Names = &["tail", "tailLines", "tail_lines", "lines"];
pub(super) const CONTAINER: Names = &["container", "container_name", "containerName"];
pub(super) const PREVIOUS: Names = &["previous"];
pub(super) const OWNER: Names = &["owner", "org"];
pub(super) const REPO: Names = &["repo", "repository", "repo_name"];
pub(super) const TITLE: Names = &["title"];
pub(super) const BODY: Names = &["body", "description", "content"];
pub(super) const ISSUE: Names = &["issue_number", "index", "number", "issue_index", "issue"];
pub(super) const COMMENT: Names = &["body", "comment", "content"];
pub(super) const STATE: Names = &["state"];
pub(super) const PAGE: Names = &["page"];
pub(super) const PAGE_SIZE: Names = &["limit", "per_page", "perPage", "page_size", "pageSize"];

/// Whether a tool takes a value of these names.
pub(super) fn takes(schema: &Value, names: Names) -> bool {
    fitting(schema, &[(names, Value::Null)]).as_object().is_some_and(|given| !given.is_empty())
}

/// The object that fits the schema. A name the schema does not know is left out; without properties the first names are used.
pub(super) fn fitting(schema: &Value, wanted: &[Argument<'_>]) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut arguments = Map::new();
    for (names, value) in wanted {
        let name = match properties {
            None => names.first(),
            Some(known) => names.iter().find(|name| known.contains_key(**name)),
        };
        if let Some(name) = name {
            arguments.insert((*name).to_owned(), value.clone());
        }
    }
    Value::Object(arguments)
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
}
