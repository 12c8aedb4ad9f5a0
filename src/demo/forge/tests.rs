//! Tests of the forge's tools and pages.

use super::*;
use reqwest::{Client, Response, StatusCode};

fn book() -> Book {
    Book { base: "http://forge".to_owned(), issues: Mutex::default() }
}

fn new_issue(title: &str, labels: &[&str]) -> Value {
    json!({"owner": "platform", "repo": "failures", "title": title, "body": "the cause", "labels": labels})
}

fn of(number: usize) -> Value {
    json!({"owner": "platform", "repo": "failures", "issue_number": number})
}

#[test]
fn issues_are_numbered_within_their_repository() {
    let book = book();
    let first = book.create(&new_issue("one", &["ci", "bug"])).expect("an issue");
    assert_eq!(first["html_url"], "http://forge/platform/failures/issues/1");
    assert_eq!(first["labels"][1]["name"], "bug");
    assert_eq!(first["repository"]["full_name"], "platform/failures");
    let mut elsewhere = new_issue("two", &[]);
    elsewhere["repo"] = json!("other");
    assert_eq!(book.create(&elsewhere).expect("an issue")["number"], 1);
    assert_eq!(book.create(&new_issue("three", &[])).expect("an issue")["number"], 2);
    assert_eq!(book.get(&of(2)).expect("an issue")["title"], "three");
}

#[test]
fn lists_are_newest_first_in_pages_by_state_and_label() {
    let book = book();
    for n in 1..=35 {
        book.create(&new_issue(&format!("issue {n}"), if n % 5 == 0 { &["rare", "ci"] } else { &["ci"] }))
            .expect("an issue");
    }
    let numbers = |extra: Value| -> Vec<u64> {
        let mut arguments = json!({"owner": "platform", "repo": "failures"});
        for (name, value) in extra.as_object().expect("an object") {
            arguments[name] = value.clone();
        }
        let listed = book.list(&arguments).expect("a list");
        listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|issue| issue["number"].as_u64().expect("a number"))
            .collect()
    };
    assert_eq!(numbers(json!({})).len(), 30);
    assert_eq!(numbers(json!({}))[0], 35);
    assert_eq!(numbers(json!({"page": 2})), [5, 4, 3, 2, 1]);
    assert_eq!(numbers(json!({"page": 2, "limit": 2})), [33, 32]);
    assert_eq!(numbers(json!({"labels": "ci,rare", "limit": 3})), [35, 30, 25]);
    assert_eq!(numbers(json!({"state": "all"})).len(), 30);
    assert!(numbers(json!({"state": "closed"})).is_empty());
}

#[test]
fn comments_are_kept_with_their_issue() {
    let book = book();
    book.create(&new_issue("one", &[])).expect("an issue");
    let mut comment = of(1);
    comment["body"] = json!("again");
    assert_eq!(book.comment(&comment).expect("a comment")["id"], 1);
    assert_eq!(
        book.comment(&comment).expect("a comment")["html_url"],
        "http://forge/platform/failures/issues/1#issuecomment-2"
    );
    let issue = book.get(&of(1)).expect("an issue");
    assert_eq!((&issue["comments"], &issue["comments_list"][1]["body"]), (&json!(2), &json!("again")));
}

#[test]
fn what_is_not_there_or_not_legal_is_refused() {
    let book = book();
    assert!(book.create(&new_issue("  ", &[])).is_err_and(|why| why.contains("422")));
    assert!(book.get(&of(1)).is_err_and(|why| why.contains("404")));
    assert!(book.comment(&of(1)).is_err_and(|why| why.contains("404")));
    let mut wrong = new_issue("one", &[]);
    wrong["owner"] = json!("../etc");
    assert!(book.create(&wrong).is_err());
    assert!(book.list(&json!({"owner": "", "repo": "failures"})).is_err());
}

async fn open(url: &str) -> Response {
    let client = Client::builder().no_proxy().build().expect("a client");
    client.get(url).send().await.expect("an answer")
}

#[tokio::test]
async fn the_url_of_an_issue_opens_and_its_text_is_escaped() {
    let shutdown = Shutdown::new();
    let forge = start(&shutdown).await.expect("starts");
    let mut issue = new_issue("<script>alert(1)</script> & \"more\"", &["<b>"]);
    issue["body"] =
        json!("line </pre><img src=x onerror='alert(2)'> ![x](http://h/x.png) [y](javascript:alert(3))");
    let url = forge.book.create(&issue).expect("an issue")["html_url"].as_str().expect("a URL").to_owned();
    let mut comment = of(1);
    comment["body"] = json!("<i>seen</i>");
    forge.book.comment(&comment).expect("a comment");
    let response = open(&url).await;
    assert_eq!(
        response.headers()["content-security-policy"],
        "default-src 'none'; style-src 'unsafe-inline'"
    );
    let page = response.text().await.expect("a page");
    for shown in [
        "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;",
        "<span class=label>&lt;b&gt;</span>",
        "line &lt;/pre&gt;&lt;img src=x onerror='alert(2)'&gt;",
        "&lt;i&gt;seen&lt;/i&gt;",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<i>"));
    assert!(!page.contains("<a href=\"javascript") && !page.contains("x.png"), "{page}");
    let list = open(url.trim_end_matches("/1")).await.text().await.expect("a page");
    assert!(list.contains(&format!("<a href=\"{url}\">&lt;script&gt;")), "{list}");
    assert_eq!(open(&format!("{url}99")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(forge.issues().len(), 1);
    assert!(shutdown.finish(std::time::Duration::from_secs(20)).await);
}

#[tokio::test]
async fn an_issue_is_filed_over_mcp() {
    let shutdown = Shutdown::new();
    let forge = start(&shutdown).await.expect("starts");
    let client = Client::builder().no_proxy().build().expect("a client");
    let send = |id: u32, method: &str, params: Value| {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        client.post(&forge.mcp_url).header("accept", "application/json").json(&message)
    };
    let hello =
        send(1, "initialize", json!({"protocolVersion": "2025-06-18"})).send().await.expect("an answer");
    let session = hello.headers()["mcp-session-id"].clone();
    let call = json!({"name": "create_issue", "arguments": new_issue("over MCP", &["ci"])});
    let answer =
        send(2, "tools/call", call).header("mcp-session-id", session).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["result"]["structuredContent"]["number"], 1);
    assert_eq!(forge.issues()[0]["title"], "over MCP");
}
