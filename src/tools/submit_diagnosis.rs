//! `submit_diagnosis`: ends an investigation with a conclusion whose claims cite lines.

use super::spec;
use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::blocking::BlockingError;
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Claim, Confidence, Diagnosis, Evidence, FailureClass, ToolSpec};
use crate::evidence::redact::Redactor;
use crate::evidence::untrusted::hidden;
use crate::evidence::verify::{Sources, verify_within};
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
    told: Option<Arc<str>>,
    given_back: AtomicBool,
}

/// The evidence of a run, with what else the analyst was told.
struct Told {
    pieces: Vec<Arc<Evidence>>,
    told: Option<Arc<str>>,
}

impl Sources for Told {
    fn text(&self, label: &str) -> Option<&str> {
        self.pieces
            .iter()
            .find(|piece| piece.label.eq_ignore_ascii_case(label))
            .map(|piece| piece.text.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        let told = self.told.as_deref()?;
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
        Self { workspace, told: told.map(Arc::from), given_back: AtomicBool::new(false) }
    }
}

/// Checks a diagnosis against what is in the workspace now, on its pool; `told` as above. Returns it with what is wrong.
///
/// # Errors
/// Those of [`BlockingError`].
pub async fn verified(
    mut diagnosis: Diagnosis,
    workspace: &Workspace,
    told: Option<Arc<str>>,
) -> Result<(Diagnosis, Vec<String>), BlockingError> {
    let sources = Told { pieces: workspace.pieces(), told };
    let verified = workspace.work(move |deadline| {
        let problems = verify_within(&mut diagnosis, &sources, deadline)?;
        Ok((diagnosis, problems))
    });
    verified.await
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
        let parsed: Arguments = match serde_json::from_value(arguments.clone()) {
            Ok(parsed) => parsed,
            Err(error) => return ToolAnswer::Failed(format!("the diagnosis cannot be read: {error}")),
        };
        let checked = async {
            let submitted = read(parsed, "", &self.workspace).await?;
            verified(submitted, &self.workspace, self.told.clone()).await
        };
        let problems = match checked.await {
            Ok((_, problems)) => problems,
            Err(error) => {
                return ToolAnswer::Failed(format!(
                    "the diagnosis could not be checked: {error}; submit it again"
                ));
            }
        };
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
///
/// # Errors
/// Those of [`BlockingError`].
pub async fn diagnosis(
    arguments: Option<Value>,
    analyst: &str,
    workspace: &Workspace,
) -> Result<Option<Diagnosis>, BlockingError> {
    let Some(arguments) = arguments.and_then(|arguments| serde_json::from_value(arguments).ok()) else {
        return Ok(None);
    };
    read(arguments, analyst, workspace).await.map(Some)
}

async fn read(
    arguments: Arguments,
    analyst: &str,
    workspace: &Workspace,
) -> Result<Diagnosis, BlockingError> {
    let analyst = analyst.to_owned();
    workspace.redacting(move |redactor, deadline| redacted(arguments, analyst, redactor, deadline)).await
}

fn redacted(
    arguments: Arguments,
    analyst: String,
    redactor: &mut Redactor,
    deadline: &Deadline,
) -> Result<Diagnosis, DeadlinePassed> {
    let mut plain = |text: &str| redactor.redact_within(&hidden::removed(text.trim()), deadline);
    let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut claims = Vec::new();
    for claim in arguments.claims.into_iter().take(MAX_ITEMS) {
        claims.push(Claim {
            statement: one_line(plain(&claim.statement)?),
            evidence: claim.evidence.to_ascii_uppercase(),
            quote: claim.quote.as_deref().map(&mut plain).transpose()?,
            verified: false,
            paraphrased: false,
            ..claim
        });
    }
    let steps = arguments.next_steps.iter().take(MAX_ITEMS).map(|step| plain(step).map(one_line));
    let next_steps = steps.collect::<Result<_, _>>()?;
    Ok(Diagnosis {
        title: one_line(plain(&arguments.title)?).chars().take(MAX_TITLE).collect(),
        cause: plain(&arguments.cause)?,
        class: arguments.class,
        confidence: arguments.confidence,
        claims,
        next_steps,
        analyst,
        note: None,
        not_found: Vec::new(),
        runbooks: Vec::new(),
    })
}
