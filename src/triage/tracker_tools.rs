//! Names and arguments of tracker tools on different MCP servers. Names, spellings and allowed values come from the tools'
//! schemas wherever possible.

use super::arguments::{
    Argument, BODY, COMMENT, ISSUE, METHOD, Names, OWNER, PROJECT, REPO, TITLE, choice, fitting, known,
    listed, property, takes,
};
use crate::config::{Tracker, TrackerKind};
use crate::mcp::{McpTool, Registry};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A tracker operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    List,
    Comment,
    /// Reads one issue, for its URL.
    Read,
}

impl Operation {
    /// Returns the setting that names the tool. The tool for reading an issue is always detected.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Create => "tracker.create_tool",
            Self::List => "tracker.list_tool",
            Self::Comment => "tracker.comment_tool",
            Self::Read => "tracker.kind",
        }
    }

    fn set(self, tracker: &Tracker) -> Option<&str> {
        match self {
            Self::Create => tracker.create_tool.as_deref(),
            Self::List => tracker.list_tool.as_deref(),
            Self::Comment => tracker.comment_tool.as_deref(),
            Self::Read => None,
        }
    }

    /// Returns the tool names of known servers, including newer ones of GitHub and Gitea with several functions and a
    /// `method` argument.
    fn tools_of(self, kind: TrackerKind) -> &'static [&'static str] {
        match (kind, self) {
            (TrackerKind::Gitea, Self::Create) => &["create_issue", "issue_write"],
            (TrackerKind::Gitea, Self::List) => &["list_issues", "list_repo_issues"],
            (TrackerKind::Gitea, Self::Comment) => {
                &["add_comment", "create_issue_comment", "add_issue_comment", "issue_write"]
            }
            (TrackerKind::Gitea, Self::Read) => &["get_issue", "get_issue_by_index", "issue_read"],
            (TrackerKind::Github, Self::Create) => &["issue_write", "create_issue"],
            (TrackerKind::Github, Self::List) => &["list_issues", "search_issues"],
            (TrackerKind::Github, Self::Comment) => &["add_issue_comment"],
            (TrackerKind::Github, Self::Read) => &["issue_read", "get_issue"],
            (TrackerKind::Gitlab, Self::Create) => &["create_issue", "gitlab_create_issue"],
            (TrackerKind::Gitlab, Self::List) => {
                &["list_issues", "gitlab_list_issues", "list_project_issues"]
            }
            (TrackerKind::Gitlab, Self::Comment) => {
                &["create_issue_note", "gitlab_create_issue_note", "create_note", "create_workitem_note"]
            }
            (TrackerKind::Gitlab, Self::Read) => &["get_issue", "gitlab_get_issue"],
        }
    }

    /// Returns the possible names of the tool, most likely first.
    pub(super) fn candidates(self, tracker: &Tracker) -> Vec<&str> {
        if let Some(name) = self.set(tracker) {
            return vec![name];
        }
        let kinds =
            TrackerKind::ALL.iter().copied().filter(|kind| tracker.kind.is_none_or(|set| set == *kind));
        let mut names = Vec::new();
        for name in kinds.flat_map(|kind| self.tools_of(kind)) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    /// Returns the possible values of the `method` argument.
    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["create"],
            Self::List => &["list", "list_issues"],
            Self::Comment => &["add_comment", "create_comment", "comment"],
            Self::Read => &["get", "get_issue", "read"],
        }
    }

    /// Returns the required arguments apart from the repository.
    fn needs(self) -> &'static [Names] {
        match self {
            Self::Create => &[TITLE, BODY],
            Self::List => &[],
            Self::Comment => &[ISSUE, COMMENT],
            Self::Read => &[ISSUE],
        }
    }

    /// Returns argument values that are sent if the schema lists them.
    fn words(self) -> &'static [(Names, &'static [&'static str])] {
        match self {
            Self::List => &[
                (&["orderBy", "order_by", "sort_by", "sort"], &["created_at", "created"]),
                (&["direction", "order", "sort"], &["desc"]),
                // GitLab's default is the caller's own issues.
                (&["scope"], &["all"]),
                (&["type"], &["issues"]),
            ],
            Self::Comment => &[(&["noteable_type", "noteableType"], &["issue"])],
            Self::Create | Self::Read => &[],
        }
    }
}

/// Returns the tool of an operation: the configured one, or the first known one whose schema fits.
pub(super) fn tool(mcp: &Registry, tracker: &Tracker, operation: Operation) -> Option<Arc<McpTool>> {
    let names = operation.candidates(tracker);
    let there: Vec<_> = names.iter().filter_map(|name| mcp.find(&tracker.server, name)).collect();
    let fits = there.iter().find(|tool| misfits(tracker, operation, tool.schema()).is_empty());
    fits.or(there.first()).cloned()
}

/// Returns the possible names of a missing tool for a message.
pub(super) fn named(tracker: &Tracker, operation: Operation) -> String {
    operation.candidates(tracker).join("` or `")
}

/// Returns the kind of the tracker, configured or detected by its tools.
pub(super) fn kind(mcp: &Registry, tracker: &Tracker) -> TrackerKind {
    let by_tools = || {
        let create = tool(mcp, tracker, Operation::Create)?;
        let schema = create.schema();
        if !takes(schema, OWNER) && takes(schema, PROJECT) {
            return Some(TrackerKind::Gitlab);
        }
        mcp.find(&tracker.server, "add_issue_comment").map(|_| TrackerKind::Github)
    };
    tracker.kind.or_else(by_tools).unwrap_or(TrackerKind::Gitea)
}

/// Returns the URL of an issue's page, if the host is known.
pub(super) fn address(tracker: &Tracker, kind: TrackerKind, number: i64) -> Option<String> {
    let public = match kind {
        TrackerKind::Gitea => None,
        TrackerKind::Github => Some("https://github.com"),
        TrackerKind::Gitlab => Some("https://gitlab.com"),
    };
    let base = tracker.url.as_deref().or(public)?;
    let between = if kind == TrackerKind::Gitlab { "/-" } else { "" };
    Some(format!("{base}/{}/{}{between}/issues/{number}", tracker.owner, tracker.repo))
}

/// Builds the arguments of a call: repository, fixed values and the operation's own arguments.
pub(super) fn arguments(
    tracker: &Tracker,
    operation: Operation,
    schema: &Value,
    wanted: &[Argument<'_>],
) -> Value {
    let mut arguments = Map::new();
    let method = choice(schema, METHOD, operation.methods());
    let unlisted = || Some((required(schema, METHOD)?, json!(operation.methods()[0])));
    let words = operation.words().iter().filter_map(|(names, words)| choice(schema, names, words));
    for (name, value) in method.or_else(unlisted).into_iter().chain(words) {
        arguments.insert(name.to_owned(), value);
    }
    if operation == Operation::Create {
        // Files the issue immediately instead of showing a form.
        if property(schema, "show_ui")["type"] == "boolean" {
            arguments.insert("show_ui".to_owned(), json!(false));
        }
        arguments.extend(tracker.create_arguments.clone());
    }
    if operation == Operation::List
        && let Some(name) = required(schema, &["query", "q"])
    {
        arguments.insert(name.to_owned(), json!("is:issue"));
    }
    for given in [fitting(schema, &repository(tracker, schema)), fitting(schema, wanted)] {
        arguments.extend(given.as_object().cloned().unwrap_or_default());
    }
    Value::Object(arguments)
}

/// Returns the first of these arguments that is required.
fn required<'a>(schema: &Value, names: &[&'a str]) -> Option<&'a str> {
    let required = schema["required"].as_array()?;
    names.iter().find(|name| required.iter().any(|wanted| wanted == **name)).copied()
}

/// Returns the repository arguments: owner and name, or both in one.
fn repository(tracker: &Tracker, schema: &Value) -> Vec<Argument<'static>> {
    let Tracker { owner, repo, .. } = tracker;
    let is_open = schema.get("properties").is_none();
    let is_whole = if is_open {
        tracker.kind == Some(TrackerKind::Gitlab)
    } else {
        !takes(schema, OWNER) && !takes(schema, REPO)
    };
    let Some(name) = known(schema, PROJECT).filter(|_| is_whole) else {
        return vec![(OWNER, json!(owner)), (REPO, json!(repo))];
    };
    let said = property(schema, name)["description"].as_str().unwrap_or_default().to_lowercase();
    let between = if said.contains("encoded") { "%2F" } else { "/" };
    vec![(PROJECT, json!(format!("{}{between}{repo}", owner.replace('/', between))))]
}

/// Returns the state filters to query one after the other, so that both open and closed issues are found.
pub(super) fn states(schema: &Value) -> Vec<Option<(&'static str, Value)>> {
    let Some(name) = known(schema, &["state", "states"]) else { return vec![None] };
    let property = property(schema, name);
    if property["type"] == "array" {
        let all = property["items"]["enum"].as_array().filter(|all| !all.is_empty());
        return vec![all.map(|all| (name, json!(all)))];
    }
    let Some(listed) = listed(schema, name) else { return vec![Some((name, json!("all")))] };
    if let Some(all) = choice(schema, &[name], &["all", "any", "both"]) {
        return vec![Some(all)];
    }
    let said = property["description"].as_str().unwrap_or_default().to_lowercase();
    let is_both = said.split(|c: char| !c.is_alphanumeric()).any(|word| word == "both" || word == "all");
    if is_both && required(schema, &[name]).is_none() {
        return vec![None];
    }
    let is_state = |value: &&Value| {
        value.as_str().is_some_and(|text| {
            ["open", "opened", "closed"].iter().any(|state| text.eq_ignore_ascii_case(state))
        })
    };
    let each: Vec<_> = listed.iter().filter(is_state).map(|value| Some((name, value.clone()))).collect();
    if each.is_empty() { vec![None] } else { each }
}

/// Describes the problems with a tool's arguments.
pub(super) fn misfits(tracker: &Tracker, operation: Operation, schema: &Value) -> Vec<String> {
    // A schema without properties accepts any argument.
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let mut found = Vec::new();
    let mut needs = operation.needs().to_vec();
    if !takes(schema, PROJECT) || takes(schema, OWNER) || takes(schema, REPO) {
        needs.splice(0..0, [OWNER, REPO]);
    }
    let lacks = needs.iter().filter(|names| !takes(schema, names));
    found.extend(lacks.map(|names| format!("it takes no `{}`", names.join("` or `"))));
    if let Some(name) = known(schema, METHOD)
        && let Some(all) = listed(schema, name)
        && choice(schema, METHOD, operation.methods()).is_none()
    {
        found.push(format!("its `{name}` has no `{}` but {}", operation.methods()[0], told(&all)));
    }
    let given = arguments(tracker, operation, schema, &sample(operation));
    let given = given.as_object().cloned().unwrap_or_default();
    for (name, value) in given.iter().filter(|(name, _)| !METHOD.contains(&name.as_str())) {
        if !properties.contains_key(name) {
            found.push(format!("it takes no `{name}` (`tracker.create_arguments`)"));
        } else if let Some(all) = listed(schema, name).filter(|all| !all.contains(value) && !value.is_array())
        {
            found.push(format!("its `{name}` cannot be {value} but {}", told(&all)));
        }
    }
    let wants = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let wants =
        wants.filter(|name| !(given.contains_key(*name) || operation == Operation::List && *name == "state"));
    found.extend(wants.map(|name| format!("it wants `{name}`, which nobody gives it")));
    found
}

fn told(all: &[Value]) -> String {
    all.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns sample arguments of an operation.
pub(super) fn sample(operation: Operation) -> Vec<Argument<'static>> {
    let needs = operation.needs().iter();
    let value = |names: &Names| if *names == ISSUE { json!(1) } else { json!("") };
    needs.map(|names| (*names, value(names))).collect()
}

#[cfg(test)]
#[path = "tracker_tools_tests.rs"]
mod tests;
