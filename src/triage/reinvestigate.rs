//! Repeats work on a user's request: retries a failed report, or investigates a cause again.

use crate::clock;
use crate::db::audit;
use crate::db::evidence::{self, Owner};
use crate::db::{incidents, queue, reinvestigate, reports};
use crate::domain::{Actor, AuditAction, AuditEvent, IncidentStatus, Principal, Report};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Result of a request to repeat work.
#[derive(Debug)]
pub enum RequeueOutcome {
    /// The report was queued.
    Queued(Box<Report>),
    /// The report or incident does not exist.
    Missing,
    /// The request was refused. Contains the reason.
    Refused(&'static str),
}

/// Retries a failed report. Keeps the collected evidence and repeats all other steps.
///
/// # Errors
/// The database is unavailable.
pub async fn retry(pool: &PgPool, report: Uuid, by: &Actor) -> sqlx::Result<RequeueOutcome> {
    let mut transaction = pool.begin().await?;
    let Some(known) = reports::get(&mut *transaction, report).await? else {
        return Ok(RequeueOutcome::Missing);
    };
    if !reinvestigate::retry(&mut transaction, report, clock::now()).await? {
        return Ok(RequeueOutcome::Refused(if known.status.is_final() {
            "the report did not fail; only a failed one is tried again"
        } else {
            "the report is being worked on"
        }));
    }
    let event = AuditEvent::new(by, AuditAction::ReportRetry, clock::now()).on("report", report);
    queued(&mut transaction, report, event).await?;
    let report = reports::get(&mut *transaction, report).await?;
    transaction.commit().await?;
    Ok(report.map_or(RequeueOutcome::Missing, |report| RequeueOutcome::Queued(Box::new(report))))
}

/// Investigates an open incident again, with the evidence of the report that led to its diagnosis. The existing diagnosis
/// stays until there is a new one.
///
/// # Errors
/// The database is unavailable.
pub async fn investigate(pool: &PgPool, incident: Uuid, by: &Actor) -> sqlx::Result<RequeueOutcome> {
    let mut transaction = pool.begin().await?;
    incidents::lock(&mut *transaction, incident).await?;
    let Some(known) = incidents::get(&mut *transaction, incident).await? else {
        return Ok(RequeueOutcome::Missing);
    };
    if known.status == IncidentStatus::Resolved {
        return Ok(RequeueOutcome::Refused("the incident is resolved; reopen it first"));
    }
    if incidents::has_leader(&mut *transaction, incident, Uuid::nil()).await? {
        return Ok(RequeueOutcome::Refused("it is being investigated already"));
    }
    let Some(report) = reinvestigate::to_investigate(&mut transaction, incident).await? else {
        return Ok(RequeueOutcome::Refused("none of its reports is kept; the next one is investigated"));
    };
    let pieces = evidence::list(&mut *transaction, Owner::Report(report), &Principal::nobody()).await?;
    if pieces.iter().any(|piece| piece.pruned_at.is_some()) {
        return Ok(RequeueOutcome::Refused(
            "the evidence is no longer kept (`retention.evidence`); resolve the incident, and the next report is investigated",
        ));
    }
    if !reinvestigate::investigate(&mut transaction, report, clock::now()).await? {
        return Ok(RequeueOutcome::Refused("it is being investigated already"));
    }
    let event = AuditEvent::new(by, AuditAction::IncidentInvestigate, clock::now()).on("incident", incident);
    queued(&mut transaction, report, event).await?;
    let report = reports::get(&mut *transaction, report).await?;
    transaction.commit().await?;
    Ok(report.map_or(RequeueOutcome::Missing, |report| RequeueOutcome::Queued(Box::new(report))))
}

/// Queues the report and stores the audit event.
async fn queued(transaction: &mut PgConnection, report: Uuid, event: AuditEvent) -> sqlx::Result<()> {
    queue::add_triage(&mut *transaction, report).await?;
    audit::add(&mut *transaction, &event.detail(format!("report {report}"))).await
}
