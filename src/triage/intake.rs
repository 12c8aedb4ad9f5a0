//! Intake: what came is prepared on the blocking pool; then one transaction writes the report and its job. From there on nothing
//! is lost.

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
    /// What failed.
    pub failure: Failure,
    /// A log that came with it.
    pub log: Option<String>,
    /// The log of the last good run of the same job.
    pub good_log: Option<String>,
    /// What the alert says that led to it.
    pub alert: Option<String>,
    /// Who submits it, in which request.
    pub caller: Actor,
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

/// Why a report was not stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database is away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What came could not be prepared in time.
    #[error("what came with the report could not be cleaned and redacted: {0}")]
    Blocking(#[from] BlockingError),
}

/// Stores a report with its job. What came is hashed, cleaned and redacted before the transaction begins, on a thread of its own:
/// only the database's own time counts against its limit.
///
/// # Errors
/// Those of [`IntakeError`]; nothing was stored then.
pub async fn intake(
    pool: &PgPool,
    blocking: &BlockingPool,
    submission: Submission,
    privacy: Privacy,
) -> Result<Intake, IntakeError> {
    let submission = Arc::new(submission);
    let hashed = Arc::clone(&submission);
    // Over what was sent: two requests that differ in a secret alone are two.
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

/// Whose request it is, and what it is known by.
struct Request<'a> {
    caller: &'a Actor,
    key: Option<&'a str>,
    hash: &'a str,
}

/// What became of the submission when its key was seen before.
async fn known(pool: &PgPool, from: &Request<'_>) -> sqlx::Result<Option<Intake>> {
    let Some(key) = from.key else { return Ok(None) };
    let known = reports::by_key(pool, &from.caller.name, key).await?;
    Ok(known.map(|(id, hash)| if hash == from.hash { Intake::Repeated(id) } else { Intake::KeyReused(id) }))
}

/// One transaction: the report, its pieces, its job, and that it was accepted.
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
        // The same key came a moment before.
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

/// What came with the report.
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
