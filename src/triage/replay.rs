//! Replay: repeats an investigation from stored data with the same agent loop and the same brief. Evidence is read from
//! storage, results of other tools from the recording. Calls no tool server, stores nothing and files nothing.

use super::brief;
use super::investigate::sanitize_diagnosis;
use super::rules::Rules;
use crate::agent::{Agent, Tool, ToolAnswer, Workspace};
use crate::app::App;
use crate::audit::Recorder;
use crate::clock::Started;
use crate::db::audit;
use crate::db::evidence::{self, Owner};
use crate::db::recordings::{self, Recorded};
use crate::db::reports;
use crate::domain::{
    Actor, Diagnosis, Evidence, Message, Principal, Run, StopReason, ToolSpec, Usage, hash, sorted,
};
use crate::evidence::redact::Redactor;
use crate::evidence::{rules, template};
use crate::llm::{self, Model, Request, ToolChoice};
use crate::tools::{
    Briefed, ReadEvidence, SUBMIT_DIAGNOSIS, SearchEvidence, SubmitDiagnosis, checked, diagnosis,
};
use anyhow::Context as _;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Maximum number of model calls read from the audit record of a run.
const MAX_CALLS: i64 = 1_000;
/// Result of a tool call that was not recorded.
const NOT_RECORDED: &str = "Not recorded: this investigation is run again from what was stored, and no server is asked. There is no result for these arguments. Go on with the evidence there is.";

/// Options of a replay.
pub struct Replay {
    /// The analyst of the replay.
    pub analyst: Analyst,
    /// Whether to use the current system prompt instead of the recorded one.
    pub current_prompt: bool,
}

/// The analyst that concludes.
pub enum Analyst {
    /// A model.
    Model(Arc<dyn Model>),
    /// The rules analyst with the current signatures.
    Rules,
}

impl Analyst {
    fn name(&self) -> &str {
        match self {
            Self::Model(model) => model.name(),
            Self::Rules => rules::NAME,
        }
    }
}

/// Result of one of the two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Name of the model, or `rules`.
    pub analyst: String,
    /// The stop reason.
    pub stop: String,
    /// Class of the cause. Absent without a diagnosis, like the next three fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Title in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Description of the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Hash of the first line of the proof, with variable parts masked. Absent when no line is proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Number of claims.
    pub claims: usize,
    /// Number of claims verified in the evidence.
    pub verified: usize,
    /// Number of completions.
    pub turns: i32,
    /// Number of tool calls.
    pub tool_calls: usize,
    /// Token usage.
    pub usage: Usage,
    /// Cost in the currency of the configured prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Duration in milliseconds.
    pub duration_ms: i64,
}

/// Comparison of the recorded run with the replayed run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The recorded run.
    pub run: Uuid,
    /// The report of the run.
    pub report: Uuid,
    /// Fingerprint of the cause: the hash of its evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether both runs agree: same class, and a line cited as proof by both, or the same title if neither cites a line.
    pub same: bool,
    /// Whether the prompt templates are unchanged.
    pub same_prompts: bool,
    /// Whether the stored data gives the request hash of the audit record. Absent when the audit record is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic: Option<bool>,
    /// The recorded result.
    pub recorded: Side,
    /// The result of the replay.
    pub replayed: Side,
    /// Tool calls without a recorded result.
    pub not_recorded: Vec<String>,
}

/// Replays the investigation of a run, or the latest investigation of a report.
///
/// # Errors
/// No recording has this id, the report is gone, the analyst fails, the database is unavailable, or the replay was
/// interrupted.
pub async fn replay(
    app: &App,
    id: Uuid,
    replay: &Replay,
    cancel: &CancellationToken,
) -> anyhow::Result<Compared> {
    let recorded = match recordings::get(&app.pool, id).await? {
        Some(recorded) => recorded,
        None => anyhow::bail!(missing(&app.pool, id).await?),
    };
    let pieces = evidence::of(&app.pool, Owner::Report(recorded.report), &Principal::nobody()).await?;
    let redactor = Redactor::new().and_emails(app.config.privacy.redact_emails);
    let workspace = Workspace::new(pieces.clone(), redactor, app.blocking.clone()).sharing(&app.schemas);
    let workspace = Arc::new(workspace.fenced_with(&recorded.recording.fence));
    let again = again(app, &recorded, &workspace, replay, cancel).await?;
    let original = recorded.recording.diagnosis.as_ref();
    Ok(Compared {
        run: recorded.run.id,
        report: recorded.report,
        same: same(original, again.diagnosis.as_ref(), &pieces),
        same_prompts: recorded.recording.prompts == brief::prompts_hash(&app.prompts),
        authentic: authentic(&app.pool, &recorded).await?,
        recorded: side(&recorded.run, original, &pieces),
        replayed: side(&again.run, again.diagnosis.as_ref(), &pieces),
        not_recorded: again.not_recorded,
        fingerprint: recorded.fingerprint,
    })
}

/// Compares the first request, rebuilt from the stored data, with the hash in the audit record.
async fn authentic(pool: &PgPool, recorded: &Recorded) -> sqlx::Result<Option<bool>> {
    let Recorded { run, recording, .. } = recorded;
    let filter = audit::Filter {
        run: Some(run.id),
        action: Some("model.call".to_owned()),
        ..audit::Filter::default()
    };
    let rows = audit::list(pool, &filter, MAX_CALLS).await?;
    // With a budget of one turn, the model can only conclude.
    let last = recording.budget.turns == 1;
    let choice = if last { ToolChoice::Only(SUBMIT_DIAGNOSIS.to_owned()) } else { ToolChoice::Call };
    let tools = recording.tools.clone().into();
    let first = Request { messages: recording.messages.clone(), tools, choice, account: None };
    // Rows are sorted newest first.
    Ok(rows.last().map(|row| row.data["request"] == llm::request_hash(&first)))
}

/// Explains why there is no recording, and what to do.
async fn missing(pool: &PgPool, id: Uuid) -> sqlx::Result<String> {
    if let Some(leader) = recordings::investigated_by(pool, id).await? {
        return Ok(format!(
            "report {id} was not investigated itself: its cause was, for another report; replay that one: {leader}"
        ));
    }
    Ok(format!(
        "there is no recorded investigation {id}: neither a run nor a report of that id, or one of before recordings were kept"
    ))
}

struct Again {
    run: Run,
    diagnosis: Option<Diagnosis>,
    not_recorded: Vec<String>,
}

async fn again(
    app: &App,
    recorded: &Recorded,
    workspace: &Arc<Workspace>,
    replay: &Replay,
    cancel: &CancellationToken,
) -> anyhow::Result<Again> {
    let mut messages = recorded.recording.messages.clone();
    if replay.current_prompt
        && let Some(Message::System { text }) = messages.first_mut()
    {
        *text = app.prompts.render("triage-system", json!({}))?;
    }
    let reported = reports::get(&app.pool, recorded.report).await?;
    let failure = &reported.context("the report is gone")?.failure;
    let answers = Arc::new(Answers::of(recorded));
    let started = Started::now();
    // The replay writes no audit events.
    let recorder = Recorder::new(Actor::service(""));
    let (outcome, briefed) = match &replay.analyst {
        Analyst::Rules => {
            let (budget, tools) = (recorded.recording.budget, &recorded.recording.tools);
            let rules = Rules { workspace, budget, brief: &messages, tools, recorder: &recorder };
            (rules.run(app.knowledge.signatures(), cancel).await?, None)
        }
        Analyst::Model(model) => {
            let briefed = brief::briefed(failure, &messages, app.knowledge.signatures());
            let rerun = Rerun { recorded, workspace, answers: &answers, recorder: &recorder };
            let agent = agent(rerun, model, &briefed);
            (agent.run(messages, cancel).await, Some(briefed))
        }
    };
    anyhow::ensure!(outcome.stop != StopReason::Cancelled && !cancel.is_cancelled(), "interrupted");
    let analyst = replay.analyst.name();
    let run = app.record(analyst, &outcome, started);
    let mut found = diagnosis(outcome.finish, analyst, workspace).await?;
    if let Some(concluded) = found.take() {
        found = checked(concluded, workspace, briefed).await?.held;
        if let Some(concluded) = &mut found {
            sanitize_diagnosis(concluded, &app.config.privacy.links);
        }
    }
    let not_recorded = answers.missed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Again { run, diagnosis: found, not_recorded })
}

/// Inputs for repeating a recorded run.
struct Rerun<'a> {
    recorded: &'a Recorded,
    workspace: &'a Arc<Workspace>,
    answers: &'a Arc<Answers>,
    recorder: &'a Recorder,
}

/// Creates the agent with the recorded tools.
fn agent(rerun: Rerun<'_>, model: &Arc<dyn Model>, briefed: &Briefed) -> Agent {
    let Rerun { recorded, workspace, answers, recorder } = rerun;
    let submit = SubmitDiagnosis::new(Arc::clone(workspace), Some(briefed.clone()));
    let own: Vec<Arc<dyn Tool>> = vec![
        Arc::new(ReadEvidence::new(Arc::clone(workspace))),
        Arc::new(SearchEvidence::new(Arc::clone(workspace))),
        Arc::new(submit),
    ];
    let tool = |spec: &ToolSpec| -> Arc<dyn Tool> {
        own.iter().find(|tool| tool.spec().name == spec.name).map_or_else(
            || {
                let (spec, answers, workspace) = (spec.clone(), Arc::clone(answers), Arc::clone(workspace));
                Arc::new(FromRecord { spec, answers, workspace }) as Arc<dyn Tool>
            },
            Arc::clone,
        )
    };
    Agent {
        name: "triage".to_owned(),
        model: Arc::clone(model),
        tools: recorded.recording.tools.iter().map(tool).collect(),
        finishing_tool: Some(SUBMIT_DIAGNOSIS),
        budget: recorded.recording.budget,
        workspace: Arc::clone(workspace),
        watcher: None,
        review: None,
        account: None,
        recorder: recorder.clone(),
    }
}

/// Recorded tool results by tool name and arguments.
struct Answers {
    known: HashMap<String, String>,
    missed: Mutex<Vec<String>>,
}

impl Answers {
    /// Collects the results of the run, then of the report's other runs. Keeps the first result of each call, which is
    /// complete.
    fn of(recorded: &Recorded) -> Self {
        let mut known = HashMap::new();
        for call in std::iter::once(&recorded.run).chain(&recorded.others).flat_map(|run| &run.tool_calls) {
            known.entry(key(&call.name, &call.arguments)).or_insert_with(|| call.result.clone());
        }
        Self { known, missed: Mutex::default() }
    }
}

fn key(tool: &str, arguments: &str) -> String {
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let arguments = serde_json::from_str::<Value>(arguments)
        .map_or_else(|_| arguments.to_owned(), |value| sorted(value).to_string());
    format!("{tool} {arguments}")
}

/// A tool that returns recorded results.
struct FromRecord {
    spec: ToolSpec,
    answers: Arc<Answers>,
    workspace: Arc<Workspace>,
}

#[async_trait]
impl Tool for FromRecord {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _cancel: CancellationToken) -> ToolAnswer {
        // Arguments were redacted before they were recorded.
        let key = key(&self.spec.name, &self.workspace.redact(&arguments.to_string()).await);
        if let Some(known) = self.answers.known.get(&key) {
            // The recorded text is as the model saw it: fenced and possibly truncated.
            return ToolAnswer::Note(known.clone());
        }
        self.answers.missed.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        ToolAnswer::Note(NOT_RECORDED.to_owned())
    }
}

fn side(run: &Run, diagnosis: Option<&Diagnosis>, pieces: &[Evidence]) -> Side {
    let first = diagnosis.and_then(|diagnosis| cited(diagnosis, pieces).into_iter().next());
    Side {
        analyst: run.analyst.clone(),
        stop: run.stop_reason.as_str().to_owned(),
        class: diagnosis.map(|diagnosis| diagnosis.class.as_str().to_owned()),
        title: diagnosis.map(|diagnosis| diagnosis.title.clone()),
        cause: diagnosis.map(|diagnosis| diagnosis.cause.clone()),
        key: first.map(|line| hash(line)[..12].to_owned()),
        claims: diagnosis.map_or(0, |diagnosis| diagnosis.claims.len()),
        verified: diagnosis
            .map_or(0, |diagnosis| diagnosis.claims.iter().filter(|claim| claim.verified).count()),
        turns: run.turns,
        tool_calls: run.tool_calls.len(),
        usage: run.usage,
        cost: run.cost,
        duration_ms: run.duration_ms,
    }
}

/// Returns the lines that prove a diagnosis, in the order of its claims, with variable parts masked.
fn cited(diagnosis: &Diagnosis, pieces: &[Evidence]) -> Vec<String> {
    let claims = diagnosis.claims.iter().filter(|claim| claim.verified);
    let lines = claims.flat_map(|claim| {
        let piece = pieces.iter().find(|piece| piece.label == claim.evidence);
        let lines = claim.lines();
        piece.into_iter().flat_map(move |piece| piece.cited(lines)).map(template::mask)
    });
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Compares two diagnoses. Models word the same cause differently, so the classes must match and at least one line must prove
/// both. If neither cites a line, the titles must match.
fn same(one: Option<&Diagnosis>, other: Option<&Diagnosis>, pieces: &[Evidence]) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let (ours, theirs) = (cited(one, pieces), cited(other, pieces));
    let known: BTreeSet<&String> = ours.iter().collect();
    let meet = match (ours.is_empty(), theirs.is_empty()) {
        (true, true) => template::mask(&one.title) == template::mask(&other.title),
        _ => theirs.iter().any(|line| known.contains(line)),
    };
    one.class == other.class && meet
}

/// Returns the analyst of this name: `rules`, or a model of this name at the configured endpoint.
///
/// # Errors
/// The name is that of a model, and no endpoint is configured.
pub fn analyst(app: &App, name: &str) -> anyhow::Result<Analyst> {
    if name == rules::NAME {
        return Ok(Analyst::Rules);
    }
    let model = app.model_named(name).with_context(|| {
        format!("no model endpoint is configured to ask `{name}`: set `model.url` and `model.name`, or replay with `--model rules`")
    })?;
    Ok(Analyst::Model(model))
}
