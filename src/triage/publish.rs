//! Publish: files an issue for a new cause, counts a known cause and comments on its issue. Unverified claims are not filed.

use super::issue::{body, mark};
use super::issue_sanitize;
use super::lease::LeasedReport;
use super::step_error::StepError;
use super::tracker::{Issue, Search, TrackerClient, TrackerError};
use crate::app::App;
use crate::audit::Recorder;
use crate::clock;
use crate::config::Tracker;
use crate::db::audit;
use crate::db::incidents;
use crate::db::incidents::Checked;
use crate::domain::{Actor, AuditAction, Diagnosis, Fingerprint, Incident, Verdict};
use crate::evidence::untrusted::markdown;
use crate::knowledge::NewResolution;
use crate::metrics::metrics;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Minimum interval between two checks whether an issue is still open.
const RECHECK: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// Time after the call timeout during which a tracker may still file the issue. Meanwhile the report is retried with backoff,
/// and each attempt searches for the issue. The queue's total backoff is longer.
const UNSURE: chrono::TimeDelta = chrono::TimeDelta::seconds(75);
/// Maximum length of a title in characters.
const MAX_TITLE: usize = 200;

/// Result of publishing a report.
pub(super) enum Published {
    /// An issue was filed at this URL.
    Created(String),
    /// The cause was investigated again. Its existing issue is at this URL.
    Kept(String),
    /// A text without a new issue.
    Message(String),
}

impl Published {
    /// Returns the text for the reporter.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Created(url) => format!("Issue created: {url}"),
            Self::Kept(url) => format!("Investigated again; its issue stays as it is: {url}"),
            Self::Message(text) => text.clone(),
        }
    }

    /// Returns the text for other reporters of the same cause, whose reports waited.
    pub(super) fn said_to_others(&self) -> String {
        match self {
            Self::Created(url) => format!("Known cause, just filed: {url}"),
            Self::Kept(_) | Self::Message(_) => self.said(),
        }
    }
}

/// Files the issue of a new cause.
pub(super) async fn publish(
    app: &App,
    held: &LeasedReport<'_>,
    incident: &Incident,
    diagnosis: &Diagnosis,
    cancel: &CancellationToken,
) -> Result<Published, StepError> {
    let Some(tracker) = &app.config.tracker else {
        return Ok(Published::Message(told(diagnosis)));
    };
    if let Some(url) = incident.issue_url.clone() {
        return Ok(if held.anew { Published::Kept(url) } else { Published::Created(url) });
    }
    let client = TrackerClient::new(&app.mcp, tracker, &held.recorder, cancel);
    let unsure = incidents::issue_unsure_until(&app.pool, incident.id).await?;
    // An earlier attempt may have filed the issue and crashed before storing it.
    let before = held.report.attempts > 1 || held.retry > 0 || incident.diagnosis.is_some();
    let found = if before || unsure.is_some() {
        let mark = mark(incident.id);
        let search = client.find(&mark, incident.first_seen).await;
        let search = search.map_err(|error| unasked(error, unsure.is_some()))?;
        found(search, unsure.is_some(), tracker, &mark)?
    } else {
        None
    };
    let issue = match (found, unsure.filter(|until| *until > clock::now())) {
        (Some(issue), _) => issue,
        (None, Some(until)) => {
            let (server, until) = (&tracker.server, until.format("%H:%M:%S UTC"));
            return Err(StepError::Retry(format!(
                "whether the issue was filed is not known yet: `{server}` did not answer in time; it is looked for until {until}, then filed again"
            )));
        }
        (None, None) => {
            let body = body(app, held.report, incident, diagnosis).await?;
            let title: String = diagnosis.title.chars().take(MAX_TITLE).collect();
            let title = markdown::sanitize_title(&title, &app.config.privacy.links);
            held.renew(&app.pool, app.config.queue.lease).await?;
            file(app, &client, incident.id, &title, &body).await?
        }
    };
    let Issue { url, number, .. } = issue;
    let now = clock::now();
    let event = held.recorder.event(AuditAction::IssueCreate).on("incident", incident.id).detail(&*url);
    held.recorder.record(event);
    let mut transaction = app.pool.begin().await?;
    incidents::set_issue(&mut *transaction, incident.id, &url, number, now).await?;
    audit::commit(transaction, &held.recorder).await?;
    metrics().issue("created");
    Ok(Published::Created(url))
}

/// Files the issue. Stores beforehand that the outcome is unknown, so that this survives a crash. Clears it only when the
/// tracker refuses.
async fn file(
    app: &App,
    client: &TrackerClient<'_>,
    incident: Uuid,
    title: &str,
    body: &str,
) -> Result<Issue, StepError> {
    let timeout = app.config.mcp.iter().find(|server| server.name == client.server());
    let timeout = timeout.and_then(|server| chrono::TimeDelta::from_std(server.call_timeout).ok());
    let until = |late: chrono::TimeDelta| clock::now().checked_add_signed(late + UNSURE);
    let unsure = until(timeout.unwrap_or_default());
    incidents::set_issue_unsure_until(&app.pool, incident, unsure).await?;
    let error = match client.create(title, body).await {
        Ok(issue) => return Ok(issue),
        Err(error) => error,
    };
    let unsure = match &error {
        TrackerError::Refused(_) => None,
        TrackerError::Unsure(_) => until(chrono::TimeDelta::zero()),
    };
    incidents::set_issue_unsure_until(&app.pool, incident, unsure).await?;
    Err(error.into())
}

/// Returns the issue that was found. Fails if the search is inconclusive and an issue may exist, so that no duplicate is
/// filed.
fn found(search: Search, is_unsure: bool, tracker: &Tracker, mark: &str) -> Result<Option<Issue>, StepError> {
    match search {
        Search::Found(issue) => Ok(Some(issue)),
        Search::Absent => Ok(None),
        Search::Unknown(why) if is_unsure => Err(StepError::Failed(format!(
            "whether the issue was filed is not known, and it cannot be looked for: {why}; no other one is filed. Look for `{mark}` in {}/{}, and see `regreen doctor`",
            tracker.owner, tracker.repo
        ))),
        Search::Unknown(why) => {
            tracing::warn!(why, "a retry cannot look for its issue; none was asked for before");
            Ok(None)
        }
    }
}

/// Explains that an issue could not be searched for.
fn unasked(error: StepError, is_unsure: bool) -> StepError {
    match error {
        StepError::Retry(reason) if is_unsure => StepError::Retry(format!(
            "whether the issue was filed is not known, and the tracker cannot be asked: {reason}; no other one is filed"
        )),
        other => other,
    }
}

/// Asks the tracker, at most once per minute and cause, whether the issue of a known cause was closed. If so, resolves the
/// incident, so that the report opens a new one. Tracker errors are ignored.
pub(super) async fn recheck(
    app: &App,
    fingerprint: &Fingerprint,
    recorder: &Recorder,
    cancel: &CancellationToken,
) -> Result<(), StepError> {
    let Some(tracker) = &app.config.tracker else { return Ok(()) };
    let now = clock::now();
    let not_since = now - RECHECK;
    let claimed = incidents::claim_check(&app.pool, fingerprint, now, not_since).await?;
    let Some(Checked { id: incident, marker: filed_for, first_seen }) = claimed else { return Ok(()) };
    let client = TrackerClient::new(&app.mcp, tracker, recorder, cancel);
    match client.find(&mark(filed_for), first_seen).await {
        Ok(Search::Found(Issue { closed: true, url, .. })) => {
            tracing::info!(url, "the issue of a known cause was closed, and the cause is back");
            // Only a webhook tells who closed the issue.
            let said = NewResolution::only(
                Verdict::Closed,
                Actor::new(&tracker.server, &recorder.actor().trace),
                "tracker",
            );
            app.knowledge.resolve(incident, said).await?;
        }
        Ok(_) => {}
        Err(StepError::Stopping) => return Err(StepError::Stopping),
        Err(error) => {
            tracing::warn!(reason = %error, "the tracker cannot be asked whether a known issue is still open")
        }
    }
    Ok(())
}

/// Returns the text for reporters without a tracker.
fn told(diagnosis: &Diagnosis) -> String {
    let mut text = format!("{}\n\n{}", diagnosis.title, diagnosis.cause);
    for claim in diagnosis.claims.iter().filter(|claim| claim.verified) {
        text.push_str(&format!(
            "\n- {} ({} lines {}-{})",
            claim.statement, claim.evidence, claim.first_line, claim.last_line
        ));
    }
    for (index, step) in diagnosis.next_steps.iter().enumerate() {
        text.push_str(&format!("\n{}. {step}", index + 1));
    }
    text
}

/// Counts a known cause and comments on its issue, at most once per interval. Returns the text for the reporter.
pub(super) async fn known(
    app: &App,
    held: &LeasedReport<'_>,
    incident: &Incident,
    cancel: &CancellationToken,
) -> Result<String, StepError> {
    let Some(url) = &incident.issue_url else {
        if incident.namespace != held.report.failure.namespace {
            // The diagnosis quotes evidence of another namespace.
            let (seen, id) = (incident.occurrences, incident.id);
            return Ok(format!(
                "Known cause, seen {seen} times, outside of this namespace ({}); a viewer can read incident {id}",
                incident.class.as_str()
            ));
        }
        let diagnosis = incident.diagnosis.as_ref().map(told).unwrap_or_default();
        return Ok(format!("Known cause, seen {} times: {diagnosis}", incident.occurrences));
    };
    let said = format!("Known cause, seen {} times: {url}", incident.occurrences);
    let Some(tracker) = &app.config.tracker else {
        return Ok(said);
    };
    let now = clock::now();
    let interval =
        chrono::TimeDelta::from_std(app.config.triage.comment_interval).unwrap_or(chrono::TimeDelta::MAX);
    let not_since = now.checked_sub_signed(interval).unwrap_or(chrono::DateTime::UNIX_EPOCH);
    // Claimed before posting: a crash loses a comment instead of duplicating it.
    let Some(number) = incidents::claim_comment(&app.pool, incident.id, now, not_since).await? else {
        metrics().issue("counted");
        return Ok(said);
    };
    let links = &app.config.privacy.links;
    let pipelines = incidents::pipelines(&app.pool, incident.id).await?;
    let pipelines: Vec<String> = pipelines.iter().map(|name| markdown::sanitize_line(name, links)).collect();
    let text = app.prompts.render(
        "comment",
        json!({
            "occurrences": incident.occurrences,
            "first_seen": incident.first_seen.format("%Y-%m-%d %H:%M UTC").to_string(),
            "failure": issue_sanitize::failure(&held.report.failure, links),
            "pipelines": pipelines,
            "report_url": app.report_url(held.report.id),
        }),
    );
    let text = text.map_err(|error| StepError::Failed(format!("{error:#}")))?;
    // The report is counted even if the comment fails.
    let client = TrackerClient::new(&app.mcp, tracker, &held.recorder, cancel);
    match client.comment(number, &text).await {
        Ok(_) => metrics().issue("commented"),
        Err(error) => {
            metrics().issue("counted");
            tracing::warn!(report = %held.report.id, reason = %error, "the comment on the known issue was not posted");
        }
    }
    Ok(said)
}
