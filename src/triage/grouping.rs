//! Place: recognises the cause of a report, or opens an incident for it.

use super::lease::LeasedReport;
use super::publish;
use super::recognise::{Recognised, recognised};
use super::step_error::{StepError, unless_stopped};
use crate::app::App;
use crate::clock;
use crate::db::fingerprints::{self, Placement};
use crate::db::incidents::{self, Sighting};
use crate::db::reports::{self, NewStep};
use crate::domain::recognition::FingerprintSet;
use crate::domain::{Evidence, Fingerprint, Incident, Report, StepName};
use crate::evidence::cluster_facts::ClusterFacts;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Result of assigning a report to an incident.
pub(super) enum GroupingOutcome {
    /// The cause is new or must be investigated again. This report leads the investigation.
    Leads(Incident),
    /// Another report leads the investigation.
    Waits,
    /// The cause is known.
    Known(Incident),
}

/// Assigns the report to an incident and counts it once.
pub(super) async fn group_report(
    app: &App,
    held: &LeasedReport<'_>,
    pieces: &[Arc<Evidence>],
    cancel: &CancellationToken,
) -> Result<GroupingOutcome, StepError> {
    let report = held.report;
    if let (Some(id), true) = (report.incident_id, held.leads) {
        let incident = incidents::get(&app.pool, id)
            .await?
            .ok_or_else(|| StepError::Failed("its incident is gone".into()))?;
        return Ok(GroupingOutcome::Leads(incident));
    }
    let started = Instant::now();
    let recognised = recognised(&app.knowledge, &app.blocking, &report.failure, pieces);
    let (recognised, told) = unless_stopped(cancel, recognised).await?;
    if report.incident_id.is_none() && app.config.tracker.is_some() {
        for names in recognised.shared.iter().chain([&recognised.own]) {
            let known = fingerprints::recognised(&mut *app.pool.acquire().await?, names).await?;
            publish::recheck(app, &known.fingerprint, &held.recorder, cancel).await?;
        }
    }
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    fingerprints::share(&mut *transaction).await?;
    let incident = count(&mut transaction, report, &recognised, &told, now).await?;
    // A cause whose issue could not be filed is not yet known: this report files the issue.
    let filed = incident.issue_url.is_some() || app.config.tracker.is_none();
    let known = incident.diagnosis.is_some() && filed;
    let leads = !known && !incidents::has_leader(&mut *transaction, incident.id, report.id).await?;
    let mut incident = incident;
    if leads && incident.diagnosis.is_none() && incident.namespace != report.failure.namespace {
        let title = first_title(report);
        incidents::lead(&mut *transaction, incident.id, &report.failure.namespace, &title).await?;
        incident.namespace.clone_from(&report.failure.namespace);
    }
    let placement = Placement { incident: incident.id, leads, names: &recognised.all() };
    if !fingerprints::assign_incident(&mut *transaction, report.id, held.token, &placement).await? {
        return Err(StepError::Lost);
    }
    let detail = match (known, leads) {
        (true, _) => format!("known cause, seen {} times", incident.occurrences),
        (false, true) => "new cause".to_owned(),
        (false, false) => "the same cause is being investigated for another report".to_owned(),
    };
    let step = NewStep { name: StepName::Place, detail: &detail, at: now, took: started.elapsed() };
    reports::add_step(&mut *transaction, report.id, &step).await?;
    if !known && !leads {
        held.close();
        if !reports::wait(&mut *transaction, report.id, held.token).await? {
            return Err(StepError::Lost);
        }
    }
    transaction.commit().await?;
    Ok(match (known, leads) {
        (true, _) => GroupingOutcome::Known(incident),
        (false, true) => GroupingOutcome::Leads(incident),
        (false, false) => GroupingOutcome::Waits,
    })
}

/// Counts the report under an incident. An incident concluded from another namespace's evidence is used only if its diagnosis
/// also holds for this report's cluster data. Otherwise the report gets an incident of its own.
async fn count(
    transaction: &mut PgConnection,
    report: &Report,
    recognised: &Recognised,
    told: &ClusterFacts,
    now: DateTime<Utc>,
) -> Result<Incident, StepError> {
    let namespace = &report.failure.namespace;
    let holds = |incident: &Incident| {
        let concluded = incident.diagnosis.as_ref().filter(|_| incident.namespace != *namespace);
        concluded.is_none_or(|diagnosis| told.bears_out(diagnosis))
    };
    let mut own = recognised.own.first();
    if let Some(id) = report.incident_id {
        // Already counted. Only the leader of the investigation is undecided.
        let incident = counted(&mut *transaction, id).await?;
        if holds(&incident) {
            return Ok(incident);
        }
        incidents::uncount(&mut *transaction, incident.id).await?;
    } else {
        let names = recognised.shared.as_ref().unwrap_or(&recognised.own);
        let known = learned(&mut *transaction, names, now).await?;
        let open = incidents::open(&mut *transaction, &known).await?;
        match open {
            Some(open) if holds(&open) => own = known,
            None => own = known,
            // The incident is of another namespace and its diagnosis does not hold here.
            Some(_) if recognised.shared.is_some() => {
                let known = learned(&mut *transaction, &recognised.own, now).await?;
                let open = incidents::open(&mut *transaction, &known).await?;
                own = if open.is_none_or(|open| holds(&open)) { known } else { own };
            }
            Some(_) => {}
        }
    }
    let title = first_title(report);
    let sighting = Sighting { id: Uuid::now_v7(), namespace, fingerprint: &own, title: &title, now };
    let incident = incidents::see(&mut *transaction, &sighting).await?;
    if !holds(&incident) {
        return Err(StepError::Retry("its cause was concluded at this moment".into()));
    }
    Ok(incident)
}

/// Returns the incident of a report, or the target of its merge, locked.
async fn counted(transaction: &mut PgConnection, id: Uuid) -> Result<Incident, StepError> {
    incidents::lock(&mut *transaction, id).await?;
    let gone = || StepError::Failed("its incident is gone".into());
    let incident = incidents::get(&mut *transaction, id).await?.ok_or_else(gone)?;
    let Some(into) = incident.merged_into else { return Ok(incident) };
    incidents::lock(&mut *transaction, into).await?;
    incidents::get(transaction, into).await?.ok_or_else(gone)
}

/// Returns the fingerprint of the report's incident. Stores the report's other fingerprints as aliases.
async fn learned(
    transaction: &mut PgConnection,
    names: &FingerprintSet,
    now: DateTime<Utc>,
) -> Result<Fingerprint, StepError> {
    let known = fingerprints::recognised(&mut *transaction, names).await?;
    fingerprints::learn(&mut *transaction, &known.fingerprint, &known.learn, now).await?;
    Ok(known.fingerprint)
}

/// Title until there is a diagnosis.
fn first_title(report: &Report) -> String {
    format!("Failure of {}/{}", report.failure.namespace, report.failure.pod_name)
}
