//! Signatures of known failures, defined in runbooks and compiled once.

use super::{literals, pattern};
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::FailureClass;
use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use regex::bytes::Regex;
use regex_syntax::hir::Hir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Minimum priority of a signature that names a cause; others match consequences such as "build failed".
pub const NAMES_CAUSE: i32 = 50;

/// A failure signature of a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Unique id.
    pub id: String,
    /// Regular expression for one line; named groups are captured.
    pub pattern: String,
    /// Failure class.
    pub class: FailureClass,
    /// Title with `{group}` placeholders.
    pub title: String,
    /// Cause with the same placeholders.
    pub cause: String,
    /// Recommended steps, with the same placeholders.
    pub next_steps: Vec<String>,
    /// Higher values are closer to the root cause.
    pub priority: i32,
    /// Path of the runbook.
    pub runbook: String,
}

impl Signature {
    /// Applies `clean` to the displayed texts. The pattern is unchanged, because names of secrets in it are not secrets.
    #[must_use]
    pub fn redacted(self, clean: &mut impl FnMut(&str) -> String) -> Self {
        Self {
            title: clean(&self.title),
            cause: clean(&self.cause),
            next_steps: self.next_steps.iter().map(|step| clean(step)).collect(),
            ..self
        }
    }

    /// Parses the pattern within the limits of [`pattern`].
    ///
    /// # Errors
    /// The pattern is invalid, or so large that it would be slow; the error names signature and runbook.
    pub fn parsed(&self) -> anyhow::Result<Hir> {
        let parsed = pattern::bytes(&written(&self.pattern));
        parsed.with_context(|| format!("signature `{}` of {}", self.id, self.runbook))
    }
}

/// A matching signature and its captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHit {
    /// Index into [`SignatureSet::signatures`].
    pub index: usize,
    /// Values of the named groups.
    pub captures: BTreeMap<String, String>,
}

impl SignatureHit {
    /// Replaces `{group}` placeholders in a text; a group that did not match yields an empty text.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.captures {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        filled
    }
}

/// The current signatures; replaced as a whole when runbooks change.
#[derive(Debug, Default)]
pub struct Signatures(RwLock<Arc<SignatureSet>>);

impl Signatures {
    /// Creates the store with an initial set.
    #[must_use]
    pub fn new(set: SignatureSet) -> Self {
        Self(RwLock::new(Arc::new(set)))
    }

    /// Returns the current set. It stays valid after a replacement.
    #[must_use]
    pub fn current(&self) -> Arc<SignatureSet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the current set.
    pub fn replace(&self, set: SignatureSet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }
}

/// A set of signatures. A pattern runs only on lines that contain one of its literals, and is compiled on first use.
///
/// ASCII patterns match bytes: `\w` matches only ASCII letters. With Unicode classes, hundreds of patterns would need ten
/// times the memory.
#[derive(Debug, Default)]
pub struct SignatureSet {
    signatures: Vec<Signature>,
    patterns: Vec<OnceLock<Option<Regex>>>,
    /// Automaton for the literals, and the signatures that each literal belongs to.
    literals: Option<AhoCorasick>,
    meant: Vec<Vec<usize>>,
    /// Signatures without literals.
    always: Vec<usize>,
}

impl SignatureSet {
    /// Returns title and cause of every signature that matches the lines.
    #[must_use]
    pub fn said_of<'a>(&self, lines: impl Iterator<Item = &'a str>) -> String {
        let hits = lines.flat_map(|line| self.matches(line));
        hits.map(|hit| self.meaning(&hit)).collect::<Vec<_>>().join("\n")
    }

    /// Returns title and cause of a match.
    #[must_use]
    pub fn meaning(&self, hit: &SignatureHit) -> String {
        let signature = &self.signatures()[hit.index];
        format!("{}. {}", hit.fill(&signature.title), hit.fill(&signature.cause))
    }

    /// Builds the set.
    ///
    /// # Errors
    /// A pattern is invalid, or so large that it would be slow; the error names signature and runbook.
    pub fn compile(signatures: Vec<Signature>) -> anyhow::Result<Self> {
        let mut by_literal: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut always = Vec::new();
        for (index, signature) in signatures.iter().enumerate() {
            let parsed = signature.parsed()?;
            match literals::required(&parsed) {
                Some(texts) => {
                    texts.into_iter().for_each(|text| by_literal.entry(text).or_default().push(index));
                }
                None => always.push(index),
            }
        }
        let (texts, meant): (Vec<String>, Vec<Vec<usize>>) = by_literal.into_iter().unzip();
        let literals = AhoCorasick::builder().ascii_case_insensitive(true).build(texts);
        let literals = Some(literals.context("the signatures of all runbooks together")?);
        let patterns = signatures.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { signatures, patterns, literals, meant, always })
    }

    /// The signatures, in order.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Returns all matches in a line.
    #[must_use]
    pub fn matches(&self, line: &str) -> Vec<SignatureHit> {
        let mut candidates = self.always.clone();
        if let Some(literals) = &self.literals {
            let found = literals
                .find_overlapping_iter(line)
                .flat_map(|found| &self.meant[found.pattern().as_usize()]);
            candidates.extend(found);
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().filter_map(|index| self.hit(index, line)).collect()
    }

    fn hit(&self, index: usize, line: &str) -> Option<SignatureHit> {
        let compiled = self.patterns[index]
            .get_or_init(|| pattern::compiled_bytes(&written(&self.signatures[index].pattern)).ok());
        let pattern = compiled.as_ref()?;
        let found = pattern.captures(line.as_bytes())?;
        let named = pattern.capture_names().flatten();
        let captures = named.map(|name| {
            let value = found.name(name).map_or(&b""[..], |value| value.as_bytes());
            (name.to_owned(), String::from_utf8_lossy(value).chars().take(200).collect())
        });
        Some(SignatureHit { index, captures: captures.collect() })
    }

    /// Returns all matches in a text, with line numbers from 1.
    #[must_use]
    pub fn scan(&self, text: &str) -> Vec<(u32, SignatureHit)> {
        self.scan_within(text, &Deadline::never()).unwrap_or_default()
    }

    /// Like [`Self::scan`], but stops when the deadline has passed.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn scan_within(
        &self,
        text: &str,
        deadline: &Deadline,
    ) -> Result<Vec<(u32, SignatureHit)>, DeadlinePassed> {
        let mut found = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            deadline.check()?;
            found.extend(self.matches(line).into_iter().map(|hit| (number, hit)));
        }
        Ok(found)
    }
}

/// Enables Unicode for patterns with characters outside of ASCII.
fn written(pattern: &str) -> String {
    if pattern.is_ascii() { pattern.to_owned() } else { format!("(?u:{pattern})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_would_be_slow_is_refused_with_its_signature_and_runbook() {
        let signature = |pattern: &str| Signature {
            id: "one".into(),
            pattern: pattern.into(),
            class: FailureClass::Unknown,
            title: String::new(),
            cause: String::new(),
            next_steps: Vec::new(),
            priority: 50,
            runbook: "book.md".into(),
        };
        // The second pattern has few elements, but a large compiled program in Unicode mode.
        for pattern in ["[ -~]{0,3990}[^ -~]", r"größe: \w{200}\pL{200}\w{90}"] {
            let error = format!("{:#}", SignatureSet::compile(vec![signature(pattern)]).unwrap_err());
            assert!(error.contains("`one` of book.md") && error.contains("too large"), "{error}");
        }
        let set = SignatureSet::compile(vec![signature(".{0,200} refused")]).unwrap();
        let over = Deadline::within(std::time::Duration::ZERO);
        assert_eq!(set.scan_within("upload refused", &over), Err(DeadlinePassed));
        assert_eq!(set.scan("a\nupload refused")[0].0, 2);
    }
}
