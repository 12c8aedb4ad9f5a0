//! Pure functions that process evidence: clean, redact, excerpt, fingerprint, verify, and neutralize untrusted text.

pub mod clean;
pub mod cluster_facts;
pub mod excerpt;
pub mod fingerprint;
mod lexicon;
mod line_features;
pub mod lines;
mod literals;
pub mod pattern;
pub mod pod;
pub mod rank;
pub mod redact;
pub mod rules;
pub mod runbook;
pub mod scope;
pub mod signature;
pub mod template;
mod terminal;
pub mod tokens;
pub mod untrusted;
pub mod verify;

pub use line_features::severity;
