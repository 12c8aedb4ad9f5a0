//! `submit_diagnosis`: ends an investigation with a conclusion whose claims cite lines.

use super::spec;
use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::domain::{Claim, Confidence, Diagnosis, Evidence, FailureClass, ToolSpec};
use crate::evidence::untrusted::hidden;
use crate::evidence::verify::{Sources, verify};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Name of the tool.
pub const NAME: &str = "submit_diagnosis";
/// Longest title.
const MAX_TITLE: usize = 120;
/// Most claims and steps that are kept.
const MAX_ITEMS: usize = 10;

/// Accepts a diagnosis; one that does not hold is given back once.
pub struct SubmitDiagnosis {
    workspace: Arc<Workspace>,
    /// What else the analyst was told, for its names to be looked up in. Without it names are not checked.
    told: Option<String>,
    given_back: AtomicBool,
}

/// The evidence of a run, with what else the analyst was told.
pub struct Told<'a> {
    pieces: Vec<Arc<Evidence>>,
    told: Option<&'a str>,
}

impl<'a> Told<'a> {
    /// What is in the workspace now; `told` as above.
    #[must_use]
    pub fn new(workspace: &Workspace, told: Option<&'a str>) -> Self {
        Self { pieces: workspace.pieces(), told }
    }
}

impl Sources for Told<'_> {
    fn text(&self, label: &str) -> Option<&str> {
        self.pieces
            .iter()
            .find(|piece| piece.label.eq_ignore_ascii_case(label))
            .map(|piece| piece.text.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        let told = self.told?;
        Some(self.pieces.iter().map(|piece| piece.text.as_str()).chain([told]).collect())
    }
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let text = |description: &str| json!({"type": "string", "minLength": 1, "description": description});
    let claim = json!({
        "type": "object",
        "properties": {
            "statement": text("what the cited lines show"),
            "evidence": text("label, for example E1"),
            "first_line": {"type": "integer", "minimum": 1},
            "last_line": {"type": "integer", "minimum": 1},
            "quote": {"type": "string", "description": "the decisive words, copied from these lines"}
        },
        "required": ["statement", "evidence", "first_line", "last_line"]
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "title": text("one line that names the cause, for an issue's title"),
            "cause": text("the cause in one to four sentences"),
            "class": {"type": "string", "enum": ["code", "test", "dependency", "configuration", "infrastructure", "flaky", "unknown"]},
            "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
            "claims": {"type": "array", "items": claim, "description": "each with the lines it rests on; claims that cannot be checked are not filed"},
            "next_steps": {"type": "array", "items": {"type": "string"}, "description": "what to do, first thing first"}
        },
        "required": ["title", "cause", "class", "confidence", "claims"]
    });
    let description = "Ends the investigation with its conclusion. Cite the lines that prove each claim.";
    spec(NAME, description, schema)
});

#[derive(Deserialize)]
struct Arguments {
    title: String,
    cause: String,
    class: FailureClass,
    confidence: Confidence,
    #[serde(default)]
    claims: Vec<Claim>,
    #[serde(default)]
    next_steps: Vec<String>,
}

impl SubmitDiagnosis {
    /// Over this workspace. `told` is what else the analyst knows; without it names are not checked.
    #[must_use]
    pub fn new(workspace: Arc<Workspace>, told: Option<String>) -> Self {
        Self { workspace, told, given_back: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Tool for SubmitDiagnosis {
    fn spec(&self) -> &ToolSpec {
        &SPEC
    }

    fn reads_evidence(&self) -> bool {
        true
    }

    async fn call(&self, arguments: Value, _cancel: CancellationToken) -> ToolAnswer {
        let mut submitted = match serde_json::from_value(arguments.clone()) {
            Ok(parsed) => read(parsed, "", &self.workspace),
            Err(error) => return ToolAnswer::Failed(format!("the diagnosis cannot be read: {error}")),
        };
        let problems = verify(&mut submitted, &Told::new(&self.workspace, self.told.as_deref()));
        if problems.is_empty() || self.given_back.swap(true, Ordering::Relaxed) {
            return ToolAnswer::Finish(arguments);
        }
        let known: Vec<String> = self.workspace.pieces().iter().map(|piece| piece.label.clone()).collect();
        ToolAnswer::Revise(
            arguments,
            format!(
                "checked against the evidence ({}), this does not hold:\n- {}\nRead the lines again and submit once more. What still does \
                 not hold is left out.",
                known.join(", "),
                problems.join("\n- ")
            ),
        )
    }
}

/// The accepted arguments as a diagnosis, redacted and capped. `None` when they are none.
#[must_use]
pub fn diagnosis(arguments: Value, analyst: &str, workspace: &Workspace) -> Option<Diagnosis> {
    Some(read(serde_json::from_value(arguments).ok()?, analyst, workspace))
}

fn read(arguments: Arguments, analyst: &str, workspace: &Workspace) -> Diagnosis {
    let plain = |text: &str| workspace.redact(&hidden::removed(text.trim()));
    let line = |text: &str| plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let claims = arguments.claims.into_iter().take(MAX_ITEMS).map(|claim| Claim {
        statement: line(&claim.statement),
        evidence: claim.evidence.to_ascii_uppercase(),
        quote: claim.quote.map(|quote| plain(&quote)),
        verified: false,
        paraphrased: false,
        ..claim
    });
    Diagnosis {
        title: line(&arguments.title).chars().take(MAX_TITLE).collect(),
        cause: plain(&arguments.cause),
        class: arguments.class,
        confidence: arguments.confidence,
        claims: claims.collect(),
        next_steps: arguments.next_steps.iter().take(MAX_ITEMS).map(|step| line(step)).collect(),
        analyst: analyst.to_owned(),
        note: None,
        not_found: Vec::new(),
        runbooks: Vec::new(),
    }
}
