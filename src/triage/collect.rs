//! Collect: fetches the evidence that every investigation needs without a model, redacts it and stores it in full.

use super::arguments::{Argument, CONTAINER, NAMESPACE, POD, PREVIOUS, TAIL, takes};
use super::calls::{Fetched, ServiceCalls};
use super::lease::LeasedReport;
use super::prepare::{self, Prepared, Received, prepare};
use super::step_error::{StepError, unless_stopped};
use crate::app::App;
use crate::blocking::{BlockingError, BlockingPool};
use crate::clock;
use crate::config::{Cluster, Privacy};
use crate::db::audit;
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::reports::{self, NewStep};
use crate::domain::{AuditAction, Evidence, EvidenceKind, Failure, Principal, StepName, hash};
use crate::evidence::pod::{FailedContainer, failed_container, yaml};
use crate::evidence::redact::Redactor;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The collected evidence.
pub(super) struct Collected {
    /// Pieces of evidence, stored.
    pub(super) pieces: Vec<Arc<Evidence>>,
    /// Descriptions of evidence that could not be fetched.
    pub(super) gaps: Vec<String>,
    /// Redactor that knows the placeholders of secrets in these pieces.
    pub(super) redactor: Redactor,
}

/// Minimum number of log lines to request when more exceed the size limit.
const LEAST_LINES: u32 = 100;

/// Fetches and stores the evidence. Loads it from the database if the report was collected before.
pub(super) async fn collect(
    app: &App,
    held: &LeasedReport<'_>,
    cancel: &CancellationToken,
) -> Result<Collected, StepError> {
    let report = held.report;
    let stored = evidence::of(&app.pool, Owner::Report(report.id), &Principal::nobody()).await?;
    let collected = reports::steps(&app.pool, report.id).await?;
    if collected.iter().any(|step| step.name == StepName::Collect.as_str()) {
        return Ok(Collected {
            pieces: stored.into_iter().map(Arc::new).collect(),
            gaps: Vec::new(),
            redactor: prepare::redactor(&app.config.privacy),
        });
    }
    let started = Instant::now();
    let attached = stored.iter().any(|piece| piece.kind.is_log());
    let (texts, gaps) = fetch_all(app, held, attached, cancel).await?;
    if texts.is_empty() && !attached {
        let reason = gaps.join("; ");
        return Err(StepError::Failed(format!("there is no evidence to look at: {reason}")));
    }
    let ready = ready(&app.blocking, &app.config.privacy, stored, texts);
    let Ready { stored, prepared, proofs, lines } = unless_stopped(cancel, ready).await?;
    let Prepared { pieces, redactor } = prepared;
    let many = pieces.len() + stored.len();
    let plural = if many == 1 { "" } else { "s" };
    let mut detail = format!("{many} piece{plural} of evidence, {lines} lines");
    for gap in &gaps {
        detail.push_str(&format!("; {gap}"));
    }
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    evidence::insert(&mut *transaction, Owner::Report(report.id), &pieces, now).await?;
    let step = NewStep { name: StepName::Collect, detail: &detail, at: now, took: started.elapsed() };
    reports::add_step(&mut *transaction, report.id, &step).await?;
    let event = held.recorder.event(AuditAction::ReportCollect).on("report", report.id);
    let event = event.data(json!({ "evidence": proofs })).detail(&*detail).took(started.elapsed());
    held.recorder.record(event);
    audit::commit(transaction, &held.recorder).await?;
    let fresh = pieces.into_iter().map(as_evidence);
    Ok(Collected { pieces: stored.into_iter().chain(fresh).map(Arc::new).collect(), gaps, redactor })
}

/// Evidence that is ready to be stored.
struct Ready {
    stored: Vec<Evidence>,
    prepared: Prepared,
    /// Hashes that later prove the integrity of the pieces.
    proofs: Map<String, Value>,
    /// Number of lines in all pieces of evidence.
    lines: usize,
}

/// Cleans, redacts, counts and hashes the texts on the blocking pool.
async fn ready(
    blocking: &BlockingPool,
    privacy: &Privacy,
    stored: Vec<Evidence>,
    texts: Texts,
) -> Result<Ready, BlockingError> {
    let privacy = privacy.clone();
    let ready = blocking.run_checked(prepare::LIMIT, move |deadline| {
        let prepared = prepare(texts, stored.len(), &privacy, prepare::redactor(&privacy), deadline)?;
        let pieces = &prepared.pieces;
        let proof = |piece: &NewEvidence| {
            (format!("E{}", piece.position), json!(hash(piece.stored_text().as_bytes())))
        };
        let proofs = pieces.iter().map(proof).collect();
        let texts = pieces.iter().map(|piece| &piece.text).chain(stored.iter().map(|piece| &piece.text));
        let lines = texts.map(|text| text.lines().count()).sum();
        Ok(Ready { stored, prepared, proofs, lines })
    });
    ready.await
}

fn as_evidence(piece: NewEvidence) -> Evidence {
    let label = format!("E{}", piece.position);
    Evidence { id: piece.id, label, kind: piece.kind, title: piece.title, text: piece.text, red: piece.red }
}

type Texts = Vec<Received>;

async fn fetch_all(
    app: &App,
    held: &LeasedReport<'_>,
    attached: bool,
    cancel: &CancellationToken,
) -> Result<(Texts, Vec<String>), StepError> {
    let failure = &held.report.failure;
    let cluster = &app.config.cluster;
    if !app.config.mcp.iter().any(|server| server.name == cluster.server) {
        let gap = format!(
            "no MCP server `{}` is configured (set `openshift.url`), and no log came with the report",
            cluster.server
        );
        return Ok((Vec::new(), if attached { Vec::new() } else { vec![gap] }));
    }
    let server = cluster.server.as_str();
    let calls = ServiceCalls::new(&app.mcp, &held.recorder, cancel);
    let pod = calls.fetch(server, &cluster.pod_tool, pod_arguments(failure));
    let events = calls.fetch(server, &cluster.events_tool, events_arguments(failure));
    let (pod, events) = tokio::join!(pod, events);
    let (pod, events, suspect) =
        unless_stopped(cancel, read(&app.blocking, &failure.pod_name, pod, events)).await?;
    // The container found in the pod takes precedence over the reported one, so that a failure always has the same log.
    let container = suspect.name.clone().or_else(|| failure.container_name.clone());
    let log = |previous| {
        let wanted = log_arguments(failure, container.as_deref(), previous);
        fetch_log(&calls, cluster, wanted)
    };
    let (current, previous) =
        tokio::join!(async { if suspect.never_started { None } else { Some(log(false).await) } }, async {
            if suspect.restarted { Some(log(true).await) } else { None }
        });
    // Titles are not fenced, and the name may come from a server, so only names with legal characters are used.
    let legal = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let of =
        container.as_ref().filter(legal).map_or_else(String::new, |name| format!(" of container {name}"));
    let found = [
        (EvidenceKind::Log, format!("log{of}"), current),
        (EvidenceKind::PreviousLog, format!("log{of} before its restart"), previous),
        (EvidenceKind::Events, "events".to_owned(), Some(events)),
        (EvidenceKind::Pod, format!("pod {}", failure.pod_name), Some(pod)),
    ];
    sort(found, attached)
}

/// Parses the pod's status and filters the events of the pod, on the blocking pool.
async fn read(
    blocking: &BlockingPool,
    name: &str,
    pod: Fetched,
    events: Fetched,
) -> Result<(Fetched, Fetched, FailedContainer), BlockingError> {
    let name = name.to_owned();
    let read = blocking.run(prepare::LIMIT, move |_| {
        let suspect = match &pod {
            Fetched::Text(text) => yaml(text).map(|pod| failed_container(&pod)).unwrap_or_default(),
            _ => FailedContainer::default(),
        };
        let events = match events {
            Fetched::Text(text) => Fetched::Text(events_of_pod(&text, &name)),
            other => other,
        };
        (pod, events, suspect)
    });
    read.await
}

/// Returns texts and gaps. An unreachable server is not a gap but an error to retry, since incomplete evidence may give a
/// wrong diagnosis. With an attached log it is a gap.
fn sort(
    found: [(EvidenceKind, String, Option<Fetched>); 4],
    attached: bool,
) -> Result<(Texts, Vec<String>), StepError> {
    let mut texts = Vec::new();
    let mut gaps = Vec::new();
    let mut unreachable = None;
    for (kind, title, fetched) in found {
        match fetched {
            None => {}
            Some(Fetched::Text(text)) if text.trim().is_empty() => gaps.push(format!("{title}: none")),
            Some(Fetched::Text(text)) => texts.push(Received { kind, title, text }),
            Some(Fetched::Part(text, reason)) => {
                gaps.push(format!("{title}: {reason}"));
                texts.push(Received { kind, title, text });
            }
            Some(Fetched::Gap(reason) | Fetched::TooLarge(reason)) => gaps.push(format!("{title}: {reason}")),
            Some(Fetched::Unreachable(reason)) => unreachable = Some(reason),
        }
    }
    match unreachable {
        Some(reason) if !attached => Err(StepError::Retry(reason)),
        Some(reason) => Ok((texts, [gaps, vec![reason]].concat())),
        None => Ok((texts, gaps)),
    }
}

/// Fetches the last lines of a log. Retries with fewer lines if the result is too large and the tool supports a line limit.
async fn fetch_log(calls: &ServiceCalls<'_>, cluster: &Cluster, wanted: Vec<Argument<'_>>) -> Fetched {
    let (server, tool, lines) = (&cluster.server, &cluster.log_tool, cluster.log_lines);
    let mut tail = lines;
    loop {
        let asked = [wanted.clone(), vec![(TAIL, json!(tail))]].concat();
        let fetched = calls.fetch(server, tool, asked).await;
        let takes_tail = || calls.mcp.find(server, tool).is_some_and(|known| takes(known.schema(), TAIL));
        match fetched {
            Fetched::TooLarge(_) if tail > LEAST_LINES && takes_tail() => tail = (tail / 4).max(LEAST_LINES),
            Fetched::Text(text) if tail < lines => {
                let reason = format!(
                    "only its last {tail} lines were read: with the {lines} that are asked for it is too large"
                );
                return Fetched::Part(text, reason);
            }
            other => return other,
        }
    }
}

fn pod_arguments(failure: &Failure) -> Vec<Argument<'static>> {
    vec![(NAMESPACE, json!(failure.namespace)), (POD, json!(failure.pod_name))]
}

fn events_arguments(failure: &Failure) -> Vec<Argument<'static>> {
    vec![(NAMESPACE, json!(failure.namespace))]
}

fn log_arguments(failure: &Failure, container: Option<&str>, previous: bool) -> Vec<Argument<'static>> {
    let mut wanted = pod_arguments(failure);
    if let Some(container) = container {
        wanted.push((CONTAINER, json!(container)));
    }
    if previous {
        wanted.push((PREVIOUS, json!(true)));
    }
    wanted
}

/// Returns the events of this pod. Returns the text unchanged if it cannot be parsed.
fn events_of_pod(text: &str, pod: &str) -> String {
    let Some(start) = text.find("- ") else {
        return text.to_owned();
    };
    let Some(Value::Array(events)) = yaml(&text[start..]) else {
        return text.to_owned();
    };
    let own: Vec<&Value> = events.iter().filter(|event| event.to_string().contains(pod)).collect();
    if own.is_empty() {
        // Events of other pods could cause a wrong diagnosis.
        return String::new();
    }
    serde_norway::to_string(&own).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_other_pods_are_left_out() {
        let text = "The following events (YAML format) were found:\n- InvolvedObject: {Name: pod-one}\n  Message: one\n- InvolvedObject: {Name: pod-two}\n  Message: two\n";
        let own = events_of_pod(text, "pod-two");
        assert!(own.contains("two") && !own.contains("one"), "{own}");
    }
}
