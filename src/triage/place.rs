//! Place: recognise the cause, or open an incident for it.

use super::publish;
use super::run::{Halt, Held};
use crate::app::App;
use crate::clock;
use crate::db::incidents::{self, Sighting};
use crate::db::reports;
use crate::domain::{Evidence, EvidenceKind, Failure, FailureClass, Fingerprint, Incident, StepName};
use crate::evidence::excerpt::Log;
use crate::evidence::fingerprint::{FingerprintInput, fingerprint};
use crate::evidence::template;
use sha2::{Digest as _, Sha256};
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
    pieces: &[Evidence],
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
    let fingerprint = recognise(app, &report.failure, pieces);
    if report.incident_id.is_none() {
        publish::recheck(app, &fingerprint, cancel).await?;
    }
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    let title = format!("Failure of {}/{}", report.failure.namespace, report.failure.pod_name);
    let incident = match report.incident_id {
        // Counted before: only who investigates is open.
        Some(id) => {
            incidents::lock(&mut *transaction, id).await?;
            incidents::get(&mut *transaction, id)
                .await?
                .ok_or_else(|| Halt::Failed("its incident is gone".into()))?
        }
        None => {
            let sighting = Sighting {
                id: Uuid::now_v7(),
                namespace: &report.failure.namespace,
                fingerprint: &fingerprint,
                title: &title,
                now,
            };
            incidents::see(&mut *transaction, &sighting).await?
        }
    };
    // A cause whose issue could not be filed is not done with: this report files it.
    let filed = incident.issue_url.is_some() || app.config.tracker.is_none();
    let known = incident.diagnosis.is_some() && filed;
    let leads = !known && !incidents::has_leader(&mut *transaction, incident.id, report.id).await?;
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

/// The cause's fingerprint. A cause outside the workload (a registry, a name server) is one cause wherever it shows;
/// any other is one per workload.
fn recognise(app: &App, failure: &Failure, pieces: &[Evidence]) -> Fingerprint {
    let of = |wanted: &[EvidenceKind]| pieces.iter().find(|piece| wanted.contains(&piece.kind));
    let text = |kind| of(&[kind]).map(|piece| piece.text.as_str());
    let log = of(&[EvidenceKind::Log, EvidenceKind::Attached, EvidenceKind::PreviousLog]);
    let signatures = app.knowledge.signatures();
    let input = FingerprintInput {
        log: log.map(|piece| Log { text: &piece.text, red: &piece.red, good: None }),
        events: text(EvidenceKind::Events),
        pod: text(EvidenceKind::Pod),
        signatures: &signatures,
    };
    let cause = fingerprint(&input);
    let shared = input.log.map(|log| log.text).into_iter().chain(input.events).any(|text| {
        signatures.scan(text).iter().any(|(_, hit)| {
            let class = signatures.signatures()[hit.index].class;
            !hit.captures.is_empty()
                && matches!(class, FailureClass::Infrastructure | FailureClass::Dependency)
        })
    });
    let scope = if shared { String::new() } else { format!("{}/{}", failure.namespace, workload(failure)) };
    let hash = Sha256::digest(format!("{}\n{scope}", cause.0).as_bytes());
    Fingerprint(hex::encode(&hash[..12]))
}

/// What stays the same from run to run: pipeline and task, else the pod's name without its random parts.
fn workload(failure: &Failure) -> String {
    let container = failure.container_name.as_deref().unwrap_or_default();
    match (&failure.pipeline, &failure.task) {
        (Some(pipeline), task) => format!("{pipeline}/{}/{container}", task.as_deref().unwrap_or_default()),
        _ => format!("{}/{container}", template::mask(&failure.pod_name)),
    }
}
