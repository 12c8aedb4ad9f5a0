//! Prepare: cleans, redacts and counts received texts on the blocking pool before they are stored. Used by intake and
//! collect.

use crate::clock::{Deadline, DeadlinePassed};
use crate::config::Privacy;
use crate::db::evidence::{NewEvidence, count_lines};
use crate::domain::EvidenceKind;
use crate::evidence::clean::{Cleaned, clean_within};
use crate::evidence::redact::Redactor;
use std::time::Duration;
use uuid::Uuid;

/// Time limit for the texts of a request or report, including the wait for a thread. Sizes are limited, so only an overloaded
/// machine exceeds it.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// A received text.
pub(super) struct Received {
    pub(super) kind: EvidenceKind,
    pub(super) title: String,
    pub(super) text: String,
}

/// Pieces to store, and the redactor that knows the placeholders of their secrets.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Numbered after the pieces already stored.
    pub(super) pieces: Vec<NewEvidence>,
    /// The redactor used for all pieces.
    pub(super) redactor: Redactor,
}

/// Creates a redactor with the configured options.
pub(super) fn redactor(privacy: &Privacy) -> Redactor {
    Redactor::new().and_emails(privacy.redact_emails)
}

/// Cleans and redacts texts. Numbers them after the `stored` pieces.
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
