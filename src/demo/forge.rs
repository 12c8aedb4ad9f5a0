//! The stand-in forge: a Gitea MCP server over streamable HTTP with issues in memory, and a page for each issue.

use super::mcp_server::{Offer, Tool, router, serve};
use crate::clock;
use crate::shutdown::Shutdown;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Issues of one page.
const PAGE: usize = 30;

/// A running forge.
pub struct Forge {
    /// Endpoint of its MCP server.
    pub mcp_url: String,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    base: OnceLock<String>,
    issues: Mutex<Vec<Value>>,
}

impl Forge {
    /// All issues as the API shows them, oldest first.
    #[must_use]
    pub fn issues(&self) -> Vec<Value> {
        self.book.all()
    }
}

/// Starts the forge on loopback.
///
/// # Errors
/// No port is free.
pub async fn start(shutdown: &Shutdown) -> anyhow::Result<Forge> {
    let book = Arc::new(Book::default());
    let offer = Offer { name: "stand-in-gitea", tools: tools(&book) };
    let pages = Router::new()
        .route("/{owner}/{repo}/issues/{number}", get(page))
        .with_state(Arc::clone(&book))
        .merge(router(offer, shutdown.token().clone()));
    let base = format!("http://{}", serve(pages, shutdown).await?);
    // Set once: this is the only place.
    let _ = book.base.set(base.clone());
    Ok(Forge { mcp_url: format!("{base}/mcp"), book })
}

impl Book {
    fn all(&self) -> Vec<Value> {
        self.issues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn create(&self, arguments: &Value) -> Result<Value, String> {
        let (owner, repo) = repository(arguments)?;
        let title = arguments["title"]
            .as_str()
            .filter(|title| !title.trim().is_empty())
            .ok_or("the title is empty")?;
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let number =
            issues.iter().filter(|issue| issue["repository"] == json!(format!("{owner}/{repo}"))).count() + 1;
        let base = self.base.get().map_or("", String::as_str);
        let issue = json!({
            "id": issues.len() + 1,
            "number": number,
            "html_url": format!("{base}/{owner}/{repo}/issues/{number}"),
            "repository": format!("{owner}/{repo}"),
            "title": title,
            "body": arguments["body"].as_str().unwrap_or_default(),
            "labels": arguments["labels"].as_array().cloned().unwrap_or_default(),
            "state": "open",
            "comments": 0,
            "comments_list": [],
            "created_at": clock::now(),
        });
        issues.push(issue.clone());
        Ok(issue)
    }

    fn list(&self, arguments: &Value) -> Result<Value, String> {
        let (owner, repo) = repository(arguments)?;
        let state = arguments["state"].as_str().unwrap_or("open");
        let number = |name: &str, default: usize| {
            arguments[name].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(default).max(1)
        };
        let (page, limit) = (number("page", 1), number("limit", PAGE).min(50));
        let wanted = |issue: &Value| {
            issue["repository"] == json!(format!("{owner}/{repo}"))
                && (state == "all" || issue["state"] == state)
        };
        let issues = self.all().into_iter().rev().filter(wanted).skip((page - 1) * limit).take(limit);
        Ok(issues.collect())
    }

    fn get(&self, arguments: &Value) -> Result<Value, String> {
        let (owner, repo) = repository(arguments)?;
        let number = &arguments["issue_number"];
        let same = |issue: &Value| {
            issue["repository"] == json!(format!("{owner}/{repo}")) && &issue["number"] == number
        };
        self.all().into_iter().find(same).ok_or_else(|| format!("issue {number} not found"))
    }

    fn comment(&self, arguments: &Value) -> Result<Value, String> {
        let (owner, repo) = repository(arguments)?;
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let number = &arguments["issue_number"];
        let same = |issue: &&mut Value| {
            issue["repository"] == json!(format!("{owner}/{repo}")) && &issue["number"] == number
        };
        let issue = issues.iter_mut().find(same).ok_or_else(|| format!("issue {number} not found"))?;
        let comment = json!({"id": 1, "body": arguments["body"], "created_at": clock::now()});
        if let Some(comments) = issue["comments_list"].as_array_mut() {
            comments.push(comment.clone());
            issue["comments"] = json!(issue["comments_list"].as_array().map_or(0, Vec::len));
        }
        Ok(comment)
    }
}

fn repository(arguments: &Value) -> Result<(String, String), String> {
    let part = |name: &str| {
        let text = arguments[name].as_str().unwrap_or_default();
        let legal = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        legal.then(|| text.to_owned()).ok_or_else(|| format!("`{name}` is not a name"))
    };
    Ok((part("owner")?, part("repo")?))
}

fn tools(book: &Arc<Book>) -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let with = |run: fn(&Book, &Value) -> Result<Value, String>| {
        let book = Arc::clone(book);
        Box::new(move |arguments: &Value| run(&book, arguments)) as Box<dyn Fn(&Value) -> _ + Send + Sync>
    };
    let schema = |extra: &[(&str, Value)], required: &[&str]| {
        let mut properties = json!({"owner": text(), "repo": text()});
        for (name, kind) in extra {
            properties[*name] = kind.clone();
        }
        let required: Vec<&str> = ["owner", "repo"].into_iter().chain(required.iter().copied()).collect();
        json!({"type": "object", "properties": properties, "required": required})
    };
    let number = || json!({"type": "integer"});
    let labels = json!({"type": "array", "items": {"type": "string"}});
    let issue = [("title", text()), ("body", text()), ("labels", labels)];
    let page = [("state", text()), ("page", number()), ("limit", number())];
    let tool = |name, description, read_only, schema, run| Tool { name, description, read_only, schema, run };
    vec![
        tool(
            "create_issue",
            "Create a new issue in a repository",
            false,
            schema(&issue, &["title"]),
            with(Book::create),
        ),
        tool("list_issues", "List issues of a repository", true, schema(&page, &[]), with(Book::list)),
        tool(
            "get_issue",
            "Get an issue by number",
            true,
            schema(&[("issue_number", number())], &["issue_number"]),
            with(Book::get),
        ),
        tool(
            "add_comment",
            "Add a comment to an issue",
            false,
            schema(&[("issue_number", number()), ("body", text())], &["issue_number", "body"]),
            with(Book::comment),
        ),
    ]
}

async fn page(
    State(book): State<Arc<Book>>,
    Path((owner, repo, number)): Path<(String, String, u64)>,
) -> Result<Html<String>, StatusCode> {
    let arguments = json!({"owner": owner, "repo": repo, "issue_number": number});
    let issue = book.get(&arguments).map_err(|_| StatusCode::NOT_FOUND)?;
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let comments: String = issue["comments_list"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|comment| format!("<section><h2>Comment</h2><pre>{}</pre></section>", text(&comment["body"])))
        .collect();
    Ok(Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>\
         <style>:root{{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}}body{{max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         pre{{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8886;border-radius:8px;padding:1rem;font:14px/1.5 ui-monospace,monospace}}\
         small{{opacity:.75}}h1{{line-height:1.25}}</style>\
         <small>{owner}/{repo} · issue #{number} · open</small><h1>{title}</h1><pre>{body}</pre>{comments}",
        title = text(&issue["title"]),
        body = text(&issue["body"]),
        owner = escape(&owner),
        repo = escape(&repo),
    )))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
