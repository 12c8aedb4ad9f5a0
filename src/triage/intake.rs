//! Intake: one transaction writes the report and its job. From here on nothing is lost.

use crate::clock;
use crate::config::Privacy;
use crate::db::audit::{self, Deed};
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::queue;
use crate::db::reports::{self, NewReport};
use crate::domain::{EvidenceKind, Failure};
use crate::evidence::clean::{Cleaned, clean};
use crate::evidence::redact::{self, Redactor};
use crate::telemetry::trace;
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
    /// The log of the last good run of the same job.
    pub good_log: Option<String>,
    /// What the alert says that led to it.
    pub alert: Option<String>,
    /// Who submits it, by name.
    pub caller: String,
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
pub async fn intake(pool: &PgPool, submission: &Submission, privacy: Privacy) -> sqlx::Result<Intake> {
    // Over what was sent: two requests that differ in a secret alone are two.
    let hash = hash(submission);
    let key = submission.idempotency_key.as_deref().map(redact::identifier);
    let key = key.as_deref();
    let mut redactor = Redactor::new().and_emails(privacy.redact_emails);
    let failure = &redacted(&submission.failure, &mut redactor);
    let id = Uuid::now_v7();
    let now = clock::now();
    let mut transaction = pool.begin().await?;
    let caller = submission.caller.as_str();
    let traceparent = trace::traceparent();
    let report = NewReport {
        id,
        caller,
        idempotency_key: key,
        request_hash: &hash,
        failure,
        now,
        traceparent: traceparent.as_deref(),
    };
    if !reports::insert(&mut *transaction, &report).await? {
        let known = reports::by_key(&mut *transaction, caller, key.unwrap_or_default()).await?;
        let Some((known, known_hash)) = known else {
            return Err(sqlx::Error::RowNotFound);
        };
        return Ok(if known_hash == hash { Intake::Repeated(known) } else { Intake::KeyReused(known) });
    }
    let pieces = attached(submission, &privacy, &mut redactor);
    if !pieces.is_empty() {
        evidence::insert(&mut *transaction, Owner::Report(id), &pieces, now).await?;
    }
    queue::add_triage(&mut *transaction, id).await?;
    let (row, detail) = (id.to_string(), format!("{}/{}", failure.namespace, failure.pod_name));
    let deed = Deed {
        actor: caller,
        action: "report.accept",
        object: ("report", &row),
        outcome: "done",
        detail: &detail,
    };
    audit::add(&mut *transaction, &deed, now).await?;
    transaction.commit().await?;
    Ok(Intake::Accepted(id))
}

/// A failure without the secrets that callers leave in what they tell of it. The cluster is asked by the names of namespace, pod
/// and container, whose form has no room for one.
fn redacted(failure: &Failure, redactor: &mut Redactor) -> Failure {
    let mut plain = |text: &Option<String>| text.as_deref().map(|text| redactor.redact(text));
    Failure {
        namespace: failure.namespace.clone(),
        pod_name: failure.pod_name.clone(),
        container_name: failure.container_name.clone(),
        pipeline: plain(&failure.pipeline),
        task: plain(&failure.task),
        run: plain(&failure.run),
        run_url: plain(&failure.run_url),
        last_good_run: plain(&failure.last_good_run),
        repository: plain(&failure.repository),
        commit: plain(&failure.commit),
    }
}

/// What came with the report, cleaned and redacted.
fn attached(submission: &Submission, privacy: &Privacy, redactor: &mut Redactor) -> Vec<NewEvidence> {
    let texts = [
        (EvidenceKind::Attached, "log attached to the report", &submission.log),
        (EvidenceKind::GoodLog, "log of the last good run", &submission.good_log),
        (EvidenceKind::Alert, "the alert", &submission.alert),
    ];
    let mut pieces = Vec::new();
    for (kind, title, text) in texts {
        let Some(received) = text.as_deref().filter(|text| !text.trim().is_empty()) else { continue };
        let before = redactor.count();
        let Cleaned { text, red } = clean(received);
        let text = redactor.redact(&text);
        pieces.push(NewEvidence {
            id: Uuid::now_v7(),
            position: i32::try_from(pieces.len() + 1).unwrap_or(i32::MAX),
            kind,
            title: title.to_owned(),
            text,
            red,
            raw: privacy.keep_raw.then(|| received.to_owned()),
            redactions: i32::try_from(redactor.count() - before).unwrap_or(i32::MAX),
            visible_to: None,
        });
    }
    pieces
}

fn hash(submission: &Submission) -> String {
    let failure = serde_json::to_vec(&submission.failure).expect("a failure is plain text fields");
    let mut hash = Sha256::new();
    hash.update(&failure);
    hash.update([0]);
    hash.update(submission.log.as_deref().unwrap_or_default());
    if let Some(good) = &submission.good_log {
        hash.update([0]);
        hash.update(good);
    }
    hex::encode(hash.finalize())
}
