//! Conclusion of an investigation; each claim cites lines of evidence.

use super::evidence::LineSpan;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;

/// The kind of cause, by who has to act.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
    EnumString,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The change itself: does not compile, does not lint.
    Code,
    /// A test asserts something that does not hold.
    Test,
    /// A package, image or module that cannot be had.
    Dependency,
    /// Credentials, manifests, pipeline or tool settings.
    Configuration,
    /// Cluster, network, disk, memory.
    Infrastructure,
    /// Passes on a retry without a change.
    Flaky,
    /// Nothing in the evidence says.
    Unknown,
}

impl FailureClass {
    /// All failure classes.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all failure classes.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable lower-case name, as stored and in API payloads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a class name. Returns [`FailureClass::Unknown`] for an unknown name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::Unknown)
    }
}

/// How sure the analyst is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// A guess.
    Low,
    /// Likely.
    Medium,
    /// The evidence says so outright.
    High,
}

impl Confidence {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One statement and the lines it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// What is claimed.
    pub statement: String,
    /// Label of the evidence, `E1`, `E2`, ….
    pub evidence: String,
    /// First cited line, counted from 1 in the evidence as received.
    pub first_line: u32,
    /// Last cited line, inclusive.
    pub last_line: u32,
    /// What the analyst quoted from these lines; checked against them.
    #[serde(default)]
    pub quote: Option<String>,
    /// Set by `evidence::verify`, never by the model.
    #[serde(default)]
    pub verified: bool,
    /// Verified without a quote: the cited lines speak of it in other words.
    #[serde(default)]
    pub paraphrased: bool,
}

impl Claim {
    /// The cited lines.
    #[must_use]
    pub fn lines(&self) -> LineSpan {
        LineSpan { first: self.first_line, last: self.last_line }
    }
}

/// The outcome of an investigation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// One line, fit for an issue title.
    pub title: String,
    /// The cause in a few sentences.
    pub cause: String,
    /// Kind of cause.
    pub class: FailureClass,
    /// How sure.
    pub confidence: Confidence,
    /// Statements with their lines.
    pub claims: Vec<Claim>,
    /// What to do, first thing first.
    pub next_steps: Vec<String>,
    /// Who concluded it: a model's name or `rules`.
    #[serde(default)]
    pub analyst: String,
    /// Why the built-in analyst stepped in for a model, when it did.
    #[serde(default)]
    pub note: Option<String>,
    /// Names in title or cause that the evidence does not have, in conclusions of before they were left out.
    #[serde(default)]
    pub not_found: Vec<String>,
    /// Claims of the analyst that the evidence does not bear out, and which are left out; set by `evidence::verify`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// Paths of the runbooks that the analyst was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runbooks: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference.
fn is_zero(number: &u32) -> bool {
    *number == 0
}
