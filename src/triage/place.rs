//! Place: recognise the cause, or open an incident for it.

use super::prepare;
use super::publish;
use super::run::{Halt, Held, unless_stopped};
use crate::app::App;
use crate::blocking::BlockingError;
use crate::clock::{self, Deadline, DeadlinePassed};
use crate::db::incidents::{self, Sighting};
use crate::db::reports;
use crate::domain::{Evidence, EvidenceKind, Failure, FailureClass, Fingerprint, Incident, Report, StepName};
use crate::evidence::excerpt::Log;
use crate::evidence::fingerprint::{FingerprintInput, fingerprint_within};
use crate::evidence::outside::{self, Told};
use crate::evidence::signature::{NAMES_CAUSE, SignatureHit, SignatureSet};
use crate::evidence::template;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Under what a report was placed.
pub(super) enum Placed {
    /// The cause is new, or its investigation has to be done again: this report does it.
    Leads(Incident),
    /// Another report investigates it.
    Waits,
    /// It is known.
    Known(Incident),
}

/// Counts the report under its cause, once.
pub(super) async fn place(
    app: &App,
    held: &Held<'_>,
    pieces: &[Arc<Evidence>],
    cancel: &CancellationToken,
) -> Result<Placed, Halt> {
    let report = held.report;
    if let (Some(id), true) = (report.incident_id, held.leads) {
        let incident = incidents::get(&app.pool, id)
            .await?
            .ok_or_else(|| Halt::Failed("its incident is gone".into()))?;
        return Ok(Placed::Leads(incident));
    }
    let started = Instant::now();
    let (recognised, told) = unless_stopped(cancel, recognised(app, &report.failure, pieces)).await?;
    if report.incident_id.is_none() {
        for fingerprint in recognised.shared.iter().chain([&recognised.own]) {
            publish::recheck(app, fingerprint, cancel).await?;
        }
    }
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    let incident = count(&mut transaction, report, (&recognised, &told), now).await?;
    // A cause whose issue could not be filed is not done with: this report files it.
    let filed = incident.issue_url.is_some() || app.config.tracker.is_none();
    let known = incident.diagnosis.is_some() && filed;
    let leads = !known && !incidents::has_leader(&mut *transaction, incident.id, report.id).await?;
    let mut incident = incident;
    if leads && incident.diagnosis.is_none() && incident.namespace != report.failure.namespace {
        let title = first_title(report);
        incidents::lead(&mut *transaction, incident.id, (&report.failure.namespace, &title)).await?;
        incident.namespace.clone_from(&report.failure.namespace);
    }
    if !reports::place(&mut *transaction, report.id, held.token, incident.id, leads).await? {
        return Err(Halt::Lost);
    }
    let detail = match (known, leads) {
        (true, _) => format!("known cause, seen {} times", incident.occurrences),
        (false, true) => "new cause".to_owned(),
        (false, false) => "the same cause is being investigated for another report".to_owned(),
    };
    let timing = (now, i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX));
    reports::add_step(&mut *transaction, report.id, StepName::Place, &detail, timing).await?;
    if !known && !leads {
        held.close();
        if !reports::wait(&mut *transaction, report.id, held.token).await? {
            return Err(Halt::Lost);
        }
    }
    transaction.commit().await?;
    Ok(match (known, leads) {
        (true, _) => Placed::Known(incident),
        (false, true) => Placed::Leads(incident),
        (false, false) => Placed::Waits,
    })
}

/// Counts the report under its cause. A cause that another namespace's evidence led to is this report's only when what was
/// concluded holds in what the cluster tells of this one too; else it is a cause of its own.
async fn count(
    transaction: &mut PgConnection,
    report: &Report,
    (recognised, told): (&Recognised, &Told),
    now: DateTime<Utc>,
) -> Result<Incident, Halt> {
    let namespace = &report.failure.namespace;
    let holds = |incident: &Incident| {
        let concluded = incident.diagnosis.as_ref().filter(|_| incident.namespace != *namespace);
        concluded.is_none_or(|diagnosis| told.bears_out(diagnosis))
    };
    let mut fingerprint = recognised.shared.as_ref().unwrap_or(&recognised.own);
    if let Some(id) = report.incident_id {
        // Counted before: only who investigates is open, and for whom.
        incidents::lock(&mut *transaction, id).await?;
        let incident = incidents::get(&mut *transaction, id).await?;
        let incident = incident.ok_or_else(|| Halt::Failed("its incident is gone".into()))?;
        if holds(&incident) {
            return Ok(incident);
        }
        incidents::uncount(&mut *transaction, id).await?;
        fingerprint = &recognised.own;
    } else if let Some(shared) = &recognised.shared
        && incidents::open(&mut *transaction, shared).await?.is_some_and(|known| !holds(&known))
    {
        fingerprint = &recognised.own;
    }
    let title = first_title(report);
    let sighting = Sighting { id: Uuid::now_v7(), namespace, fingerprint, title: &title, now };
    let incident = incidents::see(&mut *transaction, &sighting).await?;
    if !holds(&incident) {
        return Err(Halt::Retry("its cause was concluded at this moment".into()));
    }
    Ok(incident)
}

/// Until there is a diagnosis.
fn first_title(report: &Report) -> String {
    format!("Failure of {}/{}", report.failure.namespace, report.failure.pod_name)
}

/// Recognises the cause, and reads what the cluster tells, on the blocking pool.
async fn recognised(
    app: &App,
    failure: &Failure,
    pieces: &[Arc<Evidence>],
) -> Result<(Recognised, Told), BlockingError> {
    let (signatures, failure, pieces) = (app.knowledge.signatures(), failure.clone(), pieces.to_vec());
    let recognised = app.blocking.run_checked(prepare::LIMIT, move |deadline| {
        Ok((recognise(&signatures, &failure, &pieces, deadline)?, Told::of(&pieces)))
    });
    recognised.await
}

/// What a cause is recognised by.
struct Recognised {
    /// The same in all namespaces, for a cause outside of them that the cluster itself tells of.
    shared: Option<Fingerprint>,
    /// That of the namespace or the workload alone.
    own: Fingerprint,
}

/// The cause's fingerprints. What a log or an alert says, its namespace may have written: a cause outside the workload (a
/// registry, a name server) that it tells of is one cause in its namespace, any other is one per workload. Only what the
/// kubelet and the scheduler say, and no log contradicts, makes one cause of several namespaces.
fn recognise(
    signatures: &SignatureSet,
    failure: &Failure,
    pieces: &[Arc<Evidence>],
    deadline: &Deadline,
) -> Result<Recognised, DeadlinePassed> {
    let of = |wanted: &[EvidenceKind]| pieces.iter().find(|piece| wanted.contains(&piece.kind));
    let text = |kind| of(&[kind]).map(|piece| piece.text.as_str());
    let log = of(&[EvidenceKind::Log, EvidenceKind::Attached, EvidenceKind::PreviousLog]);
    let input = FingerprintInput {
        log: log.map(|piece| Log { text: &piece.text, red: &piece.red, good: None }),
        events: text(EvidenceKind::Events),
        pod: text(EvidenceKind::Pod),
        signatures,
    };
    let is_outside = |text: &str| -> Result<bool, DeadlinePassed> {
        Ok(signatures.scan_within(text, deadline)?.iter().any(|(_, hit)| {
            let class = signatures.signatures()[hit.index].class;
            !hit.captures.is_empty()
                && matches!(class, FailureClass::Infrastructure | FailureClass::Dependency)
        }))
    };
    let names_cause = |text: &str| -> Result<bool, DeadlinePassed> {
        let priority = |hit: &SignatureHit| signatures.signatures()[hit.index].priority;
        Ok(signatures.scan_within(text, deadline)?.iter().any(|(_, hit)| priority(hit) >= NAMES_CAUSE))
    };
    let scoped = |cause: &Fingerprint, scope: &str| {
        let hash = Sha256::digest(format!("{}\n{scope}", cause.0).as_bytes());
        Fingerprint(hex::encode(&hash[..12]))
    };
    let cause = fingerprint_within(&input, deadline)?;
    let mut outside = false;
    for text in input.log.map(|log| log.text).into_iter().chain(input.events) {
        outside = outside || is_outside(text)?;
    }
    let own = if outside {
        scoped(&cause, &failure.namespace)
    } else {
        scoped(&cause, &format!("{}/{}", failure.namespace, workload(failure)))
    };
    let told = outside::told(pieces);
    let contradicted = input.log.map(|log| names_cause(log.text)).transpose()?.unwrap_or(false);
    let shared = if is_outside(&told)? && !contradicted {
        let input = FingerprintInput { log: None, events: Some(&told), pod: None, signatures };
        Some(scoped(&fingerprint_within(&input, deadline)?, ""))
    } else {
        None
    };
    Ok(Recognised { shared, own })
}

/// What stays the same from run to run: pipeline and task, else the pod's name without its random parts.
fn workload(failure: &Failure) -> String {
    let container = failure.container_name.as_deref().unwrap_or_default();
    match (&failure.pipeline, &failure.task) {
        (Some(pipeline), task) => format!("{pipeline}/{}/{container}", task.as_deref().unwrap_or_default()),
        _ => format!("{}/{container}", template::mask(&failure.pod_name)),
    }
}
