//! Facts that the cluster itself reports about a pod: messages of the kubelet and the scheduler about images, nodes,
//! volumes and scheduling. Logs, outputs of probes and commands, and manifests are written by the workload's owners.

use super::pod::yaml;
use super::template::mask;
use crate::domain::{Diagnosis, Evidence, EvidenceKind};
use serde_json::Value;
use std::borrow::Borrow;

/// Maximum length in bytes of a text to parse.
const MAX_TEXT: usize = 1 << 20;
/// Minimum number of letters in a quotation outside of masked parts; shorter quotations prove nothing.
const MIN_LETTERS: usize = 8;
/// Reasons of events whose message the kubelet or the scheduler generates.
const REASONS: [&str; 15] = [
    "BackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InspectFailed",
    "FailedAttachVolume",
    "FailedMount",
    "FailedCreatePodSandBox",
    "FailedScheduling",
    "FailedToRetrieveImagePullSecret",
    "NetworkNotReady",
    "NodeNotReady",
    "NodeHasDiskPressure",
    "DNSConfigForming",
    "FreeDiskSpaceFailed",
    "SystemOOM",
];
/// Waiting reasons of containers that the kubelet sets for image problems.
const WAITS: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"];

/// Returns the messages, one per line.
#[must_use]
pub fn warning_messages(pieces: &[impl Borrow<Evidence>]) -> String {
    let mut lines = Vec::new();
    for piece in pieces.iter().map(Borrow::borrow).filter(|piece: &&Evidence| piece.text.len() <= MAX_TEXT) {
        let start =
            if piece.kind == EvidenceKind::Events { piece.text.find(['-', '[', '{']) } else { Some(0) };
        let text = start.map(|start| &piece.text[start..]).unwrap_or_default();
        match piece.kind {
            EvidenceKind::Events => {
                lines.extend(yaml(text).map(|events| of_events(&events)).unwrap_or_default())
            }
            EvidenceKind::Pod => lines.extend(yaml(text).map(|pod| of_pod(&pod)).unwrap_or_default()),
            _ => {}
        }
    }
    lines.join("\n")
}

fn of_events(events: &Value) -> Vec<String> {
    let list = events.as_array().or_else(|| events["items"].as_array());
    list.into_iter().flatten().filter_map(of_event).collect()
}

fn of_event(event: &Value) -> Option<String> {
    let text = |upper: &str, lower: &str| event[upper].as_str().or_else(|| event[lower].as_str());
    let (reason, message) = (text("Reason", "reason")?, text("Message", "message")?);
    // Events with reason `Failed` also contain commands of the workload.
    let is_own =
        REASONS.contains(&reason) || (reason == "Failed" && message.starts_with("Failed to pull image "));
    is_own.then(|| line(message))
}

fn of_pod(pod: &Value) -> Vec<String> {
    let lists = ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].as_array());
    let waits = lists.into_iter().flatten().flatten().map(|container| &container["state"]["waiting"]);
    let own = waits.filter(|waits| waits["reason"].as_str().is_some_and(|reason| WAITS.contains(&reason)));
    own.filter_map(|waits| waits["message"].as_str()).map(line).collect()
}

/// Joins a message into one line, so that it cannot be read as two messages.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Events and pod status of a report, to compare with the conclusion of another report.
pub struct ClusterFacts(String);

impl ClusterFacts {
    /// Collects the facts from pieces of evidence.
    #[must_use]
    pub fn of(pieces: &[impl Borrow<Evidence>]) -> Self {
        let is_told = |piece: &&Evidence| matches!(piece.kind, EvidenceKind::Events | EvidenceKind::Pod);
        let own =
            pieces.iter().map(Borrow::borrow).filter(is_told).filter(|piece| piece.text.len() <= MAX_TEXT);
        let lines = own.flat_map(|piece| piece.text.lines()).map(|line| mask(&self::line(line)));
        Self(lines.collect::<Vec<_>>().join(" "))
    }

    /// Whether the facts contain every verified quotation of the diagnosis, after masking. False when no quotation is long
    /// enough.
    #[must_use]
    pub fn bears_out(&self, diagnosis: &Diagnosis) -> bool {
        let proven = diagnosis.claims.iter().filter(|claim| claim.verified);
        let quotes: Vec<String> = proven
            .filter_map(|claim| claim.quote.as_deref())
            .map(|quote| mask(line(quote).trim_end_matches('…')))
            .filter(|quote| letters(quote) >= MIN_LETTERS)
            .collect();
        !quotes.is_empty() && quotes.iter().all(|quote| self.0.contains(quote.as_str()))
    }
}

/// Counts letters outside of masked parts.
fn letters(masked: &str) -> usize {
    let mut inside = false;
    masked
        .chars()
        .filter(|c| {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                _ => {}
            }
            !inside && c.is_alphabetic()
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Confidence, FailureClass};
    use uuid::Uuid;

    fn piece(kind: EvidenceKind, text: &str) -> Evidence {
        let (id, label, title) = (Uuid::nil(), "E1".to_owned(), "t".to_owned());
        Evidence { id, label, kind, title, text: text.to_owned(), red: Vec::new() }
    }

    const PULL: &str = "Failed to pull image \"registry.example.com/base:1\": toomanyrequests: You have reached your pull rate limit";

    #[test]
    fn only_the_clusters_own_words_are_told() {
        let events = format!(
            "- Reason: Failed\n  Message: '{PULL}'\n- Reason: Unhealthy\n  Message: 'Liveness probe failed: {PULL}'\n- Reason: Failed\n  Message: 'Error: exec: \"{PULL}\"'\n- Reason: BackOff\n  Message: \"two\\nlines\"\n"
        );
        let pod = "metadata: {annotations: {x: toomanyrequests}}\nstatus:\n  message: toomanyrequests\n  containerStatuses:\n  - state: {waiting: {reason: ErrImagePull, message: own words}}\n  - state: {waiting: {reason: CrashLoopBackOff, message: toomanyrequests}}\n  - state: {terminated: {message: toomanyrequests}}\n";
        let pieces = [
            piece(EvidenceKind::Log, PULL),
            piece(EvidenceKind::Attached, PULL),
            piece(EvidenceKind::Alert, PULL),
            piece(EvidenceKind::ToolResult, PULL),
            piece(EvidenceKind::Events, &events),
            piece(EvidenceKind::Pod, pod),
        ];
        assert_eq!(warning_messages(&pieces), format!("{PULL}\ntwo lines\nown words"));
        assert_eq!(warning_messages(&pieces[..4]), "");
        assert_eq!(warning_messages(&[piece(EvidenceKind::Events, &format!("no list: {PULL}"))]), "");
    }

    #[test]
    fn a_conclusion_is_borne_out_by_all_its_quotations_and_not_by_none() {
        let told = ClusterFacts::of(&[
            piece(
                EvidenceKind::Events,
                "- Message: 'pulling for pod web-xbcd7-pod took 12s:\n    rate limit reached'\n",
            ),
            piece(EvidenceKind::Log, "a line of the log alone"),
        ]);
        let concluded = |quotes: &[&str]| {
            let claim = |quote: &&str| Claim {
                statement: "s".into(),
                evidence: "E7".into(),
                first_line: 1,
                last_line: 1,
                quote: Some((*quote).to_owned()),
                verified: true,
                paraphrased: false,
            };
            Diagnosis {
                title: "t".into(),
                cause: "c".into(),
                class: FailureClass::Infrastructure,
                confidence: Confidence::High,
                claims: quotes.iter().map(claim).collect(),
                next_steps: Vec::new(),
                analyst: "m".into(),
                note: None,
                not_found: Vec::new(),
                left_out: 0,
                runbooks: Vec::new(),
            }
        };
        assert!(told.bears_out(&concluded(&["pod web-x2kqz-pod took 340ms: rate limit"])));
        assert!(!told.bears_out(&concluded(&["pod web-x2kqz-pod took", "a line of the log alone"])));
        assert!(!told.bears_out(&concluded(&[])));
        assert!(!told.bears_out(&concluded(&["12s"])), "what changes from run to run proves nothing");
    }
}
