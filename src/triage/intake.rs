//! Intake: prepares a submission on the blocking pool, then stores the report and its job in one transaction. A stored report
//! is never lost.

use super::prepare::{self, Received, prepare};
use crate::blocking::{BlockingError, BlockingPool};
use crate::clock;
use crate::config::Privacy;
use crate::db::audit;
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::reports::{self, NewReport};
use crate::db::{self, queue};
use crate::domain::{Actor, AuditAction, AuditEvent, EvidenceKind, Failure};
use crate::evidence::redact::{self, Redactor};
use crate::telemetry::trace;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use std::sync::Arc;
use uuid::Uuid;

/// A failure as submitted.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The failure.
    pub failure: Failure,
    /// A log attached to the report.
    pub log: Option<String>,
    /// The log of the last successful run of the same job.
    pub good_log: Option<String>,
    /// Text of the alert that caused the report.
    pub alert: Option<String>,
    /// The submitter and the trace of the request.
    pub caller: Actor,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// Result of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// A new report was created.
    Accepted(Uuid),
    /// The idempotency key was used before with the same request. Contains the existing report.
    Repeated(Uuid),
    /// The idempotency key was used before with a different request.
    KeyReused(Uuid),
}

/// Error of a submission.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database is unavailable.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The submission could not be prepared in time.
    #[error("what came with the report could not be cleaned and redacted: {0}")]
    Blocking(#[from] BlockingError),
}

/// Stores a report and its job. Hashes, cleans and redacts the submission on the blocking pool before the transaction begins,
/// so that only database time counts against the limit.
///
/// # Errors
/// See [`IntakeError`]. Nothing is stored in this case.
pub async fn intake(
    pool: &PgPool,
    blocking: &BlockingPool,
    submission: Submission,
    privacy: Privacy,
) -> Result<Intake, IntakeError> {
    let submission = Arc::new(submission);
    let hashed = Arc::clone(&submission);
    // The hash covers the unredacted failure and logs, so that requests which differ only in a secret are distinct.
    let hash = blocking.run(prepare::LIMIT, move |_| hash(&hashed)).await?;
    let key = submission.idempotency_key.as_deref().map(redact::identifier);
    let from = Request { caller: &submission.caller, key: key.as_deref(), hash: &hash };
    if let Some(known) = db::with_timeout(known(pool, &from)).await? {
        return Ok(known);
    }
    let received = Arc::clone(&submission);
    let prepared = blocking.run_checked(prepare::LIMIT, move |deadline| {
        let mut redactor = prepare::redactor(&privacy);
        let failure = redacted(&received.failure, &mut redactor);
        Ok((failure, prepare(texts(&received), 0, &privacy, redactor, deadline)?.pieces))
    });
    let (failure, pieces) = prepared.await?;
    Ok(db::with_timeout(store(pool, &from, &failure, &pieces)).await?)
}

/// Identity of a request: caller, idempotency key and hash.
struct Request<'a> {
    caller: &'a Actor,
    key: Option<&'a str>,
    hash: &'a str,
}

/// Returns the result for an idempotency key that was used before.
async fn known(pool: &PgPool, from: &Request<'_>) -> sqlx::Result<Option<Intake>> {
    let Some(key) = from.key else { return Ok(None) };
    let known = reports::by_key(pool, &from.caller.name, key).await?;
    Ok(known.map(|(id, hash)| if hash == from.hash { Intake::Repeated(id) } else { Intake::KeyReused(id) }))
}

/// Stores the report, its evidence, its job and the audit event in one transaction.
async fn store(
    pool: &PgPool,
    from: &Request<'_>,
    failure: &Failure,
    pieces: &[NewEvidence],
) -> sqlx::Result<Intake> {
    let id = Uuid::now_v7();
    let now = clock::now();
    let caller = from.caller.name.as_str();
    let traceparent = trace::traceparent();
    let report = NewReport {
        id,
        caller,
        idempotency_key: from.key,
        request_hash: from.hash,
        failure,
        now,
        traceparent: traceparent.as_deref(),
    };
    let mut transaction = pool.begin().await?;
    if !reports::insert(&mut *transaction, &report).await? {
        // A concurrent request with the same key was stored first.
        transaction.rollback().await?;
        return known(pool, from).await?.ok_or(sqlx::Error::RowNotFound);
    }
    if !pieces.is_empty() {
        evidence::insert(&mut *transaction, Owner::Report(id), pieces, now).await?;
    }
    queue::add_triage(&mut *transaction, id).await?;
    let event = AuditEvent::new(from.caller, AuditAction::ReportAccept, now).on("report", id);
    let event = event.detail(format!("{}/{}", failure.namespace, failure.pod_name));
    audit::add(&mut *transaction, &event).await?;
    transaction.commit().await?;
    Ok(Intake::Accepted(id))
}

/// Redacts the fields of a failure. Namespace, pod and container are kept for queries to the cluster: their format leaves no
/// room for a secret.
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

/// Returns the texts submitted with the report.
fn texts(submission: &Submission) -> Vec<Received> {
    let texts = [
        (EvidenceKind::Attached, "log attached to the report", &submission.log),
        (EvidenceKind::GoodLog, "log of the last good run", &submission.good_log),
        (EvidenceKind::Alert, "the alert", &submission.alert),
    ];
    let given = texts.into_iter().filter_map(|(kind, title, text)| {
        let text = text.as_deref().filter(|text| !text.trim().is_empty())?;
        Some(Received { kind, title: title.to_owned(), text: text.to_owned() })
    });
    given.collect()
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
