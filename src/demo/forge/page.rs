//! Pages of the forge: an issue, and the issue list of a repository. All text is escaped.

use super::{Book, Issue, Repository};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::sync::Arc;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#8882;font:16px/1.55 system-ui,sans-serif}\
body{max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;line-height:1.3;margin:.3rem 0 .6rem}h1 small{opacity:.6;font-weight:400}\
nav,footer,time{opacity:.7;font-size:.875rem}a{color:inherit}\
article{border:1px solid var(--line);border-radius:8px;margin:1rem 0;overflow:hidden}\
article header{background:var(--soft);border-bottom:1px solid var(--line);padding:.4rem 1rem}\
.text{padding:.2rem 1rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:1.2rem 0 .4rem}\
pre{white-space:pre-wrap;background:var(--soft);border-radius:6px;padding:.8rem}code{font:13px/1.5 ui-monospace,monospace}\
table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.2rem .7rem}th:empty{border:0;padding:0}\
.state,.label{display:inline-block;border-radius:1rem;padding:.05rem .7rem;font-size:.8125rem;margin-right:.4rem}\
.state{background:#1f7a3d;color:#fff}.Closed{background:#7a3fb0}.label{border:1px solid var(--line)}";

/// Renders an issue with its comments.
pub(super) async fn issue(
    State(book): State<Arc<Book>>,
    Path((owner, name, number)): Path<(String, String, usize)>,
) -> Response {
    let repository = Repository { owner, name };
    match book.find(&repository, Some(number)) {
        Ok(issue) => page(&format!("{} · #{number}", issue.title), &shown(&issue)),
        Err(_) => missing(),
    }
}

/// Renders the issues of a repository, newest first.
pub(super) async fn list(
    State(book): State<Arc<Book>>,
    Path((owner, name)): Path<(String, String)>,
) -> Response {
    let repository = Repository { owner, name };
    let rows: String = book.read(|issues| {
        let own = issues.iter().rev().filter(|issue| issue.repository == repository);
        own.map(|issue| {
            let (url, title) = (escape(&book.url(issue)), escape(&issue.title));
            format!("<li value={}><a href=\"{url}\">{title}</a>", issue.number)
        })
        .collect()
    });
    if rows.is_empty() {
        return missing();
    }
    let heading = escape(&format!("{}/{}", repository.owner, repository.name));
    page(&format!("Issues of {}", repository.name), &format!("<h1>{heading}: issues</h1><ol>{rows}</ol>"))
}

fn shown(issue: &Issue) -> String {
    let Repository { owner, name } = &issue.repository;
    let (owner, name, title) = (escape(owner), escape(name), escape(&issue.title));
    let labels: String =
        issue.labels.iter().map(|label| format!("<span class=label>{}</span>", escape(label))).collect();
    let entry = |heading: &str, at: &chrono::DateTime<chrono::Utc>, body: &str| {
        let at = at.format("%Y-%m-%d %H:%M:%S UTC");
        format!(
            "<article><header>{heading} <time>{at}</time></header><div class=text>{}</div></article>",
            markdown(body)
        )
    };
    let comments: String =
        issue.comments.iter().map(|comment| entry("Comment", &comment.created_at, &comment.body)).collect();
    format!(
        "<nav><a href=\"/{owner}/{name}/issues\">{owner}/{name}</a></nav>\
         <h1>{title} <small>#{number}</small></h1><p><span class=\"state {state}\">{state}</span>{labels}</p>{body}{comments}\
         <footer>A stand-in for a forge: it keeps issues in memory only.</footer>",
        number = issue.number,
        state = if issue.closed_at.is_some() { "Closed" } else { "Open" },
        body = entry("Issue", &issue.created_at, &issue.body),
    )
}

fn page(title: &str, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style></head><body>{content}</body></html>",
        escape(title)
    );
    // Issue text comes from logs, so scripts and external resources are blocked.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, "there is no such page").into_response()
}

/// Renders Markdown like a forge: raw HTML is shown as text, HTML comments are hidden and images are not loaded.
fn markdown(body: &str) -> String {
    let events = Parser::new_ext(body, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) if html.trim_start().starts_with("<!--") => None,
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        // Links from log text are rendered as plain text.
        Event::Start(Tag::Link { .. }) | Event::End(TagEnd::Link) => None,
        other => Some(other),
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
