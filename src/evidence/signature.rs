//! Signatures of known failures, written in the runbooks and compiled once.

use crate::domain::FailureClass;
use anyhow::Context as _;
use regex::{Regex, RegexSet};
use std::collections::BTreeMap;

/// What a runbook recognises a failure by.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// All signatures, compiled.
#[derive(Debug, Default)]
pub struct SignatureSet {
    signatures: Vec<Signature>,
    patterns: Vec<Regex>,
    set: RegexSet,
}

impl SignatureSet {
    /// Compiles them into one automaton.
    ///
    /// # Errors
    /// A pattern is not a regular expression; the error names signature and runbook.
    pub fn compile(signatures: Vec<Signature>) -> anyhow::Result<Self> {
        let patterns = signatures.iter().map(|signature| {
            Regex::new(&signature.pattern)
                .with_context(|| format!("signature `{}` of {}", signature.id, signature.runbook))
        });
        let patterns = patterns.collect::<anyhow::Result<Vec<_>>>()?;
        let set = RegexSet::new(signatures.iter().map(|signature| &signature.pattern))?;
        Ok(Self { signatures, patterns, set })
    }

    /// The signatures, in order.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// All that match a line.
    #[must_use]
    pub fn matches(&self, line: &str) -> Vec<SignatureHit> {
        self.set.matches(line).into_iter().map(|index| self.hit(index, line)).collect()
    }

    fn hit(&self, index: usize, line: &str) -> SignatureHit {
        let pattern = &self.patterns[index];
        let found = pattern.captures(line);
        let named = pattern.capture_names().flatten();
        let captures = named
            .filter_map(|name| {
                let value = found.as_ref()?.name(name).map_or("", |value| value.as_str());
                Some((name.to_owned(), value.chars().take(200).collect()))
            })
            .collect();
        SignatureHit { index, captures }
    }

    /// All matches of a text, with line numbers from 1.
    #[must_use]
    pub fn scan(&self, text: &str) -> Vec<(u32, SignatureHit)> {
        let lines = (1..).zip(text.lines());
        lines
            .flat_map(|(number, line)| self.matches(line).into_iter().map(move |hit| (number, hit)))
            .collect()
    }
}
