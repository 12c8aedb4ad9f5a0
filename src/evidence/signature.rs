//! Signatures of known failures, written in the runbooks and compiled once.

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

/// A signature of at least this priority names a cause; one of less an echo, such as "build failed".
pub const NAMES_CAUSE: i32 = 50;

/// What a runbook recognises a failure by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Unique name.
    pub id: String,
    /// Regular expression over one line; named groups capture.
    pub pattern: String,
    /// Kind of cause.
    pub class: FailureClass,
    /// Title with `{group}` placeholders.
    pub title: String,
    /// Cause with the same placeholders.
    pub cause: String,
    /// What to do, with the same placeholders.
    pub next_steps: Vec<String>,
    /// Higher is nearer to the root cause.
    pub priority: i32,
    /// Path of the runbook.
    pub runbook: String,
}

impl Signature {
    /// With `clean` applied to what is shown of it. Its pattern stays: the names of secrets that it looks for are none.
    #[must_use]
    pub fn redacted(self, clean: &mut impl FnMut(&str) -> String) -> Self {
        Self {
            title: clean(&self.title),
            cause: clean(&self.cause),
            next_steps: self.next_steps.iter().map(|step| clean(step)).collect(),
            ..self
        }
    }

    /// Its pattern, within the bounds of [`pattern`].
    ///
    /// # Errors
    /// It is not a regular expression, or so large that it would be slow; the error names signature and runbook.
    pub fn parsed(&self) -> anyhow::Result<Hir> {
        let parsed = pattern::bytes(&written(&self.pattern));
        parsed.with_context(|| format!("signature `{}` of {}", self.id, self.runbook))
    }
}

/// A signature that matched, and what it captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHit {
    /// Index into [`SignatureSet::signatures`].
    pub index: usize,
    /// Named groups.
    pub captures: BTreeMap<String, String>,
}

impl SignatureHit {
    /// A text with its `{group}` placeholders filled; a group that did not match leaves nothing.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.captures {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        filled
    }
}

/// The signatures of now; exchanged as a whole when runbooks change.
#[derive(Debug, Default)]
pub struct Signatures(RwLock<Arc<SignatureSet>>);

impl Signatures {
    /// Beginning with these.
    #[must_use]
    pub fn new(set: SignatureSet) -> Self {
        Self(RwLock::new(Arc::new(set)))
    }

    /// Those of now; whoever holds them keeps them.
    #[must_use]
    pub fn current(&self) -> Arc<SignatureSet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in their place.
    pub fn replace(&self, set: SignatureSet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }
}

/// All signatures. A pattern is looked at only in lines that hold one of its literals, and compiled when it is first looked at.
///
/// A pattern in ASCII sees bytes: its `\w` is a letter of ASCII. With the classes of Unicode the hundreds of patterns would
/// take ten times the memory.
#[derive(Debug, Default)]
pub struct SignatureSet {
    signatures: Vec<Signature>,
    patterns: Vec<OnceLock<Option<Regex>>>,
    /// Finds the literals, and the signatures that each one stands for.
    literals: Option<AhoCorasick>,
    meant: Vec<Vec<usize>>,
    /// Signatures without literals.
    always: Vec<usize>,
}

impl SignatureSet {
    /// What runbooks say of those lines that they recognise.
    #[must_use]
    pub fn said_of<'a>(&self, lines: impl Iterator<Item = &'a str>) -> String {
        let hits = lines.flat_map(|line| self.matches(line));
        hits.map(|hit| self.meaning(&hit)).collect::<Vec<_>>().join("\n")
    }

    /// What the runbook of a hit says: title and cause.
    #[must_use]
    pub fn meaning(&self, hit: &SignatureHit) -> String {
        let signature = &self.signatures()[hit.index];
        format!("{}. {}", hit.fill(&signature.title), hit.fill(&signature.cause))
    }

    /// Makes the set.
    ///
    /// # Errors
    /// A pattern is not a regular expression, or so large that it would be slow; the error names signature and runbook.
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

    /// All that match a line.
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

    /// All matches of a text, with line numbers from 1.
    #[must_use]
    pub fn scan(&self, text: &str) -> Vec<(u32, SignatureHit)> {
        self.scan_within(text, &Deadline::never()).unwrap_or_default()
    }

    /// The same; stops when the deadline is over.
    ///
    /// # Errors
    /// It is over.
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

/// A pattern with letters beyond ASCII means them.
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
        // The second one is small in its elements, and large in Unicode.
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
