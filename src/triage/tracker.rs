//! The issue tracker behind its MCP server: owner and repository come from the configuration, never from a model.

use super::arguments::{Argument, BODY, COMMENT, ISSUE, OWNER, PAGE, PAGE_SIZE, REPO, STATE, TITLE, fitting};
use super::run::Halt;
use crate::app::App;
use crate::config::Tracker;
use crate::domain::policy::{Asker, Ruling};
use crate::mcp::{CallError, CallResult, Registry};
use chrono::{DateTime, TimeDelta, Utc};
use regex::Regex;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tokio_util::sync::CancellationToken;

/// Most pages looked through for a marker. Trackers list the newest issues first; then it ends where older ones begin.
const MAX_PAGES: u32 = 200;
/// How far the clocks of a tracker and of this service may differ.
const SKEW: TimeDelta = TimeDelta::days(1);
/// Issues per page.
const ISSUES: u32 = 50;

/// How tools say that what they called did not answer.
static NO_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)time[d-]?[ -]?out|deadline|\b50[234]\b|gateway|connection (?:was )?(?:reset|closed|aborted)|\bEOF\b|hang ?up|ECONNRESET|ETIMEDOUT")
        .expect("a fixed pattern")
});

static ISSUE_URL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"https?://[^\s"'<>\\]+/issues/(\d+)"#).expect("a fixed pattern"));

/// An issue that was filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issue {
    /// Where people read it.
    pub(super) url: String,
    /// Its number in the repository.
    pub(super) number: Option<i64>,
    /// Somebody closed it.
    pub(super) closed: bool,
}

/// Why a call of the tracker has no result.
#[derive(Debug)]
pub(super) enum TrackerError {
    /// Nothing was sent, or it was refused: nothing was done.
    Refused(Halt),
    /// There is no answer: it may have been done, or may be done yet.
    Unsure(Halt),
}

impl From<TrackerError> for Halt {
    fn from(error: TrackerError) -> Self {
        match error {
            TrackerError::Refused(halt) | TrackerError::Unsure(halt) => halt,
        }
    }
}

impl TrackerError {
    fn of(error: &CallError) -> Self {
        let halt = Halt::Retry(error.to_string());
        match error {
            CallError::TimedOut { .. }
            | CallError::Cancelled
            | CallError::Lost { .. }
            // It was carried out; what it said of the issue is not known.
            | CallError::TooLarge { .. } => Self::Unsure(halt),
            CallError::UnknownTool { .. }
            | CallError::Changed { .. }
            | CallError::NoToken { .. }
            | CallError::NotConnected { .. }
            | CallError::Refused { .. } => Self::Refused(halt),
        }
    }

    /// What the tool said of its failure. One that waited for the tracker in vain does not know either.
    fn of_tool(tool: &str, server: &str, said: &str) -> Self {
        let halt = Halt::Retry(format!("the tool `{tool}` of `{server}` failed: {said}"));
        if NO_ANSWER.is_match(said) { Self::Unsure(halt) } else { Self::Refused(halt) }
    }
}

/// Files an issue. The call is never repeated blindly: whoever retries looks for the marker first.
pub(super) async fn create(
    app: &App,
    tracker: &Tracker,
    title: &str,
    body: &str,
    cancel: &CancellationToken,
) -> Result<Issue, TrackerError> {
    let wanted: &[Argument<'_>] = &[(TITLE, json!(title)), (BODY, json!(body))];
    let result = call(&app.mcp, tracker, &tracker.create_tool, wanted, cancel).await?;
    values(&result).iter().find_map(issue).or_else(|| from_text(&result.text)).ok_or_else(|| {
        let tool = &tracker.create_tool;
        TrackerError::Unsure(Halt::Failed(format!("the tool `{tool}` filed an issue but did not say where")))
    })
}

/// The issue that bears the marker, if there is one among those since a time.
pub(super) async fn find(
    app: &App,
    tracker: &Tracker,
    (marker, since): (&str, DateTime<Utc>),
    cancel: &CancellationToken,
) -> Result<Option<Issue>, Halt> {
    if app.mcp.is_connected(&tracker.server) && app.mcp.find(&tracker.server, &tracker.list_tool).is_none() {
        tracing::warn!(
            tool = tracker.list_tool,
            "the tracker has no such tool: a retry cannot look for its issue"
        );
        return Ok(None);
    }
    let mut before = Vec::new();
    for page in 1..=MAX_PAGES {
        let result = list(&app.mcp, tracker, (page, ISSUES), cancel).await?;
        let values = values(&result);
        let bears = |value: &&Value| value["body"].as_str().is_some_and(|body| body.contains(marker));
        if let Some(found) = values.iter().find(bears).and_then(issue) {
            return Ok(Some(found));
        }
        // An empty page is the end; the same page again is a server without pages.
        if values.is_empty() || values == before || are_older(&values, since) {
            return Ok(None);
        }
        before = values;
    }
    tracing::warn!(pages = MAX_PAGES, "the tracker has more issues than are looked through for a marker");
    Ok(None)
}

/// Whether this page, and with it all that follow, holds issues from before a time: newest first, and the newest is older.
fn are_older(page: &[Value], since: DateTime<Utc>) -> bool {
    let created = |value: &Value| {
        let text = ["created_at", "createdAt"].iter().find_map(|key| value[*key].as_str())?;
        Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
    };
    let times: Option<Vec<DateTime<Utc>>> = page.iter().map(created).collect();
    times.is_some_and(|times| {
        // One issue alone shows no order, and neither do several of the same moment.
        times.is_sorted_by(|a, b| a >= b) && times.first() > times.last() && times[0] < since - SKEW
    })
}

/// Comments on an issue.
pub(super) async fn comment(
    app: &App,
    tracker: &Tracker,
    number: i64,
    body: &str,
    cancel: &CancellationToken,
) -> Result<(), Halt> {
    let wanted: &[Argument<'_>] = &[(ISSUE, json!(number)), (COMMENT, json!(body))];
    call(&app.mcp, tracker, &tracker.comment_tool, wanted, cancel).await?;
    Ok(())
}

/// A page of so many issues, the newest first.
pub(super) async fn list(
    mcp: &Registry,
    tracker: &Tracker,
    (page, size): (u32, u32),
    cancel: &CancellationToken,
) -> Result<CallResult, Halt> {
    let wanted: &[Argument<'_>] = &[(STATE, json!("all")), (PAGE, json!(page)), (PAGE_SIZE, json!(size))];
    Ok(call(mcp, tracker, &tracker.list_tool, wanted, cancel).await?)
}

async fn call(
    mcp: &Registry,
    tracker: &Tracker,
    tool: &str,
    wanted: &[Argument<'_>],
    cancel: &CancellationToken,
) -> Result<CallResult, TrackerError> {
    let server = &tracker.server;
    let refused = |reason: String| TrackerError::Refused(Halt::Failed(reason));
    let Some(known) = mcp.find(server, tool) else {
        return Err(if mcp.is_connected(server) {
            refused(format!("the MCP server `{server}` has no tool `{tool}`; see the `tracker.…` settings"))
        } else {
            TrackerError::Refused(Halt::Retry(format!("the MCP server `{server}` cannot be reached")))
        });
    };
    let pinned: [Argument<'_>; 2] = [(OWNER, json!(tracker.owner)), (REPO, json!(tracker.repo))];
    let all: Vec<Argument<'_>> = pinned.into_iter().chain(wanted.iter().cloned()).collect();
    let arguments = fitting(known.schema(), &all);
    let ruling = mcp.rule_on(&Asker::service(), server, tool, arguments);
    let permit = match ruling.map_err(|error| TrackerError::of(&error))? {
        Ruling::Allowed(permit) => permit,
        Ruling::Denied(denied) => return Err(refused(format!("`{tool}` of `{server}`: {denied}"))),
        Ruling::Waits(_) => return Err(refused(format!("`{tool}` of `{server}` needs a person's approval"))),
    };
    let result = mcp.call(permit, cancel.clone()).await.map_err(|error| TrackerError::of(&error))?;
    if result.is_error {
        let said: String = result.text.chars().take(300).collect();
        return Err(TrackerError::of_tool(tool, server, &said));
    }
    Ok(result)
}

/// Every JSON object in a result, however the server packs it: structured, one text, or one text per item.
fn values(result: &CallResult) -> Vec<Value> {
    let mut found = Vec::new();
    if let Some(structured) = &result.structured {
        flatten(structured, &mut found);
    }
    if found.is_empty() {
        for value in
            serde_json::Deserializer::from_str(&result.text).into_iter::<Value>().map_while(Result::ok)
        {
            flatten(&value, &mut found);
        }
    }
    found
}

fn flatten(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, found)),
        Value::Object(map)
            if map.contains_key("html_url") || map.contains_key("body") || map.contains_key("number") =>
        {
            found.push(value.clone());
        }
        Value::Object(map) => map.values().for_each(|item| flatten(item, found)),
        _ => {}
    }
}

fn issue(value: &Value) -> Option<Issue> {
    let url = ["html_url", "web_url", "url"].iter().find_map(|key| value[*key].as_str())?;
    let number = ["number", "index", "iid"].iter().find_map(|key| value[*key].as_i64());
    let closed = value["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("closed"));
    Some(Issue { url: url.to_owned(), number: number.or_else(|| from_text(url)?.number), closed })
}

fn from_text(text: &str) -> Option<Issue> {
    let found = ISSUE_URL.captures(text)?;
    Some(Issue { url: found[0].to_owned(), number: found[1].parse().ok(), closed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(text: &str, structured: Option<Value>) -> CallResult {
        CallResult { text: text.to_owned(), is_error: false, structured }
    }

    #[test]
    fn issues_are_found_however_the_server_packs_them() {
        let one = r#"{"id": 9, "number": 4, "html_url": "http://f/o/r/issues/4", "body": "x"}"#;
        let wanted = Some(Issue { url: "http://f/o/r/issues/4".into(), number: Some(4), closed: false });
        assert_eq!(values(&result(one, None)).iter().find_map(issue), wanted);
        assert_eq!(values(&result(&format!("{one}\n{one}"), None)).len(), 2);
        let structured = json!({"result": [{"html_url": "http://f/o/r/issues/4", "body": ""}]});
        assert_eq!(values(&result("", Some(structured))).iter().find_map(issue), wanted);
        assert_eq!(from_text("Issue created: http://f/o/r/issues/4"), wanted);
    }
}
