//! Client of the issue tracker behind its MCP server. Owner and repository come from the configuration, never from a model.

use super::arguments::{Argument, BODY, COMMENT, CURSOR, ISSUE, PAGE, PAGE_SIZE, TITLE, takes};
use super::calls::ServiceCalls;
use super::listing::{self, IssueRef, Page};
use super::step_error::StepError;
use super::tracker_tools::{self, Operation};
use crate::audit::Recorder;
use crate::config::Tracker;
use crate::domain::policy::AccessDecision;
use crate::mcp::{CallError, CallResult, McpTool, Registry};
use chrono::{DateTime, Utc};
use regex::Regex;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Maximum number of pages searched for a mark. With the newest issues first, a search ends at issues that are too old.
const MAX_PAGES: u32 = 200;
/// Issues per page.
const ISSUES: u32 = 50;

/// Matches error texts of tools whose upstream server did not respond.
static NO_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)time[d-]?[ -]?out|deadline|\b50[234]\b|gateway|connection (?:was )?(?:reset|closed|aborted)|\bEOF\b|hang ?up|ECONNRESET|ETIMEDOUT")
        .expect("a fixed pattern")
});

/// An issue in the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issue {
    /// URL of the issue's page.
    pub(super) url: String,
    /// Issue number in the repository.
    pub(super) number: Option<i64>,
    /// Whether the issue is closed.
    pub(super) closed: bool,
}

/// Result of a search for an issue.
#[derive(Debug)]
pub(super) enum Search {
    /// The issue exists.
    Found(Issue),
    /// The issue does not exist.
    Absent,
    /// The search is inconclusive. Contains the reason.
    Unknown(String),
}

/// Error of a tracker call.
#[derive(Debug)]
pub(super) enum TrackerError {
    /// The call was not sent or was refused: nothing was changed.
    Refused(StepError),
    /// There is no response: the change may have been made or may still be made.
    Unsure(StepError),
}

impl From<TrackerError> for StepError {
    fn from(error: TrackerError) -> Self {
        match error {
            TrackerError::Refused(error) | TrackerError::Unsure(error) => error,
        }
    }
}

impl TrackerError {
    fn of(error: &CallError) -> Self {
        let retry = StepError::Retry(error.to_string());
        match error {
            CallError::TimedOut { .. }
            | CallError::Cancelled
            | CallError::Lost { .. }
            // The call was executed, but its result is unknown.
            | CallError::TooLarge { .. } => Self::Unsure(retry),
            CallError::UnknownTool { .. }
            | CallError::Changed { .. }
            | CallError::NoToken { .. }
            | CallError::NotConnected { .. } => Self::Refused(retry),
            // Some servers report upstream timeouts as refusals.
            CallError::Refused { message, .. } if NO_ANSWER.is_match(message) => Self::Unsure(retry),
            CallError::Refused { .. } => Self::Refused(retry),
        }
    }

    /// Classifies a tool error. A tool whose upstream did not respond cannot know the outcome.
    fn of_tool(tool: &str, server: &str, said: &str) -> Self {
        let error = StepError::Retry(format!("the tool `{tool}` of `{server}` failed: {said}"));
        if NO_ANSWER.is_match(said) { Self::Unsure(error) } else { Self::Refused(error) }
    }
}

/// Client of the tracker's tools for one operation.
pub(super) struct TrackerClient<'a> {
    tracker: &'a Tracker,
    calls: ServiceCalls<'a>,
}

impl<'a> TrackerClient<'a> {
    pub(super) fn new(
        mcp: &'a Registry,
        tracker: &'a Tracker,
        recorder: &Recorder,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self { tracker, calls: ServiceCalls::new(mcp, recorder, cancel) }
    }

    /// Returns the name of the tracker's MCP server.
    pub(super) fn server(&self) -> &str {
        &self.tracker.server
    }

    /// Files an issue. Never repeated blindly: a retry searches for the mark first.
    pub(super) async fn create(&self, title: &str, body: &str) -> Result<Issue, TrackerError> {
        let wanted: &[Argument<'_>] = &[(TITLE, json!(title)), (BODY, json!(body))];
        let tool = self.tool(Operation::Create)?;
        let result = self.call(&tool, Operation::Create, wanted).await?;
        let unsaid = || {
            let tool = tool.own_name();
            // The retry finds the issue, with its URL.
            TrackerError::Unsure(StepError::Retry(format!(
                "the tool `{tool}` filed an issue but did not say where"
            )))
        };
        let told = listing::one(&result).ok_or_else(unsaid)?;
        self.locate(told).await.map_err(TrackerError::Unsure)
    }

    /// Searches for the issue with this mark among the issues created since a time.
    pub(super) async fn find(&self, mark: &str, since: DateTime<Utc>) -> Result<Search, StepError> {
        let Self { tracker, calls } = self;
        if calls.mcp.is_connected(&tracker.server)
            && tracker_tools::tool(calls.mcp, tracker, Operation::List).is_none()
        {
            let names = tracker_tools::named(tracker, Operation::List);
            return Ok(Search::Unknown(format!(
                "`{}` has no tool `{names}` that lists issues",
                tracker.server
            )));
        }
        let tool = self.tool(Operation::List)?;
        let mut seen = Seen { pages: 0, issues: 0, has_texts: false };
        for state in tracker_tools::states(tool.schema()) {
            match self.sweep(IssueList { tool: &tool, state: &state }, mark, since, &mut seen).await? {
                Swept::End => {}
                Swept::Bears(told) => return Ok(Search::Found(self.locate(told).await?)),
                Swept::Stopped(why) => return Ok(Search::Unknown(why)),
            }
        }
        if seen.issues > 0 && !seen.has_texts {
            return Ok(Search::Unknown(format!("`{}` does not tell the texts of issues", tool.own_name())));
        }
        Ok(Search::Absent)
    }

    /// Searches the pages of one state.
    async fn sweep(
        &self,
        list: IssueList<'_>,
        mark: &str,
        since: DateTime<Utc>,
        seen: &mut Seen,
    ) -> Result<Swept, StepError> {
        let (mut at, mut before) = (At::Page(1), Vec::new());
        loop {
            if seen.pages == MAX_PAGES {
                return Ok(Swept::Stopped(format!("there are more than {MAX_PAGES} pages of issues")));
            }
            seen.pages += 1;
            let result = self.list(list, &at, ISSUES).await?;
            let page = Page::of(&result);
            if let Some(told) = page.bearing(mark) {
                return Ok(Swept::Bears(told));
            }
            if page.is_strange {
                return Ok(Swept::Stopped(format!(
                    "what `{}` answers is not read here",
                    list.tool.own_name()
                )));
            }
            seen.issues += page.issues.len();
            seen.has_texts |= page.has_texts();
            // An empty page is the last one. An identical page means that the server has no pagination.
            let is_over = page.issues.is_empty() || page.issues == before || page.is_older_than(since);
            let Some(next) = at.next(list.tool.schema(), page.cursor).filter(|_| !is_over) else {
                return Ok(Swept::End);
            };
            (at, before) = (next, page.issues);
        }
    }

    /// Adds a comment to an issue.
    pub(super) async fn comment(&self, number: i64, body: &str) -> Result<(), StepError> {
        let wanted: &[Argument<'_>] = &[(ISSUE, json!(number)), (COMMENT, json!(body))];
        let tool = self.tool(Operation::Comment)?;
        self.call(&tool, Operation::Comment, wanted).await?;
        Ok(())
    }

    /// Fetches the newest issue as a test.
    pub(super) async fn newest(&self) -> Result<Page, StepError> {
        let tool = self.tool(Operation::List)?;
        let state = tracker_tools::states(tool.schema()).swap_remove(0);
        let list = IssueList { tool: &tool, state: &state };
        Ok(Page::of(&self.list(list, &At::Page(1), 1).await?))
    }

    /// Fetches a page with `size` issues, newest first.
    async fn list(
        &self,
        IssueList { tool, state }: IssueList<'_>,
        at: &At,
        size: u32,
    ) -> Result<CallResult, StepError> {
        let mut wanted: Vec<Argument<'_>> = vec![(PAGE_SIZE, json!(size))];
        wanted.push(match at {
            At::Page(page) => (PAGE, json!(page)),
            At::Cursor(cursor) => (CURSOR, json!(cursor)),
        });
        let name = state.as_ref().map(|(name, _)| [*name]);
        if let (Some(name), Some((_, value))) = (&name, state) {
            wanted.push((name, value.clone()));
        }
        Ok(self.call(tool, Operation::List, &wanted).await?)
    }

    /// Returns the issue with its URL: from the result, the `tracker.url` setting, the server's details of the issue, or the
    /// public host.
    pub(super) async fn locate(&self, told: IssueRef) -> Result<Issue, StepError> {
        let (mcp, tracker) = (self.calls.mcp, self.tracker);
        let IssueRef { number, url, closed } = told;
        let issue = |url: String| Issue { url, number, closed };
        if let Some(url) = url {
            return Ok(issue(url));
        }
        let Some(number) = number else {
            return Err(StepError::Failed(
                "the tracker tells neither number nor address of its issue".to_owned(),
            ));
        };
        let kind = tracker_tools::kind(mcp, tracker);
        if tracker.url.is_none()
            && let Some(tool) = tracker_tools::tool(mcp, tracker, Operation::Read)
            && tracker_tools::misfits(tracker, Operation::Read, tool.schema()).is_empty()
        {
            let wanted: &[Argument<'_>] = &[(ISSUE, json!(number))];
            let read = self.call(&tool, Operation::Read, wanted).await?;
            if let Some(url) =
                listing::one(&read).filter(|read| read.number == Some(number)).and_then(|read| read.url)
            {
                return Ok(issue(url));
            }
        }
        let address = tracker_tools::address(tracker, kind, number).ok_or_else(|| {
            StepError::Failed(format!(
                "the tracker does not tell the address of its issue {number}; set `tracker.url`"
            ))
        });
        address.map(issue)
    }

    /// Returns the tool of an operation. Fails if it does not exist or the server is not connected.
    fn tool(&self, operation: Operation) -> Result<Arc<McpTool>, TrackerError> {
        let (mcp, tracker) = (self.calls.mcp, self.tracker);
        let server = &tracker.server;
        tracker_tools::tool(mcp, tracker, operation).ok_or_else(|| {
            let names = tracker_tools::named(tracker, operation);
            TrackerError::Refused(if mcp.is_connected(server) {
                StepError::Failed(format!(
                    "the MCP server `{server}` has no tool `{names}`; see the `tracker.…` settings"
                ))
            } else {
                StepError::Retry(format!("the MCP server `{server}` cannot be reached"))
            })
        })
    }

    async fn call(
        &self,
        known: &McpTool,
        operation: Operation,
        wanted: &[Argument<'_>],
    ) -> Result<CallResult, TrackerError> {
        let (server, tool) = (self.tracker.server.as_str(), known.own_name());
        let refused = |reason: String| TrackerError::Refused(StepError::Failed(reason));
        let arguments = tracker_tools::arguments(self.tracker, operation, known.schema(), wanted);
        let ruling = self.calls.authorize(server, tool, arguments);
        let permit = match ruling.map_err(|error| TrackerError::of(&error))? {
            AccessDecision::Allowed(permit) => permit,
            AccessDecision::Denied(denied) => {
                return Err(refused(format!("`{tool}` of `{server}`: {denied}")));
            }
            AccessDecision::NeedsApproval(_) => {
                return Err(refused(format!("`{tool}` of `{server}` needs a person's approval")));
            }
        };
        let result = self.calls.call(permit).await.map_err(|error| TrackerError::of(&error))?;
        if result.is_error {
            let said: String = result.text.chars().take(300).collect();
            return Err(TrackerError::of_tool(tool, server, &said));
        }
        Ok(result)
    }
}

/// Argument that filters issues by state, with its value.
type State = Option<(&'static str, Value)>;

/// Issues in one state as listed by a tool.
#[derive(Clone, Copy)]
struct IssueList<'a> {
    tool: &'a McpTool,
    state: &'a State,
}

/// Progress of a search.
struct Seen {
    pages: u32,
    issues: usize,
    has_texts: bool,
}

enum Swept {
    End,
    Bears(IssueRef),
    Stopped(String),
}

/// Position of a page.
#[derive(Debug, PartialEq)]
enum At {
    Page(u32),
    Cursor(String),
}

impl At {
    /// Returns the position of the next page, or `None` after the last.
    fn next(&self, schema: &Value, cursor: Option<String>) -> Option<Self> {
        let has_cursors = schema.get("properties").is_some() && takes(schema, CURSOR);
        match (self, cursor.filter(|_| has_cursors)) {
            (Self::Cursor(now), Some(next)) if *now == next => None,
            (_, Some(next)) => Some(Self::Cursor(next)),
            (Self::Page(page), None) => takes(schema, PAGE).then_some(Self::Page(page + 1)),
            (Self::Cursor(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_cursors_where_there_are_any_and_numbers_elsewhere() {
        let cursors = json!({"properties": {"after": {}, "perPage": {}}});
        let first = At::Page(1).next(&cursors, Some("a".into()));
        assert_eq!(first, Some(At::Cursor("a".into())));
        assert_eq!(first.as_ref().unwrap().next(&cursors, Some("b".into())), Some(At::Cursor("b".into())));
        assert_eq!(first.as_ref().unwrap().next(&cursors, Some("a".into())), None, "it would go round");
        assert_eq!((first.unwrap().next(&cursors, None), At::Page(1).next(&cursors, None)), (None, None));
        for schema in [json!({"properties": {"page": {}}}), json!({})] {
            assert_eq!(At::Page(1).next(&schema, Some("not taken".into())), Some(At::Page(2)), "{schema}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_unsure() {
        let refused = |message: &str| {
            let (server, tool) = ("github".to_owned(), "create_issue".to_owned());
            TrackerError::of(&CallError::Refused { server, tool, message: message.to_owned() })
        };
        assert!(matches!(
            refused("failed to create issue: context deadline exceeded"),
            TrackerError::Unsure(_)
        ));
        assert!(matches!(
            refused("POST https://api.github.com/repos/o/r/issues: 502"),
            TrackerError::Unsure(_)
        ));
        assert!(matches!(
            refused("POST https://api.github.com/repos/o/r/issues: 422"),
            TrackerError::Refused(_)
        ));
    }
}
