//! Signatures of known failures, written in the runbooks and compiled once.

use crate::domain::FailureClass;
use anyhow::Context as _;
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Most memory of the compiled patterns, in bytes.
const MAX_SET: usize = 64 << 20;
/// Most memory of one search's states.
const MAX_CACHE: usize = 8 << 20;

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

/// All signatures, compiled.
///
/// A pattern in ASCII sees bytes: its `\w` is a letter of ASCII. With the classes of Unicode the hundreds of patterns would take ten times the memory.
#[derive(Debug, Default)]
pub struct SignatureSet {
    signatures: Vec<Signature>,
    /// For the captures; most never match and are never compiled.
    patterns: Vec<OnceLock<Option<Regex>>>,
    set: RegexSet,
}

impl SignatureSet {
    /// Compiles them into one automaton.
    ///
    /// # Errors
    /// A pattern is not a regular expression; the error names signature and runbook.
    pub fn compile(signatures: Vec<Signature>) -> anyhow::Result<Self> {
        let set = RegexSetBuilder::new(signatures.iter().map(|signature| written(&signature.pattern)))
            .unicode(false)
            .size_limit(MAX_SET)
            .dfa_size_limit(MAX_CACHE)
            .build();
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                // Which one it is says only each by itself.
                for signature in &signatures {
                    pattern(signature)
                        .with_context(|| format!("signature `{}` of {}", signature.id, signature.runbook))?;
                }
                return Err(error).context("the signatures of all runbooks together");
            }
        };
        let patterns = signatures.iter().map(|_| OnceLock::new()).collect();
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
        self.set.matches(line.as_bytes()).into_iter().map(|index| self.hit(index, line)).collect()
    }

    fn hit(&self, index: usize, line: &str) -> SignatureHit {
        let compiled = self.patterns[index].get_or_init(|| pattern(&self.signatures[index]).ok());
        let Some(pattern) = compiled else { return SignatureHit { index, captures: BTreeMap::new() } };
        let found = pattern.captures(line.as_bytes());
        let named = pattern.capture_names().flatten();
        let captures = named
            .filter_map(|name| {
                let value = found.as_ref()?.name(name).map_or(&b""[..], |value| value.as_bytes());
                Some((name.to_owned(), String::from_utf8_lossy(value).chars().take(200).collect()))
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

fn pattern(signature: &Signature) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&written(&signature.pattern)).unicode(false).build()
}

/// A pattern with letters beyond ASCII means them.
fn written(pattern: &str) -> String {
    if pattern.is_ascii() { pattern.to_owned() } else { format!("(?u:{pattern})") }
}
