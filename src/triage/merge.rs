//! Corrections by users: merging two incidents, and splitting reports off an incident. Fingerprints are updated, so that
//! later reports of the cause are placed in the same way.

use super::issue_sanitize;
use super::recognise::recognised;
use super::tracker::TrackerClient;
use crate::app::App;
use crate::audit::Recorder;
use crate::blocking::BlockingError;
use crate::clock;
use crate::db::audit;
use crate::db::evidence::{self, Owner};
use crate::db::fingerprints::{self, Stored};
use crate::db::merges::{self, IncidentMerge, Takes};
use crate::db::{incidents, queue, reinvestigate, reports};
use crate::domain::recognition::AliasSource;
use crate::domain::{
    Actor, AuditAction, AuditEvent, Caller, FailureClass, Fingerprint, Incident, IncidentStatus, Principal,
    Report, ReportStatus,
};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Maximum number of line fingerprints learned per report.
const LINES: usize = 3;

/// Error of a merge or split. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The object does not exist or is not visible to the caller: `incident`, `into` or `reports`.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The operation is not possible in the current state. The text explains the reason and the solution.
    #[error("{0}")]
    Refused(String),
    /// The caller must not change all affected reports.
    #[error("{0}")]
    Forbidden(String),
    /// The database is unavailable.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The evidence could not be processed in time.
    #[error("the evidence of the reports could not be worked through: {0}")]
    Blocking(#[from] BlockingError),
}

fn refused<T>(why: impl Into<String>) -> Result<T, MergeError> {
    Err(MergeError::Refused(why.into()))
}

/// Result of a merge.
#[derive(Debug)]
pub struct Merged {
    /// The target of the merge.
    pub incident: Incident,
    /// What was done with the issue of the merged incident. `None` if it had no issue.
    pub issue: Option<String>,
}

/// Merges an incident into another.
///
/// # Errors
/// See [`MergeError`]. Nothing is changed in this case.
pub async fn merge(app: &App, caller: &Caller, merge: IncidentMerge) -> Result<Merged, MergeError> {
    let IncidentMerge { from, into } = merge;
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    fingerprints::lock(&mut *transaction).await?;
    for id in [from.min(into), from.max(into)] {
        incidents::lock(&mut *transaction, id).await?;
    }
    let mut seen = async |id, what| {
        let incident = incidents::get(&mut *transaction, id).await?;
        incident.filter(|one| caller.may_touch(&one.namespace)).ok_or(MergeError::Missing(what))
    };
    let (one, other) = (seen(from, "incident").await?, seen(into, "into").await?);
    fit(&one, &other)?;
    free(&mut transaction, caller, &[from, into]).await?;
    let takes = Takes {
        diagnosis: other.diagnosis.is_none() && one.diagnosis.is_some(),
        issue: other.issue_url.is_none() && one.issue_url.is_some(),
    };
    let number = incidents::issue_number(&mut *transaction, from).await?.filter(|_| !takes.issue);
    merges::merge(&mut transaction, merge, takes, now).await?;
    fingerprints::merge(&mut transaction, &one.fingerprint, &other.fingerprint, now).await?;
    app.knowledge.retell(&mut transaction, &[from, into]).await?;
    let detail = format!("into {into}, with {} reports", one.occurrences);
    let event = AuditEvent::new(&caller.actor(), AuditAction::IncidentMerge, now).on("incident", from);
    audit::add(&mut *transaction, &event.detail(detail)).await?;
    let goes_on = incidents::get(&mut *transaction, into).await?.ok_or(MergeError::Missing("into"))?;
    transaction.commit().await?;
    let issue = match (number, takes.issue) {
        (Some(number), _) => Some(tell(app, caller, &goes_on, number).await),
        (None, true) => Some("The incident that goes on took its issue over.".to_owned()),
        (None, false) => None,
    };
    Ok(Merged { incident: goes_on, issue })
}

/// Checks that two incidents can be merged.
fn fit(one: &Incident, other: &Incident) -> Result<(), MergeError> {
    if one.id == other.id {
        return refused("an incident cannot be merged into itself");
    }
    for incident in [one, other] {
        if let Some(into) = incident.merged_into {
            return refused(format!("incident {} was merged into {into} already", incident.id));
        }
        if incident.status != IncidentStatus::Open {
            return refused(format!("incident {} is resolved; only open ones can be merged", incident.id));
        }
    }
    if one.namespace != other.namespace {
        return refused(format!(
            "the incidents are of two namespaces, `{}` and `{}`; what one namespace tells decides nothing of another",
            one.namespace, other.namespace
        ));
    }
    Ok(())
}

/// Checks that no investigation is running and that the caller may change all reports.
async fn free(db: &mut sqlx::PgConnection, caller: &Caller, incidents: &[Uuid]) -> Result<(), MergeError> {
    if let Some(bound) = &caller.namespaces
        && merges::has_others(&mut *db, incidents, bound).await?
    {
        let why =
            format!("{} may not change reports of all namespaces that the incident was seen in", caller.name);
        return Err(MergeError::Forbidden(why));
    }
    if merges::is_investigated(db, incidents).await? {
        return refused("it is being investigated; try again when that is over");
    }
    Ok(())
}

/// Comments on the issue of the merged incident with a link to the target. Returns a text for the caller. A tracker error
/// does not undo the merge.
async fn tell(app: &App, caller: &Caller, goes_on: &Incident, number: i64) -> String {
    let Some(tracker) = &app.config.tracker else {
        return format!("No tracker is configured: issue {number} was left as it is.");
    };
    let links = &app.config.privacy.links;
    let public = app.config.server.public_url.as_ref();
    let page = public.map(|base| format!("{base}/incidents/{}", goes_on.id));
    let place = goes_on.issue_url.as_deref().or(page.as_deref());
    let place =
        place.map_or_else(|| format!("incident {}", goes_on.id), |url| issue_sanitize::address(url, links));
    let text = format!(
        "The same cause as {place}: this incident was merged into it. Further reports are counted there; this issue can be closed."
    );
    let (recorder, cancel) = (Recorder::new(Actor::service(&caller.request)), CancellationToken::new());
    let commented = TrackerClient::new(&app.mcp, tracker, &recorder, &cancel).comment(number, &text).await;
    audit::flush(&app.pool, &recorder).await;
    match commented {
        Ok(()) => format!("Issue {number} says where it goes on."),
        Err(error) => {
            let reason = error.to_string();
            tracing::warn!(incident = %goes_on.id, reason, "the issue of a merged incident was not commented on");
            format!("Issue {number} could not be commented on: {reason}")
        }
    }
}

/// Moves reports to a new incident, which is investigated from the stored evidence.
///
/// # Errors
/// See [`MergeError`]. Nothing is changed in this case.
pub async fn split(app: &App, caller: &Caller, from: Uuid, chosen: &[Uuid]) -> Result<Incident, MergeError> {
    let moved = of_earlier_versions(app, chosen).await?;
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    fingerprints::lock(&mut *transaction).await?;
    incidents::lock(&mut *transaction, from).await?;
    let incident = incidents::get(&mut *transaction, from).await?;
    let incident =
        incident.filter(|one| caller.may_touch(&one.namespace)).ok_or(MergeError::Missing("incident"))?;
    let reports = chosen_reports(&mut transaction, caller, &incident, chosen).await?;
    free(&mut transaction, caller, &[from]).await?;
    let Some(leader) = merges::latest_with_evidence(&mut *transaction, chosen).await? else {
        return refused(
            "the evidence of these reports is no longer kept, so nothing could be found of their cause",
        );
    };
    let taught = taught(&mut transaction, &incident, chosen, moved).await?;
    let fingerprint = taught[0].clone();
    if let Some(open) = incidents::open(&mut *transaction, &fingerprint).await? {
        return refused(format!("incident {} stands for the cause of these reports already", open.id));
    }
    let new = opened(&incident, &reports, fingerprint);
    merges::split(&mut transaction, &new, chosen).await?;
    fingerprints::teach(&mut *transaction, &taught, &new.fingerprint, AliasSource::Split, now).await?;
    reinvestigate::investigate(&mut transaction, leader, now).await?;
    queue::add_triage(&mut *transaction, leader).await?;
    app.knowledge.retell(&mut transaction, &[from]).await?;
    let detail = format!("{} reports into {}", reports.len(), new.id);
    let event = AuditEvent::new(&caller.actor(), AuditAction::IncidentSplit, now).on("incident", from);
    audit::add(&mut *transaction, &event.detail(detail)).await?;
    transaction.commit().await?;
    Ok(new)
}

/// Creates the incident of the moved reports.
fn opened(incident: &Incident, reports: &[Report], fingerprint: Fingerprint) -> Incident {
    let times = || reports.iter().map(|report| report.created_at);
    let first = &reports[0].failure;
    Incident {
        id: Uuid::now_v7(),
        namespace: first.namespace.clone(),
        fingerprint,
        status: IncidentStatus::Open,
        title: format!("Failure of {}/{}", first.namespace, first.pod_name),
        class: FailureClass::Unknown,
        diagnosis: None,
        issue_url: None,
        occurrences: i32::try_from(reports.len()).unwrap_or(i32::MAX),
        first_seen: times().min().unwrap_or(incident.first_seen),
        last_seen: times().max().unwrap_or(incident.last_seen),
        previous_id: None,
        resolved_at: None,
        merged_into: None,
        split_from: Some(incident.id),
    }
}

/// Returns the reports to move after checking that all of them can be moved.
async fn chosen_reports(
    db: &mut sqlx::PgConnection,
    caller: &Caller,
    incident: &Incident,
    chosen: &[Uuid],
) -> Result<Vec<Report>, MergeError> {
    if incident.status != IncidentStatus::Open {
        return refused("the incident is resolved; only open ones can be split");
    }
    let leader = reports::leader(&mut *db, incident.id).await?;
    let mut found = Vec::with_capacity(chosen.len());
    for id in chosen {
        let report = reports::get(&mut *db, *id).await?;
        let report = report.filter(|report| {
            report.incident_id == Some(incident.id) && caller.may_touch(&report.failure.namespace)
        });
        let report = report.ok_or(MergeError::Missing("reports"))?;
        if leader == Some(*id) {
            return refused(format!(
                "the cause was found in the evidence of report {id}, which stays; move the others instead"
            ));
        }
        if !matches!(report.status, ReportStatus::Done | ReportStatus::Failed) {
            return refused(format!("report {id} is not over yet; try again when it is"));
        }
        found.push(report);
    }
    let Some(first) = found.first() else { return refused("name the reports to move") };
    if found.iter().any(|report| report.failure.namespace != first.failure.namespace) {
        return refused("the reports are of several namespaces; move those of one at a time");
    }
    Ok(found)
}

/// Returns the stored fingerprints of the reports to move. Computes them for reports placed by an earlier version.
async fn of_earlier_versions(app: &App, chosen: &[Uuid]) -> Result<Vec<Stored>, MergeError> {
    let mut all = Vec::with_capacity(chosen.len());
    for id in chosen {
        let mut stored = fingerprints::of_report(&app.pool, *id).await?;
        if stored.placing.is_empty()
            && let Some(report) = reports::get(&app.pool, *id).await?
        {
            let pieces = evidence::of(&app.pool, Owner::Report(*id), &Principal::nobody()).await?;
            let pieces: Vec<_> = pieces.into_iter().map(Arc::new).collect();
            let recognised = recognised(&app.knowledge, &app.blocking, &report.failure, &pieces);
            let names = recognised.await?.0.all();
            stored = Stored { placing: names.placing().cloned().collect(), fine: names.fine };
        }
        all.push(stored);
    }
    Ok(all)
}

/// Returns the fingerprints that only the moved reports have: the placing ones, otherwise those of workload or lines.
async fn taught(
    db: &mut sqlx::PgConnection,
    incident: &Incident,
    chosen: &[Uuid],
    moved: Vec<Stored>,
) -> Result<Vec<Fingerprint>, MergeError> {
    let others = fingerprints::of_others(&mut *db, incident.id, chosen).await?;
    let mut stay: HashSet<Fingerprint> = others.placing.iter().cloned().collect();
    let moves = moved.iter().any(|one| one.placing.contains(&incident.fingerprint));
    if !stay.contains(&incident.fingerprint) {
        let another = if moves {
            fingerprints::standing_for(&mut *db, &others.placing, &incident.fingerprint).await?
        } else {
            None
        };
        match another {
            // The incident's fingerprint belongs to the moved reports. The incident gets another one from the remaining
            // reports.
            Some(another) => {
                fingerprints::merge(&mut *db, &incident.fingerprint, &another, clock::now()).await?;
                merges::rename(&mut *db, incident.id, &another.0).await?;
            }
            None => {
                stay.insert(incident.fingerprint.clone());
            }
        }
    }
    let lines: HashSet<Fingerprint> = others.fine.into_iter().collect();
    let common = |name: &Fingerprint| moved.iter().all(|one| one.fine.contains(name));
    let mut taught = Vec::new();
    for (id, one) in chosen.iter().zip(&moved) {
        if one.placing.first().is_some_and(|first| !stay.contains(first)) {
            taught.extend(one.placing.iter().filter(|name| !stay.contains(*name)).cloned());
            continue;
        }
        let own: Vec<&Fingerprint> = one.fine.iter().filter(|name| !lines.contains(*name)).collect();
        let all: Vec<&Fingerprint> = own.iter().copied().filter(|name| common(name)).collect();
        let best = if all.is_empty() { own } else { all };
        if best.is_empty() {
            return refused(format!(
                "nothing tells report {id} from those that stay: the same workload failed with the same lines, so the next one like it could go to either"
            ));
        }
        taught.extend(best.into_iter().take(LINES).cloned());
    }
    taught.dedup();
    Ok(taught)
}
