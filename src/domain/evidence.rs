//! Text collected for a report, redacted and stored in full.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum number of lines returned for one citation.
const MAX_CITED: usize = 20;

/// Where a piece of evidence came from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// Log of the failing container.
    Log,
    /// Log of the container's previous run.
    PreviousLog,
    /// The pod's manifest and status.
    Pod,
    /// Events of the pod or namespace.
    Events,
    /// A log attached to the report.
    Attached,
    /// The log of the last good run, attached to the report: what it says too is hardly the cause.
    GoodLog,
    /// The alert that led to the report: its labels and annotations.
    Alert,
    /// Result of a tool the analyst called.
    ToolResult,
}

impl EvidenceKind {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a kind. Returns `ToolResult` for an unknown name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        name.parse().unwrap_or(Self::ToolResult)
    }

    /// Whether the text is the log of a program and is ranked as a log.
    #[must_use]
    pub fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::PreviousLog | Self::Attached)
    }
}

/// Range of lines, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineSpan {
    /// First line.
    pub first: u32,
    /// Last line, inclusive.
    pub last: u32,
}

/// A piece of evidence with its full, redacted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Row id.
    pub id: Uuid,
    /// Label within the report: `E1`, `E2`, …
    pub label: String,
    /// Source of the text.
    pub kind: EvidenceKind,
    /// Title for people, such as "log of container build".
    pub title: String,
    /// Full text, redacted; line numbers refer to it.
    pub text: String,
    /// Numbers of the lines that were printed partly or fully in red, ascending.
    pub red: Vec<u32>,
}

impl Evidence {
    /// Returns the cited lines in order, at most the first 20.
    pub fn cited(&self, lines: LineSpan) -> impl Iterator<Item = &str> {
        cited(&self.text, lines)
    }
}

/// Returns the cited lines of a text; see [`Evidence::cited`].
pub fn cited(text: &str, lines: LineSpan) -> impl Iterator<Item = &str> {
    let count = (lines.last.saturating_sub(lines.first) as usize + 1).min(MAX_CITED);
    text.lines().skip(lines.first.saturating_sub(1) as usize).take(count)
}

/// A piece of evidence without its text, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceSummary {
    /// Row id.
    pub id: Uuid,
    /// `E1`, `E2`, … within its report.
    pub label: String,
    /// Where it came from.
    pub kind: EvidenceKind,
    /// Human name.
    pub title: String,
    /// Number of lines.
    pub lines: i32,
    /// Size in bytes.
    pub bytes: i32,
    /// Secrets replaced in it.
    pub redactions: i32,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When its text was removed as past `retention.evidence`; absent while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_at: Option<DateTime<Utc>>,
    /// Who alone may read it: a tool told it to their own token. Everybody may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_to: Option<String>,
}

/// Parses a citation in any common form: `E1`, `e1`, `[E1]`, `E1:451`, `E1:451-460`, `E1-451-`, `` `E1:451: text` ``, `E1,
/// lines 3 to 5`. Returns the label as stored, and the line range if present. Returns other text unchanged, in upper case.
#[must_use]
pub fn citation(text: &str) -> (String, Option<LineSpan>) {
    let plain = text.trim().trim_start_matches(['[', '(', '`', '"', '\'']);
    let rest = plain.strip_prefix(['E', 'e']).unwrap_or_default();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > 6 || rest[digits..].starts_with(char::is_alphanumeric) {
        return (text.trim().to_ascii_uppercase(), None);
    }
    let label = format!("E{}", &rest[..digits]);
    let after = rest[digits..].trim_start_matches([']', ')', '`', ',', ' ']);
    let after = after.trim_start_matches(|c: char| c.is_alphabetic() || matches!(c, ':' | '-' | ' ' | '#'));
    let number = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        Some((text[..digits].parse::<u32>().ok()?, digits))
    };
    let Some((first, digits)) = number(after) else { return (label, None) };
    let after = after[digits..].trim_start();
    let more =
        after.strip_prefix(['-', '\u{2013}']).or_else(|| after.strip_prefix("to ")).map(str::trim_start);
    let last = more.and_then(number).map_or(first, |(last, _)| last);
    (label, Some(LineSpan { first: first.min(last), last: first.max(last) }))
}

#[cfg(test)]
mod unit {
    use super::{LineSpan, citation};

    #[test]
    fn every_form_that_is_printed_is_read() {
        for (text, lines) in [
            ("E1", None),
            (" e1 ", None),
            ("[E1]", None),
            ("[E1] log of container build", None),
            ("E1:451", Some((451, 451))),
            ("E1:451-460", Some((451, 460))),
            ("E1:460-451", Some((451, 460))),
            ("E1-451- text of 7", Some((451, 451))),
            ("`E1:451: error 7`", Some((451, 451))),
            ("[E1:451]", Some((451, 451))),
            ("E1, lines 3 to 5", Some((3, 5))),
            ("E1 line 3", Some((3, 3))),
        ] {
            let lines = lines.map(|(first, last)| LineSpan { first, last });
            assert_eq!(citation(text), ("E1".to_owned(), lines), "{text}");
        }
        assert_eq!(citation("the log").0, "THE LOG");
        assert_eq!(citation("E1x").0, "E1X");
        assert_eq!(citation("").0, "");
    }
}
