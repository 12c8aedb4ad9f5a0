//! `submit_diagnosis`: ends an investigation with a diagnosis whose claims cite lines.

use super::spec;
use crate::agent::{Tool, ToolAnswer, Workspace, estimate_tool};
use crate::blocking::BlockingError;
use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{
    Claim, Confidence, Diagnosis, Evidence, EvidenceKind, FailureClass, LineSpan, ToolSpec, citation,
};
use crate::evidence::redact::Redactor;
use crate::evidence::signature::SignatureSet;
use crate::evidence::untrusted::hidden;
use crate::evidence::verify::{Checked, Sources, check_within};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Name of the tool.
pub const NAME: &str = "submit_diagnosis";
/// Maximum length of a title in characters.
const MAX_TITLE: usize = 120;
/// Maximum number of claims and of steps.
const MAX_ITEMS: usize = 10;

/// Accepts a diagnosis. Returns it once for revision if a part is not supported.
pub struct SubmitDiagnosis {
    workspace: Arc<Workspace>,
    /// `None` for the built-in analyst, for which only the cited lines are checked.
    briefed: Option<Briefed>,
    given_back: AtomicBool,
}

/// Information that an analyst received in addition to the evidence.
#[derive(Debug, Clone)]
pub struct Briefed {
    /// Report of the failure; names may come from it.
    pub told: Arc<str>,
    /// Instructions, which are not findings.
    pub orders: Arc<str>,
    /// Signatures that link lines to runbooks.
    pub signatures: Arc<SignatureSet>,
}

/// Evidence of a run and other information that the analyst received.
struct VerificationSources {
    pieces: Vec<Arc<Evidence>>,
    known: Vec<String>,
    guidance: Vec<Arc<str>>,
    briefed: Option<Briefed>,
}

impl VerificationSources {
    /// Clears lines of a piece that repeat texts sent by the analyst, because an echo proves nothing.
    fn forget(&mut self, label: &str, sent: &[String]) {
        let Some(piece) = self.pieces.iter_mut().find(|piece| piece.label == label) else { return };
        // Also matches a text that the tool split into lines.
        let repeats = |line: &str| {
            let line = line.trim().to_lowercase();
            let words = line.split_whitespace().count() >= 3;
            sent.iter().any(|sent| line.contains(sent.as_str()) || words && sent.contains(&line))
        };
        if piece.text.lines().any(repeats) {
            let kept = piece.text.lines().map(|line| if repeats(line) { "" } else { line });
            let text = kept.collect::<Vec<_>>().join("\n");
            *piece = Arc::new(Evidence { text, ..Evidence::clone(piece) });
        }
    }

    fn piece(&self, label: &str) -> Option<&Evidence> {
        self.pieces.iter().find(|piece| piece.label.eq_ignore_ascii_case(label)).map(|piece| &**piece)
    }
}

impl Sources for VerificationSources {
    fn text(&self, label: &str) -> Option<&str> {
        self.piece(label).map(|piece| piece.text.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        let told = &*self.briefed.as_ref()?.told;
        // Runbooks and earlier incidents describe events elsewhere.
        let is_known = |piece: &&Arc<Evidence>| !self.known.contains(&piece.label);
        Some(self.pieces.iter().filter(is_known).map(|piece| piece.text.as_str()).chain([told]).collect())
    }

    fn proves(&self, label: &str) -> bool {
        let is_known = self.known.iter().any(|known| known.eq_ignore_ascii_case(label));
        self.piece(label).is_some_and(|piece| piece.kind != EvidenceKind::GoodLog && !is_known)
    }

    fn guidance(&self) -> Vec<&str> {
        self.guidance.iter().map(|passage| &**passage).collect()
    }

    fn meaning(&self, label: &str, lines: LineSpan) -> String {
        let (Some(piece), Some(briefed)) = (self.piece(label), &self.briefed) else { return String::new() };
        briefed.signatures.said_of(piece.cited(lines))
    }

    fn orders(&self) -> Vec<&str> {
        let orders = self.briefed.as_ref().map(|briefed| &*briefed.orders);
        orders.into_iter().chain(DESCRIPTIONS.iter().map(String::as_str)).collect()
    }
}

/// All descriptions in the tool's own schema.
static DESCRIPTIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn collect(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                found.extend(map.get("description").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = vec![SPEC.description.clone()];
    collect(&SPEC.input_schema, &mut found);
    found
});

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let text = |description: &str| json!({"type": "string", "minLength": 1, "description": description});
    let claim = json!({
        "type": "object",
        "properties": {
            "evidence": text("label of a piece, such as E1"),
            "first_line": {"type": "integer", "minimum": 1, "description": "number of the first line cited"},
            "last_line": {"type": "integer", "minimum": 1, "description": "number of the last one"},
            "quote": {"type": "string", "description": "copied from these lines, word for word"},
            "statement": text("says in few words what the quote shows")
        },
        "propertyOrdering": ["evidence", "first_line", "quote", "statement"],
        "required": ["statement", "evidence"]
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "claims": {"type": "array", "items": claim, "description": "one to four; a claim that cannot be checked is not filed"},
            "cause": text("one to four sentences: says why it failed, in the words of the lines claimed"),
            "title": text("one line: names that cause; heads an issue"),
            "class": {"type": "string", "enum": FailureClass::NAMES},
            "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
            "next_steps": {"type": "array", "items": {"type": "string"}, "description": "says what a person does, first thing first; takes names from the evidence or a runbook"}
        },
        "propertyOrdering": ["claims", "cause", "title", "class", "confidence", "next_steps"],
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
    claims: Vec<Claimed>,
    #[serde(default)]
    next_steps: Vec<String>,
}

/// A claim as submitted.
#[derive(Deserialize)]
struct Claimed {
    statement: String,
    evidence: String,
    first_line: Option<u32>,
    last_line: Option<u32>,
    quote: Option<String>,
}

impl SubmitDiagnosis {
    /// Creates the tool for a workspace. Without `briefed`, only the cited lines are checked.
    #[must_use]
    pub fn new(workspace: Arc<Workspace>, briefed: Option<Briefed>) -> Self {
        Self { workspace, briefed, given_back: AtomicBool::new(false) }
    }

    /// Number of tokens of the tool's description.
    #[must_use]
    pub fn tokens() -> usize {
        estimate_tool(&SPEC)
    }
}

/// Checks a diagnosis against the current evidence of the workspace, on its pool. Without `briefed`, only the cited lines
/// are checked.
///
/// # Errors
/// See [`BlockingError`].
pub async fn checked(
    diagnosis: Diagnosis,
    workspace: &Workspace,
    briefed: Option<Briefed>,
) -> Result<Checked, BlockingError> {
    let (known, guidance, sent) = (workspace.known(), workspace.guidance(), workspace.sent());
    let mut sources = VerificationSources { pieces: workspace.pieces(), known, guidance, briefed };
    let check = move |deadline: &Deadline| {
        for (label, sent) in &sent {
            sources.forget(label, sent);
            deadline.check()?;
        }
        check_within(diagnosis, &sources, deadline)
    };
    workspace.work(check).await
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
        let check = async {
            let submitted = read(parsed, "", &self.workspace).await?;
            checked(submitted, &self.workspace, self.briefed.clone()).await
        };
        let problems = match check.await {
            Ok(Checked { problems, .. }) => problems,
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

/// Converts accepted arguments to a diagnosis, redacted and truncated. Returns `None` for invalid arguments.
///
/// # Errors
/// See [`BlockingError`].
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
        // Line numbers may be separate or part of the label, as search results show them.
        let (evidence, lines) = citation(&claim.evidence);
        let first_line = claim.first_line.or(lines.map(|lines| lines.first)).unwrap_or_default();
        claims.push(Claim {
            statement: one_line(plain(&claim.statement)?),
            evidence,
            first_line,
            last_line: claim.last_line.or(lines.map(|lines| lines.last)).unwrap_or(first_line),
            quote: claim.quote.as_deref().map(&mut plain).transpose()?,
            verified: false,
            paraphrased: false,
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
        left_out: 0,
        runbooks: Vec::new(),
    })
}
