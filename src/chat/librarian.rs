//! The answer when no model answers: what is known of the incident and what the knowledge has, without a thought added.

use super::brief::Known;
use crate::knowledge::Passage;
use std::fmt::Write as _;

/// The answer, as Markdown. `why` says why no model answered.
pub(super) fn answer(known: &Known, runbooks: &[Passage], past: &[Passage], why: &str) -> String {
    let mut text = format!("{why} This is what is on record.\n");
    if let Some((incident, _)) = &known.incident {
        let _ = write!(text, "\n## {}\n", incident.title);
        if let Some(diagnosis) = &incident.diagnosis {
            let _ = write!(
                text,
                "\n{}\n\nFound by {} with {} confidence.\n",
                diagnosis.cause,
                diagnosis.analyst,
                diagnosis.confidence.as_str()
            );
            for claim in diagnosis.claims.iter().filter(|claim| claim.verified) {
                let lines = if claim.first_line == claim.last_line {
                    claim.first_line.to_string()
                } else {
                    format!("{}-{}", claim.first_line, claim.last_line)
                };
                let _ = write!(text, "\n- {} [{}:{lines}]", claim.statement, claim.evidence);
            }
            for (number, step) in (1..).zip(&diagnosis.next_steps) {
                let _ = write!(text, "\n{number}. {step}");
            }
            text.push('\n');
        }
        for resolution in &known.resolutions {
            let _ = write!(text, "\n> {}\n", crate::knowledge::told(resolution));
        }
    }
    for (heading, passages) in [("Runbooks", runbooks), ("Failures like it", past)] {
        if passages.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {heading}\n");
        for passage in passages {
            let _ = write!(text, "\n### {}\n\n{}\n", passage.title, passage.text.trim());
        }
    }
    if known.incident.is_none() && runbooks.is_empty() && past.is_empty() {
        text.push_str("\nNo runbook and no past incident fits the question.\n");
    }
    text
}
