//! Assigns a report to a cause by known fingerprints; a pure function of data read from the database.

use super::Fingerprint;
use std::collections::{HashMap, HashSet};
use strum::{EnumString, IntoStaticStr};

/// Fingerprints of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FingerprintSet {
    /// Fingerprint of the workload that Regreen found ([`AliasSource::Found`]); without a pod, that of the pipeline named by
    /// the reporter ([`AliasSource::Named`]).
    pub certain: Option<LearnedFingerprint>,
    /// Fingerprints from the reporter's data, most specific first. Used as a fallback, and to find reports assigned by older
    /// versions.
    pub said: Vec<Fingerprint>,
    /// Fingerprints of lines that distinguish causes of one workload. Each applies only after a person split an incident by it.
    pub fine: Vec<Fingerprint>,
}

impl FingerprintSet {
    /// Fingerprints that assign the report, most reliable first.
    pub fn placing(&self) -> impl Iterator<Item = &Fingerprint> {
        self.certain.iter().map(|certain| &certain.fingerprint).chain(&self.said)
    }

    /// The default fingerprint, used when none is known.
    #[must_use]
    pub fn first(&self) -> Fingerprint {
        self.placing().next().cloned().unwrap_or_else(|| Fingerprint(String::new()))
    }
}

/// How an alias of a fingerprint was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum AliasSource {
    /// Found from a workload of the cluster.
    Found,
    /// From the pipeline named by a reporter, when the pod did not exist.
    Named,
    /// From a report that had several fingerprints.
    Said,
    /// A person merged two incidents.
    Merge,
    /// A person split an incident.
    Split,
}

impl AliasSource {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a source. Returns `Said` for an unknown name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Said)
    }
}

/// A fingerprint and how it was learned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LearnedFingerprint {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// How it was learned.
    pub how: AliasSource,
}

/// Stored knowledge about a set of fingerprints.
#[derive(Debug, Default)]
pub struct KnownFingerprints {
    /// Target of each alias, and how the alias was learned.
    pub aliases: HashMap<Fingerprint, LearnedFingerprint>,
    /// Fingerprints under which incidents were opened.
    pub opened: HashSet<Fingerprint>,
    /// Opened fingerprints that already have an alias from a workload or a named pipeline.
    pub claimed: HashSet<LearnedFingerprint>,
}

/// Result of the recognition.
#[derive(Debug, PartialEq, Eq)]
pub struct Recognition {
    /// Fingerprint of the assigned incident.
    pub fingerprint: Fingerprint,
    /// Aliases of that fingerprint to store.
    pub learn: Vec<LearnedFingerprint>,
}

/// Assigns a report to a fingerprint. Decisions of people take precedence over workloads found, and these over the
/// reporter's data. The reporter's data leads only to an incident that no other workload or pipeline has claimed.
#[must_use]
pub fn recognise(names: &FingerprintSet, known: &KnownFingerprints) -> Recognition {
    let alias = |name: &Fingerprint| known.aliases.get(name).map(|target| target.fingerprint.clone());
    let taught = |name: &Fingerprint| {
        let target = known.aliases.get(name)?;
        matches!(target.how, AliasSource::Merge | AliasSource::Split).then(|| target.fingerprint.clone())
    };
    if let Some(fingerprint) = names.fine.iter().find_map(taught) {
        return Recognition { fingerprint, learn: Vec::new() };
    }
    let own = |name: &Fingerprint| known.opened.contains(name).then(|| name.clone());
    let mut learn = Vec::new();
    let fingerprint = match &names.certain {
        Some(certain) => {
            let LearnedFingerprint { fingerprint, how } = certain;
            alias(fingerprint).or_else(|| own(fingerprint)).unwrap_or_else(|| {
                learn.push(certain.clone());
                let said = names.said.iter().find_map(|name| taken_over(name, *how, known));
                said.unwrap_or_else(|| fingerprint.clone())
            })
        }
        None => {
            let found = names.said.iter().find_map(|name| alias(name).or_else(|| own(name)));
            found.unwrap_or_else(|| names.first())
        }
    };
    let is_free = |name: &&Fingerprint| {
        **name != fingerprint && !known.aliases.contains_key(*name) && !known.opened.contains(*name)
    };
    let said = |name: &Fingerprint| LearnedFingerprint { fingerprint: name.clone(), how: AliasSource::Said };
    learn.extend(names.said.iter().filter(is_free).map(said));
    Recognition { fingerprint, learn }
}

/// Returns the incident for a reporter's fingerprint, if no other fingerprint of the same source has claimed it or a person
/// created the alias.
fn taken_over(name: &Fingerprint, how: AliasSource, known: &KnownFingerprints) -> Option<Fingerprint> {
    let (target, learned) =
        known.aliases.get(name).map_or((name, AliasSource::Said), |target| (&target.fingerprint, target.how));
    let taught = matches!(learned, AliasSource::Merge | AliasSource::Split);
    let is_free = || !known.claimed.contains(&LearnedFingerprint { fingerprint: target.clone(), how });
    (known.opened.contains(target) && (taught || is_free())).then(|| target.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(name: &str) -> Fingerprint {
        Fingerprint(name.to_owned())
    }

    fn learned(name: &str, how: AliasSource) -> LearnedFingerprint {
        LearnedFingerprint { fingerprint: print(name), how }
    }

    fn names(certain: Option<(&str, AliasSource)>, said: &[&str]) -> FingerprintSet {
        let all = |names: &[&str]| names.iter().map(|name| print(name)).collect();
        let certain = certain.map(|(name, how)| learned(name, how));
        FingerprintSet { certain, said: all(said), fine: all(&["line"]) }
    }

    fn found(name: &'static str, said: &[&str]) -> FingerprintSet {
        names(Some((name, AliasSource::Found)), said)
    }

    /// Processes reports in order. Returns the resulting knowledge and the fingerprint assigned to each report.
    fn after(reports: &[FingerprintSet]) -> (KnownFingerprints, Vec<String>) {
        let mut known = KnownFingerprints::default();
        let mut placed = Vec::new();
        for report in reports {
            let Recognition { fingerprint, learn } = recognise(report, &known);
            for LearnedFingerprint { fingerprint: name, how } in learn {
                let target = LearnedFingerprint { fingerprint: fingerprint.clone(), how };
                if matches!(how, AliasSource::Found | AliasSource::Named) {
                    known.claimed.insert(target.clone());
                }
                known.aliases.insert(name, target);
            }
            placed.push(fingerprint.0.clone());
            known.opened.insert(fingerprint);
        }
        (known, placed)
    }

    #[test]
    fn what_was_found_decides_and_what_is_said_fills_gaps() {
        let (web, api) = (found("web", &["ci", "pod"]), found("api", &["ci", "pod"]));
        let named = names(Some(("ci", AliasSource::Named)), &["pod"]);
        let placed = after(&[web.clone(), api, names(None, &["pod"]), named, web]).1;
        assert_eq!(placed, ["web", "api", "web", "web", "web"]);
    }

    #[test]
    fn an_incident_that_was_only_said_is_taken_over_once() {
        let bare = names(None, &["pod"]);
        let named = |name: &'static str| names(Some((name, AliasSource::Named)), &["pod"]);
        let reports = [
            bare.clone(),
            named("ci"),
            named("nightly"),
            found("web", &["ci", "pod"]),
            found("api", &["ci", "pod"]),
            bare,
            found("web", &[]),
        ];
        assert_eq!(after(&reports).1, ["pod", "pod", "nightly", "pod", "api", "pod", "pod"]);
    }

    #[test]
    fn what_people_taught_goes_first() {
        let mut known = after(&[found("web", &["pod"]), found("api", &[])]).0;
        known.aliases.insert(print("web"), learned("api", AliasSource::Merge));
        known.aliases.insert(print("old"), learned("api", AliasSource::Merge));
        let placed =
            |names: &FingerprintSet, known: &KnownFingerprints| recognise(names, known).fingerprint.0;
        assert_eq!(placed(&found("web", &[]), &known), "api");
        assert_eq!(placed(&found("new", &["old"]), &known), "api");
        known.aliases.insert(print("line"), learned("own", AliasSource::Split));
        assert_eq!(placed(&found("web", &[]), &known), "own");
        known.aliases.insert(print("line"), learned("own", AliasSource::Said));
        assert_eq!(placed(&found("web", &[]), &known), "api", "lines count when a person split by them");
    }
}
