//! Renders the text of an issue: the template `prompts/issue.md` with diagnosis, cited lines and earlier resolutions.

use super::step_error::StepError;
use super::{issue_sanitize, prepare};
use crate::app::App;
use crate::db::evidence::{self, Owner};
use crate::db::{incidents, resolutions};
use crate::domain::{Claim, Diagnosis, Evidence, Incident, Principal, Report};
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown;
use crate::knowledge;
use serde_json::{Value, json};
use uuid::Uuid;

/// Maximum number of lines shown per claim.
const MAX_LINES: usize = 12;
/// Maximum length of an earlier resolution in characters.
const MAX_SAID: usize = 600;

/// Returns the mark by which an issue is found.
pub(super) fn mark(incident: Uuid) -> String {
    format!("regreen:incident:{incident}")
}

/// Returns the mark as Markdown, visible and in a comment: some servers remove comments, and earlier versions searched for
/// the comment only.
fn marker(incident: Uuid) -> String {
    let mark = mark(incident);
    format!("`{mark}`\n<!-- {mark} -->")
}

/// Renders the issue of an incident for this report.
///
/// # Errors
/// The incident has no diagnosis, or the text cannot be rendered. Contains the reason.
pub async fn issue_text(app: &App, report: &Report, incident: &Incident) -> Result<String, String> {
    let diagnosis = incident.diagnosis.as_ref().ok_or("the incident was not investigated yet")?;
    body(app, report, incident, diagnosis).await.map_err(|error| error.to_string())
}

/// See [`issue_text`].
pub(super) async fn body(
    app: &App,
    report: &Report,
    incident: &Incident,
    diagnosis: &Diagnosis,
) -> Result<String, StepError> {
    let links = &app.config.privacy.links;
    let plain = |text: &str| issue_sanitize::unmarked(&markdown::sanitize_line(text, links));
    let previous = match incident.previous_id {
        Some(id) => incidents::get(&app.pool, id).await?,
        None => None,
    };
    let said = match &previous {
        Some(previous) if previous.namespace == report.failure.namespace => {
            resolutions::of_incident(&app.pool, previous.id).await?
        }
        _ => Vec::new(),
    };
    let previous = previous.map(|previous| {
        // The template shows each resolution as a single quoted line.
        let said = said.iter().map(|said| plain(&one_line(&knowledge::resolution_line(said))));
        let url = previous.issue_url.as_deref().map(|url| issue_sanitize::address(url, links));
        json!({ "url": url, "occurrences": previous.occurrences, "said": said.collect::<Vec<_>>() })
    });
    let pieces = evidence::of(&app.pool, Owner::Report(report.id), &Principal::nobody()).await?;
    let (all, own) = (diagnosis.claims.clone(), links.clone());
    let claims = app.blocking.run(prepare::LIMIT, move |_| shown(&all, &pieces, &own)).await?;
    let dropped = diagnosis.claims.len() - claims.len() + diagnosis.left_out as usize;
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let values = json!({
        "failure": issue_sanitize::failure(&report.failure, links),
        "diagnosis": issue_sanitize::diagnosis(diagnosis, links),
        "class": diagnosis.class.as_str(),
        "confidence": serde_json::to_value(diagnosis.confidence).map(name).unwrap_or_default(),
        "claims": claims,
        "dropped": dropped,
        "previous": previous,
        "report_id": report.id.to_string(),
        "report_url": app.report_url(report.id),
        "marker": marker(incident.id),
    });
    app.prompts.render("issue", values).map_err(|error| StepError::Failed(format!("{error:#}")))
}

/// Returns the verified claims with their cited lines.
fn shown(claims: &[Claim], pieces: &[Evidence], links: &LinkPolicy) -> Vec<Value> {
    let plain = |text: &str| markdown::sanitize_line(text, links);
    let shown = claims.iter().filter(|claim| claim.verified).filter_map(|claim| {
        let piece = pieces.iter().find(|piece| piece.label == claim.evidence)?;
        Some(json!({
            "statement": plain(&claim.statement),
            "title": plain(&piece.title),
            "first_line": claim.first_line,
            "last_line": claim.last_line,
            "paraphrased": claim.paraphrased,
            "block": lines(piece, claim.first_line, claim.last_line),
        }))
    });
    shown.collect()
}

/// Joins a text into one line of limited length.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_SAID).collect()
}

/// Returns the cited lines as a Markdown block. Their text cannot break out of it.
fn lines(piece: &Evidence, first: u32, last: u32) -> String {
    let mut text = String::new();
    let count = (last - first + 1) as usize;
    for (number, line) in (first..=last).zip(piece.text.lines().skip(first as usize - 1)).take(MAX_LINES) {
        let line: String = line.chars().take(300).collect();
        text.push_str(&format!("{number:>6}  {line}\n"));
    }
    if count > MAX_LINES {
        text.push_str(&format!("        … {} more lines\n", count - MAX_LINES));
    }
    markdown::block("text", &issue_sanitize::unmarked(&text))
}
