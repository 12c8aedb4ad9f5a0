//! Recognises a cause again: by the signatures that match and what they capture, else by its masked error lines.

use super::look::severity;
use super::signature::SignatureSet;
use super::template::mask;
use crate::domain::Fingerprint;
use sha2::{Digest as _, Sha256};

/// Masked lines that stand for a failure without a signature.
const LINES: usize = 3;
/// A line of at least this severity can stand for a failure.
const NOTABLE: u8 = 15;

/// The evidence a fingerprint is made of.
#[derive(Debug, Clone, Copy)]
pub struct FingerprintInput<'a> {
    /// Log of the failing container.
    pub log: Option<&'a str>,
    /// Events of the pod.
    pub events: Option<&'a str>,
    /// The pod.
    pub pod: Option<&'a str>,
    /// Known failures.
    pub signatures: &'a SignatureSet,
}

/// The cause's fingerprint: stable across runs, pods and shifted lines.
#[must_use]
pub fn fingerprint(input: &FingerprintInput<'_>) -> Fingerprint {
    let texts = [input.log, input.events, input.pod];
    let material = texts
        .iter()
        .flatten()
        .find_map(|text| by_signature(text, input.signatures))
        .or_else(|| input.log.and_then(by_lines))
        .or_else(|| input.events.and_then(by_lines))
        .unwrap_or_else(|| "nothing recognisable".to_owned());
    let hash = Sha256::digest(material.as_bytes());
    Fingerprint(hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
}

/// The signature nearest to the root, with what it captured on its first match.
fn by_signature(text: &str, signatures: &SignatureSet) -> Option<String> {
    let hits = signatures.scan(text);
    let (_, best) = hits
        .iter()
        .max_by_key(|(line, hit)| (signatures.signatures()[hit.index].priority, std::cmp::Reverse(*line)))?;
    let captures: Vec<String> =
        best.captures.iter().map(|(name, value)| format!("{name}={}", mask(value))).collect();
    Some(format!("{} {}", signatures.signatures()[best.index].id, captures.join(" ")))
}

/// The heaviest lines, masked and in order of their text, so that their place does not matter.
fn by_lines(text: &str) -> Option<String> {
    let mut weighed: Vec<(u8, usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (severity(line), index, line))
        .filter(|(weight, _, _)| *weight >= NOTABLE)
        .collect();
    weighed.sort_by_key(|(weight, index, _)| (std::cmp::Reverse(*weight), *index));
    let mut lines: Vec<String> = Vec::new();
    for (_, _, line) in weighed {
        let masked = mask(line);
        if !lines.contains(&masked) {
            lines.push(masked);
        }
        if lines.len() == LINES {
            break;
        }
    }
    lines.sort();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &str) -> Fingerprint {
        let signatures = SignatureSet::default();
        fingerprint(&FingerprintInput { log: Some(log), events: None, pod: None, signatures: &signatures })
    }

    #[test]
    fn the_same_cause_on_another_day_is_the_same() {
        let one = "12:00:01 step 1\n12:00:02 error: cannot open /tmp/a91/x.lock on node-3\n12:00:03 exit 1\n";
        let two = "extra line\n08:10:09 step 1\n08:10:10 error: cannot open /tmp/zz7/y.lock on node-7\n08:10:11 exit 1\n";
        assert_eq!(of(one), of(two));
    }

    #[test]
    fn another_cause_is_another() {
        assert_ne!(of("error: cannot open file"), of("error: cannot resolve symbol"));
    }
}
