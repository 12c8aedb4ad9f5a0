//! Processes one report to its end under a lease, and returns whether to retry.

use super::collect::collect;
use super::grouping::{GroupingOutcome, group_report};
use super::investigate::investigate;
use super::lease::{LeasedReport, keep};
use super::publish::{self, Published};
use super::step_error::StepError;
use crate::app::App;
use crate::audit::Recorder;
use crate::clock;
use crate::config::Target;
use crate::db;
use crate::db::audit;
use crate::db::reports::{self, ClaimedReport, End, Lease, NewStep};
use crate::db::{incidents, queue};
use crate::domain::{
    Actor, AuditAction, AuditEvent, AuditOutcome, FailureClass, Incident, Novelty, StepName,
};
use crate::metrics::metrics;
use crate::notify;
use crate::telemetry;
use crate::telemetry::trace::{self, KeyValue, Span, SpanKind};
use sqlx::PgPool;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Delay before the outcome is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// The report is finished, or another worker has it or will finish it.
    Over,
    /// Retry later. Contains the reason for the log.
    Again(String),
    /// Stopped by a shutdown and released.
    HandedBack,
}

impl JobOutcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::Again(_) => "again",
            Self::HandedBack => "handed_back",
        }
    }
}

/// Processes the report as far as possible. `retry` is the number of earlier attempts. `last` is true if no further attempt
/// follows.
///
/// # Errors
/// The database is unavailable and the outcome could not be stored. The queue retries.
pub async fn run(app: &App, id: Uuid, retry: u32, last: bool) -> sqlx::Result<JobOutcome> {
    let lease = Lease { token: Uuid::new_v4(), length: app.config.queue.lease };
    let Some(ClaimedReport { report, leads, traceparent, since, anew }) =
        db::with_timeout(reports::take(&app.pool, id, lease)).await?
    else {
        let until = db::with_timeout(reports::held_until(&app.pool, id)).await?;
        return Ok(until.map_or(JobOutcome::Over, |until| {
            JobOutcome::Again(format!("held by another worker until {until}"))
        }));
    };
    let (token, closing) = (lease.token, AtomicBool::new(false));
    let recorder = Recorder::new(Actor::service(id));
    let held = LeasedReport { report: &report, leads, since, anew, token, retry, recorder, closing };
    let parent = trace::parent(traceparent.as_deref());
    let attributes = vec![KeyValue::new("regreen.report.id", id.to_string())];
    let span = Span::begin_under(&parent, "triage".to_owned(), SpanKind::Consumer, attributes);
    let work = async {
        if report.attempts == 1 {
            trace::past("queue", since, clock::now());
        }
        let ran = take_up(app, &held, last).await;
        // Also for reports that continue later or that another worker has taken over.
        audit::flush(&app.pool, &held.recorder).await;
        ran
    };
    let ran = Box::pin(span.of(telemetry::named(id.to_string(), work))).await;
    span.set("regreen.outcome", ran.as_ref().map_or("database_away", JobOutcome::name));
    ran
}

async fn take_up(app: &App, held: &LeasedReport<'_>, last: bool) -> sqlx::Result<JobOutcome> {
    let LeasedReport { report, retry, .. } = held;
    let id = report.id;
    if report.attempts > 1 {
        let detail = format!("attempt {}: whoever had it before died, or lost its lease", report.attempts);
        held.recorder.record(held.recorder.event(AuditAction::ReportTakeUp).on("report", id).detail(detail));
    }
    if report.attempts > app.config.triage.max_attempts {
        let steps = reports::steps(&app.pool, id).await?;
        let after = steps.last().map_or("intake", |step| step.name.as_str());
        let reason = format!(
            "given up: its worker died {} times, each time after the step `{after}`",
            report.attempts - 1
        );
        store_end(app, held, Some(&reason)).await?;
        return Ok(JobOutcome::Over);
    }
    let cancel = app.drain.child_token();
    let ended = tokio::select! {
        ended = advance(app, held, &cancel) => ended,
        error = keep(&app.pool, &app.config, held) => Err(error),
    };
    let (failure, ran) = match ended {
        Ok(()) => return Ok(JobOutcome::Over),
        // Another worker may own the job. Completing a job would remove it for that worker as well, but a retry leaves it in
        // place.
        Err(StepError::Lost) => {
            db::with_timeout(reports::survived(&app.pool, id)).await?;
            return Ok(JobOutcome::Again(StepError::Lost.to_string()));
        }
        Err(StepError::Stopping) => (None, JobOutcome::HandedBack),
        Err(StepError::Retry(_)) if cancel.is_cancelled() => (None, JobOutcome::HandedBack),
        Err(StepError::Retry(reason)) if !last => (None, JobOutcome::Again(reason)),
        Err(StepError::Retry(reason)) => {
            (Some(format!("{reason} (tried {} times)", retry + 1)), JobOutcome::Over)
        }
        Err(StepError::Failed(reason)) => (Some(reason), JobOutcome::Over),
    };
    store_end(app, held, failure.as_deref()).await?;
    Ok(ran)
}

/// Fails the report with a reason, or releases it without one. Waits for an unavailable database until shutdown, since
/// otherwise the attempt would count as a crash of this worker.
async fn store_end(app: &App, held: &LeasedReport<'_>, failure: Option<&str>) -> sqlx::Result<()> {
    loop {
        let stored = match failure {
            Some(reason) => db::with_timeout(fail(&app.pool, &app.config.notify, held, reason)).await,
            None => db::with_timeout(reports::hand_back(&app.pool, held.report.id, held.token)).await,
        };
        match stored {
            Err(error)
                if matches!(StepError::from_ref(&error), StepError::Retry(_))
                    && !app.drain.is_cancelled() =>
            {
                tokio::time::sleep(STORE_AGAIN).await;
            }
            stored => return stored,
        }
    }
}

async fn advance(app: &App, held: &LeasedReport<'_>, cancel: &CancellationToken) -> Result<(), StepError> {
    let collected = Span::step("collect").of(collect(app, held, cancel)).await?;
    let placed = Span::step("place").of(group_report(app, held, &collected.pieces, cancel)).await?;
    match placed {
        GroupingOutcome::Waits => Ok(()),
        GroupingOutcome::Known(incident) => {
            let started = Instant::now();
            let result = Span::step("publish").of(publish::known(app, held, &incident, cancel)).await?;
            let result = Published::Message(result);
            let ended = Ended { incident: &incident, novelty: Novelty::Known, class: incident.class };
            finish(app, held, &ended, &result, started).await
        }
        GroupingOutcome::Leads(incident) => {
            let investigation = investigate(app, held, &incident, collected, cancel);
            let diagnosis = Span::step("investigate").of(investigation).await?;
            let started = Instant::now();
            let publication = publish::publish(app, held, &incident, &diagnosis, cancel);
            let result = Span::step("publish").of(publication).await?;
            let novelty = if incident.previous_id.is_some() { Novelty::Returned } else { Novelty::New };
            let ended = Ended { incident: &incident, novelty, class: diagnosis.class };
            finish(app, held, &ended, &result, started).await
        }
    }
}

/// The cause found for a report.
struct Ended<'a> {
    incident: &'a Incident,
    novelty: Novelty,
    class: FailureClass,
}

impl Ended<'_> {
    /// Returns the incident whose waiting reports end with this one.
    fn leads(&self) -> Option<Uuid> {
        (self.novelty != Novelty::Known).then_some(self.incident.id)
    }
}

/// Finishes the report. A leader also finishes the waiting reports of its namespace and requeues those of others.
async fn finish(
    app: &App,
    held: &LeasedReport<'_>,
    ended: &Ended<'_>,
    published: &Published,
    started: Instant,
) -> Result<(), StepError> {
    let (leads, result) = (ended.leads(), published.said());
    let (now, took) = (clock::now(), started.elapsed());
    let detail = result.lines().next().unwrap_or_default();
    let mut transaction = app.pool.begin().await?;
    if let Some(incident) = leads {
        // No report can start to wait for this incident once the transaction commits.
        incidents::lock(&mut *transaction, incident).await?;
    }
    let step = NewStep { name: StepName::Publish, detail, at: now, took };
    reports::add_step(&mut *transaction, held.report.id, &step).await?;
    held.close();
    if !reports::finish(&mut *transaction, held.report.id, held.token, &End::Done(&result), now).await? {
        return Err(StepError::Lost);
    }
    let mut others = Vec::new();
    if let Some(incident) = leads {
        let waiting = published.said_to_others();
        let namespace = &ended.incident.namespace;
        others = reports::finish_waiting(&mut *transaction, incident, namespace, &waiting, now).await?;
        // Reports of other namespaces check whether the diagnosis holds for their own evidence.
        for waiting in reports::requeue_waiting(&mut *transaction, incident).await? {
            queue::add_triage(&mut *transaction, waiting).await?;
        }
    }
    // A repeated investigation does not announce the cause as new again.
    if !held.anew {
        let own = [(held.report.id, held.report.failure.namespace.as_str())];
        notify::note(&mut transaction, &app.config.notify, ended.novelty, Some(ended.class), &own).await?;
    }
    let theirs: Vec<(Uuid, &str)> =
        others.iter().map(|report| (report.id, report.namespace.as_str())).collect();
    notify::note(&mut transaction, &app.config.notify, Novelty::Known, Some(ended.class), &theirs).await?;
    held.recorder.record(end(held, AuditOutcome::Done, detail));
    audit::commit(transaction, &held.recorder).await?;
    metrics().report("done", age(held));
    metrics().reports.with_label_values(&["done"]).inc_by(others.len() as u64);
    tracing::info!(report = %held.report.id, "report done");
    Ok(())
}

/// Creates the audit event of a finished report, with its duration.
fn end(held: &LeasedReport<'_>, outcome: AuditOutcome, detail: &str) -> AuditEvent {
    let event = held.recorder.event(AuditAction::ReportFinish).on("report", held.report.id);
    event.outcome(outcome).detail(detail).took(age(held))
}

fn age(held: &LeasedReport<'_>) -> Duration {
    (clock::now() - held.since).to_std().unwrap_or_default()
}

async fn fail(pool: &PgPool, targets: &[Target], held: &LeasedReport<'_>, reason: &str) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    // Reload the report: this attempt may have assigned an incident.
    let incident =
        reports::get(&mut *transaction, held.report.id).await?.and_then(|report| report.incident_id);
    if let Some(incident) = incident {
        incidents::lock(&mut *transaction, incident).await?;
    }
    if !reports::finish(&mut *transaction, held.report.id, held.token, &End::Failed(reason), clock::now())
        .await?
    {
        return Ok(());
    }
    if let Some(incident) = incident {
        // Waiting reports continue the investigation, and the first one leads it.
        for waiting in reports::requeue_waiting(&mut *transaction, incident).await? {
            queue::add_triage(&mut *transaction, waiting).await?;
        }
    }
    let own = [(held.report.id, held.report.failure.namespace.as_str())];
    notify::note(&mut transaction, targets, Novelty::Failed, None, &own).await?;
    held.recorder.record(end(held, AuditOutcome::Failed, reason));
    audit::commit(transaction, &held.recorder).await?;
    metrics().report("failed", age(held));
    tracing::error!(report = %held.report.id, reason, "report failed");
    Ok(())
}
