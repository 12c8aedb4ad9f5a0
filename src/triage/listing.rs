//! Parses the results of tracker tools: issues in any structure, the cursor of the next page, and whether the result has an
//! unknown format.

use crate::mcp::CallResult;
use chrono::{DateTime, TimeDelta, Utc};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Maximum clock difference between tracker and service.
const SKEW: TimeDelta = TimeDelta::days(1);

static ISSUE_URL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"https?://[^\s"'<>\\]+/issues/(\d+)"#).expect("a fixed pattern"));
/// Matches texts that say there are no issues.
static NONE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\bno\b.{0,40}\bissues?\b").expect("a fixed pattern"));

/// An issue as described by a tool result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IssueRef {
    /// Issue number in the repository.
    pub(super) number: Option<i64>,
    /// URL of the issue's page.
    pub(super) url: Option<String>,
    /// Whether the issue is closed.
    pub(super) closed: bool,
}

/// One page of issues.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub(super) issues: Vec<Value>,
    /// Cursor of the next page.
    pub(super) cursor: Option<String>,
    /// Whether the page contains something that is not recognised as an issue.
    pub(super) is_strange: bool,
}

impl Page {
    pub(super) fn of(result: &CallResult) -> Self {
        let (documents, is_json) = documents(result);
        let mut issues = Vec::new();
        for document in &documents {
            flatten(document, &mut issues);
        }
        let says_none = result.text.trim().is_empty() || NONE.is_match(&result.text);
        let is_strange =
            issues.is_empty() && if is_json { documents.iter().any(holds_objects) } else { !says_none };
        Self { issues, cursor: documents.iter().find_map(cursor), is_strange }
    }

    /// Returns the issue whose text contains a mark.
    pub(super) fn bearing(&self, mark: &str) -> Option<IssueRef> {
        self.issues
            .iter()
            .find(|issue| text_of(issue).is_some_and(|text| text.contains(mark)))
            .map(parse_issue)
    }

    /// Whether the result contains the texts of issues.
    pub(super) fn has_texts(&self) -> bool {
        self.issues.iter().any(|issue| text_of(issue).is_some())
    }

    /// Whether this page and all following ones contain only issues older than a time: the order is newest first and the
    /// first is older.
    pub(super) fn is_older_than(&self, since: DateTime<Utc>) -> bool {
        let created = |value: &Value| {
            let text = ["created_at", "createdAt"].iter().find_map(|key| value[*key].as_str())?;
            Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
        };
        let times: Option<Vec<DateTime<Utc>>> = self.issues.iter().map(created).collect();
        times.is_some_and(|times| {
            // A single issue, or several with the same time, do not show the order.
            times.is_sorted_by(|a, b| a >= b) && times.first() > times.last() && times[0] < since - SKEW
        })
    }
}

/// Returns the issue that a result describes.
pub(super) fn one(result: &CallResult) -> Option<IssueRef> {
    let (documents, _) = documents(result);
    let mut issues = Vec::new();
    for document in &documents {
        flatten(document, &mut issues);
    }
    let mut all = issues.iter().map(parse_issue);
    let addressed = all.clone().find(|told| told.url.is_some());
    addressed.or_else(|| from_text(&result.text)).or_else(|| all.find(|told| told.number.is_some()))
}

/// Parses the JSON of a result: structured content, one document, or one document per item. Also returns whether the result
/// is JSON only.
fn documents(result: &CallResult) -> (Vec<Value>, bool) {
    if let Some(structured) = &result.structured {
        return (vec![structured.clone()], true);
    }
    let mut values = serde_json::Deserializer::from_str(&result.text).into_iter::<Value>();
    let documents: Vec<Value> = values.by_ref().map_while(Result::ok).collect();
    let rest = result.text.get(values.byte_offset()..).unwrap_or_default();
    let is_json =
        !documents.is_empty() && rest.trim().is_empty() && documents.iter().all(|one| !one.is_number());
    (documents, is_json)
}

fn is_issue(map: &Map<String, Value>) -> bool {
    ["html_url", "web_url", "body", "number", "iid", "title"].iter().any(|key| map.contains_key(*key))
}

fn flatten(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, found)),
        Value::Object(map) if is_issue(map) => found.push(value.clone()),
        Value::Object(map) => map.values().for_each(|item| flatten(item, found)),
        _ => {}
    }
}

/// Whether a value contains a list of objects.
fn holds_objects(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| item.is_object() || holds_objects(item)),
        Value::Object(map) => map.values().any(holds_objects),
        _ => false,
    }
}

/// Returns the cursor of the next page, by the names of GraphQL and similar APIs.
fn cursor(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(cursor),
        Value::Object(map) if is_issue(map) => None,
        Value::Object(map) => {
            let is_last =
                ["hasNextPage", "has_next_page"].iter().any(|key| map.get(*key) == Some(&Value::Bool(false)));
            let names = ["endCursor", "end_cursor", "nextCursor", "next_cursor"];
            let told = names.iter().find_map(|key| map.get(*key)?.as_str()).filter(|text| !text.is_empty());
            match told {
                Some(told) => (!is_last).then(|| told.to_owned()),
                None => map.values().find_map(cursor),
            }
        }
        _ => None,
    }
}

fn text_of(issue: &Value) -> Option<&str> {
    ["body", "description"].iter().find_map(|key| issue[*key].as_str())
}

/// Parses an issue.
pub(super) fn parse_issue(issue: &Value) -> IssueRef {
    let url = ["html_url", "web_url", "webUrl", "url"].iter().find_map(|key| issue[*key].as_str());
    let url = url.filter(|url| is_page(url)).map(str::to_owned);
    let as_number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let number = ["number", "index", "iid"].iter().find_map(|key| as_number(&issue[*key]));
    let number = number.or_else(|| from_text(url.as_deref()?)?.number);
    let closed = issue["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("closed"));
    IssueRef { number, url, closed }
}

/// Whether a URL is that of a web page, not of an API.
fn is_page(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    !rest.starts_with("api.") && !rest.contains("/api/") && !rest.contains("/repos/")
}

fn from_text(text: &str) -> Option<IssueRef> {
    let found = ISSUE_URL.captures_iter(text).find(|found| is_page(&found[0]))?;
    Some(IssueRef { url: Some(found[0].to_owned()), number: found[1].parse().ok(), closed: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(text: &str, structured: Option<Value>) -> CallResult {
        CallResult { text: text.to_owned(), is_error: false, structured }
    }

    fn at(number: i64, url: Option<&str>) -> IssueRef {
        IssueRef { number: Some(number), url: url.map(str::to_owned), closed: false }
    }

    #[test]
    fn issues_are_found_however_the_server_packs_them() {
        let url = "http://f/o/r/issues/4";
        let full = r#"{"id": 9, "number": 4, "html_url": "http://f/o/r/issues/4", "body": "x"}"#;
        assert_eq!(one(&result(full, None)), Some(at(4, Some(url))));
        assert_eq!(Page::of(&result(&format!("{full}\n{full}"), None)).issues.len(), 2);
        let structured = json!({"result": [{"html_url": url, "body": ""}]});
        assert_eq!(one(&result("", Some(structured))), Some(at(4, Some(url))));
        assert_eq!(one(&result("Issue created: http://f/o/r/issues/4", None)), Some(at(4, Some(url))));
        // Format of GitHub's newer servers and of GitLab.
        assert_eq!(
            one(&result(r#"{"id": "9", "url": "http://f/o/r/issues/4"}"#, None)),
            Some(at(4, Some(url)))
        );
        let gitlab =
            json!({"iid": "4", "web_url": "https://l/o/r/-/issues/4", "description": "x", "title": "t"});
        assert_eq!(one(&result(&gitlab.to_string(), None)), Some(at(4, Some("https://l/o/r/-/issues/4"))));
        let bare = json!({"number": 4, "url": "https://api.github.com/repos/o/r/issues/4", "state": "OPEN"});
        assert_eq!(one(&result(&bare.to_string(), None)), Some(at(4, None)), "an API's address is nobody's");
    }

    #[test]
    fn the_next_page_begins_where_the_server_says() {
        let page = |more: bool| {
            json!({"issues": [{"number": 1, "body": "m", "endCursor": "not this"}], "totalCount": 2,
                "pageInfo": {"hasNextPage": more, "endCursor": "c1"}})
        };
        assert_eq!(Page::of(&result(&page(true).to_string(), None)).cursor.as_deref(), Some("c1"));
        assert_eq!(Page::of(&result(&page(false).to_string(), None)).cursor, None);
    }

    #[test]
    fn what_cannot_be_read_is_strange() {
        let strange = |text: &str| Page::of(&result(text, None)).is_strange;
        for text in [
            "",
            "[]",
            r#"{"issues": [], "pageInfo": {}}"#,
            "No open issues were found.",
            r#"[{"number": 1}]"#,
        ] {
            assert!(!strange(text), "{text}");
        }
        for text in ["#1 build fails\n#2 test fails", r#"{"data": [{"key": "A-1"}]}"#, "12 issues"] {
            assert!(strange(text), "{text}");
        }
    }
}
