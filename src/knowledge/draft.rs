//! Drafts a runbook from an incident and its resolutions, for a person to complete and commit.

use crate::domain::{FailureClass, Incident, Resolution, Verdict};
use crate::evidence::runbook;
use crate::evidence::signature::SignatureSet;
use crate::evidence::template::mask;
use crate::evidence::untrusted::markdown;
use anyhow::Context as _;
use serde::Serialize;
use std::fmt::Write as _;
use uuid::Uuid;

/// Maximum number of a line's characters used for a pattern.
const MAX_LINE: usize = 160;

#[derive(Serialize)]
struct Front<'a> {
    title: &'a str,
    kind: &'a str,
    applies_to: Vec<&'a str>,
    class: &'a str,
    source: String,
    signatures: Vec<Drafted<'a>>,
}

#[derive(Serialize)]
struct Drafted<'a> {
    id: String,
    pattern: String,
    title: &'a str,
    cause: &'a str,
    next_steps: &'a [String],
    priority: i32,
}

/// Returns the draft as a Markdown file for `regreen ingest`.
///
/// # Errors
/// The incident has no diagnosis, or the draft is not a valid runbook.
pub fn draft(incident: &Incident, resolutions: &[Resolution]) -> anyhow::Result<String> {
    let diagnosis = incident.diagnosis.as_ref().context("this incident was not investigated yet")?;
    let cause = resolutions
        .iter()
        .rev()
        .filter(|said| !matches!(said.verdict, Verdict::Closed | Verdict::Reopened))
        .find_map(|said| said.cause.as_deref());
    let cause = cause.unwrap_or(&diagnosis.cause);
    let class =
        if incident.class == FailureClass::Unknown { FailureClass::Configuration } else { incident.class };
    let quotes: Vec<&str> = diagnosis
        .claims
        .iter()
        .filter(|claim| claim.verified)
        .filter_map(|claim| claim.quote.as_deref())
        .collect();
    let signature = quotes.first().map(|line| Drafted {
        id: format!("team-{}", short(incident.id)),
        pattern: pattern(line),
        title: &diagnosis.title,
        cause,
        next_steps: &diagnosis.next_steps,
        priority: 60,
    });
    let front = Front {
        title: &diagnosis.title,
        kind: "runbook",
        applies_to: vec!["kubernetes"],
        class: class.as_str(),
        source: incident.issue_url.clone().unwrap_or_else(|| format!("incident {}", incident.id)),
        signatures: signature.into_iter().collect(),
    };
    let front = serde_norway::to_string(&front).context("the front matter cannot be written")?;
    let text = format!("---\n{front}---\n{}", body(&diagnosis.title, cause, &quotes, incident, resolutions));
    let read = runbook::parse(&text).context("the draft cannot be read back")?;
    SignatureSet::compile(read.signatures)?;
    Ok(text)
}

/// Returns the end of the id, since ids begin with the time.
fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    text[text.len() - 8..].to_owned()
}

fn body(
    title: &str,
    cause: &str,
    quotes: &[&str],
    incident: &Incident,
    resolutions: &[Resolution],
) -> String {
    let mut text = format!("# {title}\n\n## Symptoms\n");
    let _ = writeln!(text, "Seen {} times, in namespace {}:\n", incident.occurrences, incident.namespace);
    let _ = writeln!(text, "{}\n\n## Confirm", markdown::block("text", &quotes.join("\n")));
    text.push_str("Look for the lines above in the log of the failed step.\n\n## Causes\n");
    let _ = writeln!(text, "{cause}\n\n## Fix");
    let mut fixes = resolutions.iter().filter(|said| said.fix.is_some() || said.link.is_some()).peekable();
    if fixes.peek().is_none() {
        let steps = incident.diagnosis.iter().flat_map(|diagnosis| &diagnosis.next_steps);
        for (number, step) in (1..).zip(steps) {
            let _ = writeln!(text, "{number}. {step}");
        }
    }
    for said in fixes {
        let _ = writeln!(
            text,
            "- {}{} — {}, {}",
            said.fix.as_deref().unwrap_or("See the link."),
            said.link.as_ref().map_or_else(String::new, |link| format!(" ({link})")),
            said.author,
            said.created_at.format("%Y-%m-%d")
        );
    }
    text.push_str("\n## Prevention\nSay here what keeps it from coming back.\n");
    text
}

/// Converts a line to a pattern. Variable parts match any text.
fn pattern(line: &str) -> String {
    let line: String = line.lines().next().unwrap_or_default().trim().chars().take(MAX_LINE).collect();
    let masked = mask(&line);
    let mut pattern = String::new();
    let mut rest = masked.as_str();
    while let Some(at) = rest.find('<') {
        let mark = rest[at..].find('>').map(|end| &rest[at..=at + end]);
        let is_mark = mark.is_some_and(|mark| {
            ["<secret>", "<time>", "<id>", "<hash>", "<hex>", "<address>", "<pod>", "<tmp>", "<n>"]
                .contains(&mark)
        });
        pattern.push_str(&regex::escape(&rest[..at]));
        match mark.filter(|_| is_mark) {
            Some(mark) => {
                pattern.push_str(if mark == "<time>" { r"[\d:., TZ+/-]+" } else { r"\S+?" });
                rest = &rest[at + mark.len()..];
            }
            None => {
                pattern.push('<');
                rest = &rest[at + 1..];
            }
        }
    }
    pattern.push_str(&regex::escape(rest));
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_pattern_that_matches_its_like() {
        let line = "2026-11-21T10:00:00Z pod build-x7k2p-pod: <gate> check (3 of 12) failed at 10.0.0.7:443";
        let pattern = regex::Regex::new(&pattern(line)).unwrap();
        assert!(pattern.is_match(line), "{pattern}");
        assert!(pattern.is_match(
            &line.replace("x7k2p", "zz9vx").replace("10:00:00", "23:59:01").replace("3 of 12", "7 of 9")
        ));
        assert!(!pattern.is_match("2026-11-21T10:00:00Z pod build: check passed"));
    }
}
