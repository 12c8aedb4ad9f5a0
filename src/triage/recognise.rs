//! Recognise: computes a report's fingerprints from its evidence. Free of side effects. The scope comes from the cluster's
//! data. Reported fields only fill gaps.

use super::prepare;
use crate::blocking::{BlockingError, BlockingPool};
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::recognition::{AliasSource, FingerprintSet, LearnedFingerprint};
use crate::domain::{Evidence, EvidenceKind, Failure, FailureClass, Fingerprint};
use crate::evidence::cluster_facts::{self, ClusterFacts};
use crate::evidence::excerpt::Log;
use crate::evidence::fingerprint::{FingerprintInput, end_alike, failure_lines, fingerprint_within};
use crate::evidence::pod::yaml;
use crate::evidence::scope::{Workload, plain_name};
use crate::evidence::signature::{NAMES_CAUSE, SignatureHit, SignatureSet};
use crate::evidence::template;
use crate::knowledge::Knowledge;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Maximum number of line fingerprints, which distinguish reports of the same cause.
const LINES: usize = 12;

/// Fingerprints of a cause.
pub(super) struct Recognised {
    /// Fingerprints shared by all namespaces, for an external cause that the cluster itself reports.
    pub(super) shared: Option<FingerprintSet>,
    /// Fingerprints of the namespace or workload.
    pub(super) own: FingerprintSet,
}

impl Recognised {
    /// Returns all fingerprints. They identify the report when an incident is split.
    pub(super) fn all(&self) -> FingerprintSet {
        let Some(shared) = &self.shared else { return self.own.clone() };
        let said = self.own.placing().cloned().collect();
        FingerprintSet { certain: shared.certain.clone(), said, fine: self.own.fine.clone() }
    }
}

/// Computes the fingerprints and reads the cluster's messages, on the blocking pool.
pub(super) async fn recognised(
    knowledge: &Knowledge,
    blocking: &BlockingPool,
    failure: &Failure,
    pieces: &[Arc<Evidence>],
) -> Result<(Recognised, ClusterFacts), BlockingError> {
    let (signatures, failure, pieces) = (knowledge.signatures(), failure.clone(), pieces.to_vec());
    let recognised = blocking.run_checked(prepare::LIMIT, move |deadline| {
        Ok((recognise(&signatures, &failure, &pieces, deadline)?, ClusterFacts::of(&pieces)))
    });
    recognised.await
}

/// Computes the fingerprints. Logs and alerts may be written by the namespace: an external cause (a registry, a name server)
/// in them has one fingerprint per namespace, any other cause one per workload. Only messages of kubelet and scheduler that
/// no log contradicts give a fingerprint for several namespaces.
fn recognise(
    signatures: &SignatureSet,
    failure: &Failure,
    pieces: &[Arc<Evidence>],
    deadline: &Deadline,
) -> Result<Recognised, DeadlinePassed> {
    let text = |kind| piece(pieces, &[kind]).map(|piece| piece.text.as_str());
    let log = log(pieces);
    let input = FingerprintInput {
        log: log.map(|piece| Log { text: &piece.text, red: &piece.red, good: None }),
        events: text(EvidenceKind::Events),
        pod: text(EvidenceKind::Pod),
        signatures,
    };
    let cause = fingerprint_within(&input, deadline)?;
    let mut outside = false;
    for text in input.log.map(|log| log.text).into_iter().chain(input.events) {
        outside = outside || is_outside(signatures, text, deadline)?;
    }
    let found = input.pod.and_then(yaml).and_then(|pod| Workload::of(&pod));
    let scopes = Scopes { cause: &cause, failure, found: found.as_ref() };
    let mut own = if outside { scopes.of_namespace() } else { scopes.of_workload() };
    let lines =
        failure_lines(input.log.map(|log| log.text).or(input.events).unwrap_or_default(), LINES, deadline)?;
    let first = own.first();
    own.fine.extend(lines.iter().map(|line| scoped(&first, &json!(["line", line]))));
    let told = cluster_facts::warning_messages(pieces);
    let contradicted = match input.log {
        Some(log) => names_cause(signatures, log.text, deadline)?,
        None => false,
    };
    let shared = if !contradicted && is_outside(signatures, &told, deadline)? {
        let input = FingerprintInput { log: None, events: Some(&told), pod: None, signatures };
        let fingerprint = plain(&fingerprint_within(&input, deadline)?, "");
        let certain = Some(LearnedFingerprint { fingerprint, how: AliasSource::Found });
        Some(FingerprintSet { certain, said: Vec::new(), fine: own.fine.clone() })
    } else {
        None
    };
    Ok(Recognised { shared, own })
}

fn piece<'a>(pieces: &'a [Arc<Evidence>], wanted: &[EvidenceKind]) -> Option<&'a Evidence> {
    pieces.iter().map(Arc::as_ref).find(|piece| wanted.contains(&piece.kind))
}

/// Returns the log of the failure: the attached one, unless it ends like the one fetched from the cluster.
fn log(pieces: &[Arc<Evidence>]) -> Option<&Evidence> {
    let attached = piece(pieces, &[EvidenceKind::Attached]);
    let fetched = piece(pieces, &[EvidenceKind::Log, EvidenceKind::PreviousLog]);
    match (attached, fetched) {
        (Some(attached), Some(fetched)) if end_alike(&attached.text, &fetched.text) => Some(fetched),
        (attached, fetched) => attached.or(fetched),
    }
}

fn is_outside(signatures: &SignatureSet, text: &str, deadline: &Deadline) -> Result<bool, DeadlinePassed> {
    Ok(signatures.scan_within(text, deadline)?.iter().any(|(_, hit)| {
        let class = signatures.signatures()[hit.index].class;
        !hit.captures.is_empty() && matches!(class, FailureClass::Infrastructure | FailureClass::Dependency)
    }))
}

fn names_cause(signatures: &SignatureSet, text: &str, deadline: &Deadline) -> Result<bool, DeadlinePassed> {
    let priority = |hit: &SignatureHit| signatures.signatures()[hit.index].priority;
    Ok(signatures.scan_within(text, deadline)?.iter().any(|(_, hit)| priority(hit) >= NAMES_CAUSE))
}

/// Combines a cause with a scope.
fn plain(cause: &Fingerprint, scope: &str) -> Fingerprint {
    let hash = Sha256::digest(format!("{}\n{scope}", cause.0).as_bytes());
    Fingerprint(hex::encode(&hash[..12]))
}

fn scoped(cause: &Fingerprint, scope: &Value) -> Fingerprint {
    plain(cause, &scope.to_string())
}

/// Scopes of a cause: from the cluster, from the report, and as earlier versions computed them.
struct Scopes<'a> {
    cause: &'a Fingerprint,
    failure: &'a Failure,
    found: Option<&'a Workload>,
}

impl Scopes<'_> {
    /// Fingerprints of an external cause, one per namespace.
    fn of_namespace(&self) -> FingerprintSet {
        let fingerprint = plain(self.cause, &self.failure.namespace);
        let certain = Some(LearnedFingerprint { fingerprint, how: AliasSource::Found });
        // Allows users to split the incident by workload.
        FingerprintSet { certain, said: Vec::new(), fine: self.of_workload().placing().cloned().collect() }
    }

    fn of_workload(&self) -> FingerprintSet {
        let namespace = &self.failure.namespace;
        let found = self.found.map(|found| scoped(self.cause, &json!(["found", namespace, found.key()])));
        let by_label = self.found.and_then(Workload::pipeline).map(|(name, task)| self.pipeline(name, task));
        let pipeline = self.failure.pipeline.as_deref();
        let by_field = pipeline.map(|name| self.pipeline(name, self.failure.task.as_deref()));
        let pod = template::mask(&self.failure.pod_name);
        let by_pod = scoped(self.cause, &json!(["pod", namespace, pod]));
        let earlier = plain(self.cause, &format!("{namespace}/{}", self.as_before()));
        let found = found.map(|fingerprint| LearnedFingerprint { fingerprint, how: AliasSource::Found });
        let named = |fingerprint| LearnedFingerprint { fingerprint, how: AliasSource::Named };
        let certain = found.or_else(|| by_field.clone().map(named));
        let mut said: Vec<Fingerprint> = Vec::new();
        for name in [by_field, by_label, Some(by_pod), Some(earlier)].into_iter().flatten() {
            if certain.as_ref().is_none_or(|certain| name != certain.fingerprint) && !said.contains(&name) {
                said.push(name);
            }
        }
        FingerprintSet { certain, said, fine: Vec::new() }
    }

    fn pipeline(&self, name: &str, task: Option<&str>) -> Fingerprint {
        let task = task.map(plain_name).unwrap_or_default();
        scoped(self.cause, &json!(["pipeline", self.failure.namespace, plain_name(name), task]))
    }

    /// Returns pipeline, task and container as reported, or the pod's name. Earlier versions used this scope for incidents
    /// that may still be open.
    fn as_before(&self) -> String {
        let failure = self.failure;
        let container = failure.container_name.as_deref().unwrap_or_default();
        match (&failure.pipeline, &failure.task) {
            (Some(pipeline), task) => {
                format!("{pipeline}/{}/{container}", task.as_deref().unwrap_or_default())
            }
            _ => format!("{}/{container}", template::mask(&failure.pod_name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn evidence(kind: EvidenceKind, text: &str) -> Arc<Evidence> {
        let (id, label, title) = (Uuid::nil(), "E1".to_owned(), "t".to_owned());
        Arc::new(Evidence { id, label, kind, title, text: text.to_owned(), red: Vec::new() })
    }

    fn names(failure: &Failure, pieces: &[Arc<Evidence>]) -> FingerprintSet {
        recognise(&SignatureSet::default(), failure, pieces, &Deadline::never()).unwrap().own
    }

    fn reported(pipeline: Option<&str>, container: Option<&str>) -> Failure {
        Failure {
            namespace: "ci".into(),
            pod_name: "web-7f9c6d5b4-x2kqz".into(),
            pipeline: pipeline.map(str::to_owned),
            container_name: container.map(str::to_owned),
            ..Failure::default()
        }
    }

    const LOG: &str = "step 1\nerror: cannot open the lock\nexit status 1\n";
    const POD: &str =
        "metadata: {name: web-7f9c6d5b4-x2kqz, ownerReferences: [{kind: ReplicaSet, name: web-7f9c6d5b4}]}";

    #[test]
    fn what_was_found_is_the_scope_whatever_is_said() {
        let pieces = [evidence(EvidenceKind::Log, LOG), evidence(EvidenceKind::Pod, POD)];
        let first = names(&reported(None, None), &pieces);
        for failure in
            [reported(Some("ci"), None), reported(None, Some("app")), reported(Some("CI"), Some("x"))]
        {
            assert_eq!(names(&failure, &pieces).certain, first.certain);
        }
        let other = Failure { namespace: "qa".into(), ..reported(None, None) };
        assert_ne!(names(&other, &pieces).certain, first.certain);
        let attached = [evidence(EvidenceKind::Attached, &LOG[7..]), pieces[0].clone(), pieces[1].clone()];
        assert_eq!(names(&reported(None, None), &attached).certain, first.certain);
    }

    #[test]
    fn without_a_pod_fields_fill_the_gap_however_they_are_written() {
        let pieces = [evidence(EvidenceKind::Attached, LOG)];
        let bare = names(&reported(None, None), &pieces);
        let named = names(&reported(Some("My Pipeline"), Some("app")), &pieces);
        assert_eq!((&bare.certain, named.certain.is_some()), (&None, true));
        assert_eq!(names(&reported(Some(" my  pipeline"), None), &pieces).certain, named.certain);
        assert!(named.said.contains(&bare.said[0]), "both know the pod's name");
        let signatures = SignatureSet::default();
        let input =
            FingerprintInput { log: Some(Log::plain(LOG)), events: None, pod: None, signatures: &signatures };
        let cause = fingerprint_within(&input, &Deadline::never()).unwrap();
        assert_eq!(named.said.last(), Some(&plain(&cause, "ci/My Pipeline//app")), "as versions before");
        assert_eq!(bare.said.last(), Some(&plain(&cause, "ci/web-<pod>/")), "as versions before");
    }
}
