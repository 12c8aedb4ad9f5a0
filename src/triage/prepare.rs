//! Prepare: received texts become pieces to store: cleaned, redacted, counted. Intake and collect do it alike, on the blocking pool.

use crate::clock::{Deadline, DeadlinePassed};
use crate::config::Privacy;
use crate::db::evidence::{NewEvidence, count_lines};
use crate::domain::EvidenceKind;
use crate::evidence::clean::{Cleaned, clean_within};
use crate::evidence::redact::Redactor;
use std::time::Duration;
use uuid::Uuid;

/// How long one request's or one report's texts may take, with the wait for a thread: they are bounded by what is accepted, so
/// that only a machine that is overloaded reaches it.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// A text as received.
pub(super) struct Received {
    pub(super) kind: EvidenceKind,
    pub(super) title: String,
    pub(super) text: String,
}

/// Pieces to store, and what knows their secrets by their placeholders.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Numbered after what is stored already.
    pub(super) pieces: Vec<NewEvidence>,
    /// Has seen them all.
    pub(super) redactor: Redactor,
}

/// Knows no secret yet, and what counts as one.
pub(super) fn redactor(privacy: &Privacy) -> Redactor {
    Redactor::new().and_emails(privacy.redact_emails)
}

/// Cleans and redacts texts, numbered after as many as are stored already.
pub(super) fn prepare(
    received: Vec<Received>,
    stored: usize,
    privacy: &Privacy,
    mut redactor: Redactor,
    deadline: &Deadline,
) -> Result<Prepared, DeadlinePassed> {
    let mut pieces = Vec::new();
    for (position, received) in (stored + 1..).zip(received) {
        let Received { kind, title, text: received } = received;
        let before = redactor.count();
        let Cleaned { text, red } = clean_within(&received, deadline)?;
        let text = redactor.redact_within(&text, deadline)?;
        pieces.push(NewEvidence {
            id: Uuid::now_v7(),
            position: i32::try_from(position).unwrap_or(i32::MAX),
            kind,
            title,
            lines: count_lines(&text),
            text,
            red,
            raw: privacy.keep_raw.then_some(received),
            visible_to: None,
            redactions: i32::try_from(redactor.count() - before).unwrap_or(i32::MAX),
        });
    }
    Ok(Prepared { pieces, redactor })
}
