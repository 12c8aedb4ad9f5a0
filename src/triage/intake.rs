//! Intake: one transaction writes the report and its job. From here on nothing is lost.

use crate::clock;
use crate::db::evidence::{self, NewEvidence};
use crate::db::queue;
use crate::db::reports::{self, NewReport};
use crate::domain::{EvidenceKind, Failure};
use crate::evidence::clean::{Cleaned, clean};
use crate::evidence::redact::Redactor;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

/// A failure as submitted.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// What failed.
    pub failure: Failure,
    /// A log that came with it.
    pub log: Option<String>,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// A new report.
    Accepted(Uuid),
    /// The key was seen with the same request: this is its report.
    Repeated(Uuid),
    /// The key was seen with another request.
    KeyReused(Uuid),
}

/// Stores a report with its job.
///
/// # Errors
/// The database is away; nothing was stored then.
pub async fn intake(pool: &PgPool, submission: &Submission) -> sqlx::Result<Intake> {
    let hash = hash(submission);
    let key = submission.idempotency_key.as_deref();
    let id = Uuid::now_v7();
    let now = clock::now();
    let mut transaction = pool.begin().await?;
    let report =
        NewReport { id, idempotency_key: key, request_hash: &hash, failure: &submission.failure, now };
    if !reports::insert(&mut *transaction, &report).await? {
        let known = reports::by_key(&mut *transaction, key.unwrap_or_default()).await?;
        let Some((known, known_hash)) = known else {
            return Err(sqlx::Error::RowNotFound);
        };
        return Ok(if known_hash == hash { Intake::Repeated(known) } else { Intake::KeyReused(known) });
    }
    if let Some(log) = submission.log.as_deref().filter(|log| !log.trim().is_empty()) {
        let mut redactor = Redactor::new();
        let Cleaned { text, red } = clean(log);
        let text = redactor.redact(&text);
        let piece = NewEvidence {
            id: Uuid::now_v7(),
            position: 1,
            kind: EvidenceKind::Attached,
            title: "log attached to the report".to_owned(),
            text,
            red,
            redactions: i32::try_from(redactor.count()).unwrap_or(i32::MAX),
        };
        evidence::insert(&mut *transaction, id, &[piece], now).await?;
    }
    queue::add_triage(&mut *transaction, id).await?;
    transaction.commit().await?;
    Ok(Intake::Accepted(id))
}

fn hash(submission: &Submission) -> String {
    let failure = serde_json::to_vec(&submission.failure).expect("a failure is plain text fields");
    let mut hash = Sha256::new();
    hash.update(&failure);
    hash.update([0]);
    hash.update(submission.log.as_deref().unwrap_or_default());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
