//! Simulated forge: a Gitea MCP server over streamable HTTP with issues in memory, and a page for each issue.
//!
//! Names, arguments and results match gitea-mcp 0.5.1. Labels need not be defined first.

mod page;

use super::mcp_server::{Effect, Offer, Run, Tool, bind, serve};
use crate::clock;
use crate::shutdown::Shutdown;
use axum::Router;
use axum::routing::get;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Default and maximum page size of issue lists.
const PAGE: usize = 30;
const MOST: usize = 50;

/// A running forge.
pub struct Forge {
    /// URL of its MCP endpoint.
    pub mcp_url: String,
    book: Arc<Book>,
}

impl Forge {
    /// Returns all issues in API format, oldest first.
    #[must_use]
    pub fn issues(&self) -> Vec<Value> {
        self.book.read(|issues| issues.iter().map(|issue| self.book.shown(issue)).collect())
    }
}

/// Starts the forge on loopback.
///
/// # Errors
/// Fails when no port is free.
pub async fn start(shutdown: &Shutdown) -> anyhow::Result<Forge> {
    let (listener, address) = bind().await?;
    let base = format!("http://{address}");
    let mcp_url = format!("{base}/mcp");
    let book = Arc::new(Book { base, issues: Mutex::default() });
    let pages = Router::new()
        .route("/{owner}/{repo}/issues", get(page::list))
        .route("/{owner}/{repo}/issues/{number}", get(page::issue))
        .with_state(Arc::clone(&book));
    serve(listener, Offer { name: "stand-in-gitea", tools: tools(&book) }, pages, shutdown);
    Ok(Forge { mcp_url, book })
}

/// An issue.
#[derive(Clone)]
struct Issue {
    repository: Repository,
    number: usize,
    title: String,
    body: String,
    labels: Vec<String>,
    comments: Vec<Comment>,
    created_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
}

#[derive(Clone)]
struct Comment {
    id: usize,
    body: String,
    created_at: DateTime<Utc>,
}

#[derive(Clone, PartialEq, Eq)]
struct Repository {
    owner: String,
    name: String,
}

/// All issues of all repositories, oldest first.
struct Book {
    base: String,
    issues: Mutex<Vec<Issue>>,
}

impl Book {
    fn read<T>(&self, look: impl FnOnce(&[Issue]) -> T) -> T {
        look(&self.issues.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn url(&self, issue: &Issue) -> String {
        let Repository { owner, name } = &issue.repository;
        format!("{}/{owner}/{name}/issues/{}", self.base, issue.number)
    }

    /// Formats an issue like Gitea's API.
    fn shown(&self, issue: &Issue) -> Value {
        let Repository { owner, name } = &issue.repository;
        let label = |(position, name): (usize, &String)| json!({"id": position + 1, "name": name, "color": "ededed", "description": ""});
        json!({
            "id": issue.number,
            "number": issue.number,
            "url": format!("{}/api/v1/repos/{owner}/{name}/issues/{}", self.base, issue.number),
            "html_url": self.url(issue),
            "user": user(),
            "title": issue.title,
            "body": issue.body,
            "labels": issue.labels.iter().enumerate().map(label).collect::<Vec<_>>(),
            "milestone": null,
            "assignees": null,
            "state": if issue.closed_at.is_some() { "closed" } else { "open" },
            "is_locked": false,
            "comments": issue.comments.len(),
            "created_at": issue.created_at,
            "updated_at": issue.comments.last().map_or(issue.created_at, |comment| comment.created_at),
            "closed_at": issue.closed_at,
            "pull_request": null,
            "repository": {"id": 1, "name": name, "owner": owner, "full_name": format!("{owner}/{name}")},
        })
    }

    fn shown_comment(&self, issue: &Issue, comment: &Comment) -> Value {
        let url = self.url(issue);
        json!({
            "id": comment.id,
            "html_url": format!("{url}#issuecomment-{}", comment.id),
            "issue_url": url,
            "user": user(),
            "body": comment.body,
            "created_at": comment.created_at,
            "updated_at": comment.created_at,
        })
    }

    fn create(&self, arguments: &Value) -> Result<Value, String> {
        let repository = repository(arguments)?;
        let title = text(arguments, "title").trim();
        if title.is_empty() {
            return Err("Gitea API error 422: [Title]: Required".to_owned());
        }
        let labels = arguments["labels"].as_array().into_iter().flatten();
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let issue = Issue {
            number: issues.iter().filter(|issue| issue.repository == repository).count() + 1,
            repository,
            title: title.to_owned(),
            body: text(arguments, "body").to_owned(),
            labels: labels.filter_map(|label| label.as_str().map(str::to_owned)).collect(),
            comments: Vec::new(),
            created_at: clock::now(),
            closed_at: None,
        };
        let shown = self.shown(&issue);
        issues.push(issue);
        Ok(shown)
    }

    /// Lists issues, newest first, like Gitea.
    fn list(&self, arguments: &Value) -> Result<Value, String> {
        let repository = repository(arguments)?;
        let state = arguments["state"].as_str().unwrap_or("open");
        let labels: Vec<&str> =
            text(arguments, "labels").split(',').filter(|label| !label.is_empty()).collect();
        let wanted = |issue: &&Issue| {
            (state == "all" || (state == "closed") == issue.closed_at.is_some())
                && issue.repository == repository
                && labels.iter().all(|label| issue.labels.iter().any(|own| own == label))
        };
        let size = number(arguments, "limit").unwrap_or(PAGE).clamp(1, MOST);
        let skipped = number(arguments, "page").unwrap_or(1).max(1).saturating_sub(1).saturating_mul(size);
        Ok(self.read(|issues| {
            issues
                .iter()
                .rev()
                .filter(wanted)
                .skip(skipped)
                .take(size)
                .map(|issue| self.shown(issue))
                .collect()
        }))
    }

    fn get(&self, arguments: &Value) -> Result<Value, String> {
        let issue = self.find(&repository(arguments)?, number(arguments, "issue_number"))?;
        let mut shown = self.shown(&issue);
        shown["comments_list"] =
            issue.comments.iter().map(|comment| self.shown_comment(&issue, comment)).collect();
        Ok(shown)
    }

    fn find(&self, repository: &Repository, number: Option<usize>) -> Result<Issue, String> {
        let found = |issue: &&Issue| issue.repository == *repository && Some(issue.number) == number;
        self.read(|issues| issues.iter().find(found).cloned()).ok_or_else(not_found)
    }

    /// Changes the given fields of an issue.
    fn edit(&self, arguments: &Value) -> Result<Value, String> {
        let (repository, number) = (repository(arguments)?, number(arguments, "issue_number"));
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let issue = issues
            .iter_mut()
            .find(|issue| issue.repository == repository && Some(issue.number) == number)
            .ok_or_else(not_found)?;
        if let Some(title) = arguments["title"].as_str().filter(|title| !title.trim().is_empty()) {
            title.trim().clone_into(&mut issue.title);
        }
        if let Some(body) = arguments["body"].as_str() {
            body.clone_into(&mut issue.body);
        }
        match arguments["state"].as_str() {
            Some("closed") => issue.closed_at = issue.closed_at.or_else(|| Some(clock::now())),
            Some("open") => issue.closed_at = None,
            _ => {}
        }
        Ok(self.shown(issue))
    }

    fn comment(&self, arguments: &Value) -> Result<Value, String> {
        let (repository, number) = (repository(arguments)?, number(arguments, "issue_number"));
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let id = issues.iter().map(|issue| issue.comments.len()).sum::<usize>() + 1;
        let issue = issues
            .iter_mut()
            .find(|issue| issue.repository == repository && Some(issue.number) == number)
            .ok_or_else(not_found)?;
        let comment = Comment { id, body: text(arguments, "body").to_owned(), created_at: clock::now() };
        issue.comments.push(comment.clone());
        Ok(self.shown_comment(issue, &comment))
    }
}

fn user() -> Value {
    json!({"id": 1, "login": "regreen", "full_name": "Regreen"})
}

fn not_found() -> String {
    "Gitea API error 404: The target couldn't be found.".to_owned()
}

fn text<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments[name].as_str().unwrap_or_default()
}

fn number(arguments: &Value, name: &str) -> Option<usize> {
    arguments[name].as_u64().and_then(|number| usize::try_from(number).ok())
}

/// Returns the repository; every valid name exists.
fn repository(arguments: &Value) -> Result<Repository, String> {
    let part = |name: &str| {
        let text = text(arguments, name);
        let legal = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if legal { Ok(text.to_owned()) } else { Err(not_found()) }
    };
    Ok(Repository { owner: part("owner")?, name: part("repo")? })
}

fn tools(book: &Arc<Book>) -> Vec<Tool> {
    let tool = |name, description, effect, schema, run: fn(&Book, &Value) -> Result<Value, String>| {
        let book = Arc::clone(book);
        let run: Run = Box::new(move |arguments| run(&book, arguments));
        Tool { name, description, effect, schema, run }
    };
    let words = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 1});
    let labels = json!({"type": "array", "items": {"type": "string"}, "description": "Label names"});
    let state = json!({"type": "string", "enum": ["open", "closed", "all"]});
    let open = json!({"type": "string", "enum": ["open", "closed"]});
    vec![
        tool(
            "create_issue",
            "Create a new issue in a Gitea repository. Returns the full issue with its number and URL.",
            Effect::Adds,
            schema(json!({"title": words, "body": words, "labels": labels}), &["title"]),
            Book::create,
        ),
        tool(
            "list_issues",
            "List issues in a Gitea repository, newest first.",
            Effect::Reads,
            schema(json!({"state": state, "labels": words, "page": count, "limit": count}), &[]),
            Book::list,
        ),
        tool(
            "get_issue",
            "Get a single issue by number, including all of its comments.",
            Effect::Reads,
            schema(json!({"issue_number": count}), &["issue_number"]),
            Book::get,
        ),
        tool(
            "edit_issue",
            "Edit an issue: its title, its body, or whether it is open or closed. Returns the full issue.",
            Effect::Destroys,
            schema(
                json!({"issue_number": count, "title": words, "body": words, "state": open}),
                &["issue_number"],
            ),
            Book::edit,
        ),
        tool(
            "add_comment",
            "Add a comment to an existing issue. Returns the created comment.",
            Effect::Adds,
            schema(json!({"issue_number": count, "body": words}), &["issue_number", "body"]),
            Book::comment,
        ),
    ]
}

/// Builds an object schema from these properties and the repository's.
fn schema(mut properties: Value, required: &[&str]) -> Value {
    properties["owner"] = json!({"type": "string", "description": "Repository owner"});
    properties["repo"] = json!({"type": "string", "description": "Repository name"});
    let required: Vec<&str> = ["owner", "repo"].iter().chain(required).copied().collect();
    json!({"type": "object", "properties": properties, "required": required})
}

#[cfg(test)]
mod tests;
