//! Fingerprints of causes, from matching signatures and their captures, or from the most significant masked line.

use super::excerpt::Log;
use super::line_features::severity;
use super::lines::Lines;
use super::rank::rank;
use super::signature::{NAMES_CAUSE, SignatureHit, SignatureSet};
use super::template::mask;
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::Fingerprint;
use sha2::{Digest as _, Sha256};

/// Evidence used to compute a fingerprint.
#[derive(Debug, Clone, Copy)]
pub struct FingerprintInput<'a> {
    /// Log of the failing container.
    pub log: Option<Log<'a>>,
    /// Events of the pod.
    pub events: Option<&'a str>,
    /// Description of the pod.
    pub pod: Option<&'a str>,
    /// Known failure signatures.
    pub signatures: &'a SignatureSet,
}

/// Computes the fingerprint of a cause. The result is stable across runs, pods and shifted lines.
#[must_use]
pub fn fingerprint(input: &FingerprintInput<'_>) -> Fingerprint {
    fingerprint_within(input, &Deadline::never()).expect("no deadline")
}

/// Like [`fingerprint`], but stops when the deadline has passed.
///
/// # Errors
/// The deadline has passed.
pub fn fingerprint_within(
    input: &FingerprintInput<'_>,
    deadline: &Deadline,
) -> Result<Fingerprint, DeadlinePassed> {
    let material = material(input, deadline)?.unwrap_or_else(|| "nothing recognisable".to_owned());
    let hash = Sha256::digest(material.as_bytes());
    Ok(Fingerprint(hex::encode(&hash[..12])))
}

/// Returns the text to hash.
fn material(input: &FingerprintInput<'_>, deadline: &Deadline) -> Result<Option<String>, DeadlinePassed> {
    let texts = [input.log.map(|log| log.text), input.events, input.pod];
    for text in texts.into_iter().flatten() {
        if let Some(found) = by_signature(text, input.signatures, deadline)? {
            return Ok(Some(found));
        }
    }
    for log in [input.log, input.events.map(Log::plain)].into_iter().flatten() {
        if let Some(found) = by_line(&log, deadline)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the signature with the highest priority and the captures of its first match. Ignores low-priority signatures,
/// which match many causes.
fn by_signature(
    text: &str,
    signatures: &SignatureSet,
    deadline: &Deadline,
) -> Result<Option<String>, DeadlinePassed> {
    let hits = signatures.scan_within(text, deadline)?;
    let best = hits
        .iter()
        .filter(|(_, hit)| signatures.signatures()[hit.index].priority >= NAMES_CAUSE)
        .max_by_key(|(line, hit)| (signatures.signatures()[hit.index].priority, std::cmp::Reverse(*line)));
    Ok(best.map(|(line, best)| by_hit(text, signatures, *line, best)))
}

fn by_hit(text: &str, signatures: &SignatureSet, line: u32, best: &SignatureHit) -> String {
    let captures: Vec<String> =
        best.captures.iter().map(|(name, value)| format!("{name}={}", mask(value))).collect();
    let id = &signatures.signatures()[best.index].id;
    if captures.is_empty() {
        // A signature without captures matches many causes; its line distinguishes them.
        let line = text.lines().nth(line as usize - 1).unwrap_or_default();
        return format!("{id} {}", mask(line));
    }
    format!("{id} {}", captures.join(" "))
}

/// Minimum severity of a line that indicates a specific failure rather than the end of a step.
const SPEAKS: u8 = 11;
/// Number of lines at the end of a log that are searched for failures.
const LAST: usize = 4_000;

/// Returns up to `most` distinct failure lines, masked, most severe first. Different causes of one workload differ in some
/// of them.
///
/// # Errors
/// The deadline has passed.
pub fn failure_lines(text: &str, most: usize, deadline: &Deadline) -> Result<Vec<String>, DeadlinePassed> {
    let mut found: Vec<(u8, String)> = Vec::new();
    for (number, line) in text.lines().rev().take(LAST).enumerate() {
        if number % 256 == 0 {
            deadline.check()?;
        }
        let weight = severity(line);
        if weight >= SPEAKS {
            let line = mask(line);
            if !found.iter().any(|(_, known)| *known == line) {
                found.push((weight, line));
                found.sort_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
                found.truncate(most);
            }
        }
    }
    Ok(found.into_iter().map(|(_, line)| line).collect())
}

/// Whether two logs end with the same lines, or one is the end of the other: the reporter attached the log that the
/// cluster also returns.
#[must_use]
pub fn end_alike(one: &str, other: &str) -> bool {
    let mut pairs = last_lines(one).zip(last_lines(other)).peekable();
    pairs.peek().is_some() && pairs.all(|(one, other)| one == other)
}

fn last_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(20)
}

/// Returns the most probable failure line, masked. Probabilities are rounded and the first of equal lines wins, so that
/// small shifts between runs do not change the result. Because a line's position also affects its probability, a line that
/// names a failure takes precedence over one that does not, unless the latter is almost certain.
fn by_line(log: &Log<'_>, deadline: &Deadline) -> Result<Option<String>, DeadlinePassed> {
    const POSSIBLE: f32 = 0.1;
    const CERTAIN: f32 = 0.9;
    let lines = Lines::within(log.text, log.red, log.good, deadline)?;
    let chances = rank(&lines);
    let worth =
        |index: usize| (chances[index] * 10.0).round() * if lines.is_telling(index) { 1.0 } else { 0.35 };
    let speaks = |index: &usize| severity(lines.text(*index)) >= SPEAKS;
    let heavy = |index: usize| f32::from(severity(lines.text(index)).saturating_sub(SPEAKS));
    let likeliest = first_of_most(0..lines.len(), worth);
    let found = likeliest
        .filter(|index| chances[*index] >= CERTAIN && lines.is_telling(*index))
        .or_else(|| {
            first_of_most(
                (0..lines.len()).filter(|index| speaks(index) && chances[*index] >= POSSIBLE),
                worth,
            )
        })
        .or_else(|| first_of_most(0..lines.len(), heavy))
        .or(likeliest);
    Ok(found.map(|index| mask(lines.text(index))))
}

/// Returns the first index with the highest positive value; `None` when no value is positive.
fn first_of_most(indices: impl Iterator<Item = usize>, worth: impl Fn(usize) -> f32) -> Option<usize> {
    let mut best: Option<(f32, usize)> = None;
    for index in indices {
        let worth = worth(index);
        if worth > 0.0 && best.is_none_or(|(most, _)| worth > most) {
            best = Some((worth, index));
        }
    }
    best.map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &str) -> Fingerprint {
        let signatures = SignatureSet::default();
        fingerprint(&FingerprintInput {
            log: Some(Log::plain(log)),
            events: None,
            pod: None,
            signatures: &signatures,
        })
    }

    #[test]
    fn the_same_cause_on_another_day_is_the_same() {
        let one = "12:00:01 step 1\n12:00:02 error: cannot open /tmp/a91/x.lock on node-3\n12:00:03 exit 1\n";
        let two = "extra line\n08:10:09 step 1\n08:10:10 error: cannot open /tmp/zz7/y.lock on node-7\n08:10:11 exit 1\n";
        assert_eq!(of(one), of(two));
    }

    /// Generates the log of a failed run; details that change from run to run derive from `run`.
    fn drifted(run: u64, cause: &str) -> String {
        let mut random = fastrand::Rng::with_seed(run);
        let mut log = String::new();
        for step in 0..random.usize(40..90) {
            let (minute, second) = (step / 60, step % 60);
            log.push_str(&format!(
                "2026-11-{:02} 10:{minute:02}:{second:02} step {step} done in {} ms\n",
                random.u8(1..28),
                random.u16(..)
            ));
        }
        let hash: String = (0..12).map(|_| char::from(b"0123456789abcdef"[random.usize(..16)])).collect();
        let cause = cause.replace("{hash}", &hash).replace("{n}", &random.u16(10..9_999).to_string());
        log.push_str(&format!("{cause}\nexit status 1\n"));
        for _ in 0..random.usize(..20) {
            log.push_str(&format!("uploading artefact {hash} from node-{}\n", random.u8(..)));
        }
        log
    }

    #[test]
    fn drift_between_runs_changes_nothing_and_causes_stay_apart() {
        let causes = [
            "src/pay.rs:{n}:5: error: mismatched types in checkout",
            "ERROR: cannot connect to db-{n}.example.com: connection refused",
            "FAIL: TestRefund expected 3 but got {n}",
            "fatal: unable to access the repository: could not resolve host: git.example.com",
            "error: image app@sha256:{hash}{hash}{hash}{hash}{hash} not found",
            "Killed: process {n} used more memory than the limit",
            "npm ERR! missing script: build-{hash}",
        ];
        let mut prints = Vec::new();
        for cause in causes {
            let first = of(&drifted(1, cause));
            for run in 2..25 {
                assert_eq!(of(&drifted(run, cause)), first, "run {run} of {cause}");
            }
            assert!(!prints.contains(&first), "{cause}");
            prints.push(first);
        }
    }

    #[test]
    fn lines_of_failure_stand_once_and_without_what_changes() {
        let log =
            "ok\nerror: no lock on node-3\nerror: no lock on node-4\nFATAL: the disk /tmp/a is full\ndone\n";
        let lines = failure_lines(log, 12, &Deadline::never()).unwrap();
        let mut sorted = lines.clone();
        sorted.sort();
        assert_eq!(sorted, ["FATAL: the disk <tmp> is full", "error: no lock on node-<n>"]);
        assert_eq!(failure_lines(log, 1, &Deadline::never()).unwrap(), lines[..1]);
    }

    #[test]
    fn a_log_and_its_end_end_alike() {
        assert!(end_alike("one\ntwo\nthree\n\n", "two \nthree"));
        assert!(!end_alike("one\ntwo", "one\nthree"));
        assert!(!end_alike("one", "\n"));
    }

    #[test]
    fn another_cause_is_another() {
        assert_ne!(of("error: cannot open file"), of("error: cannot resolve symbol"));
    }
}
