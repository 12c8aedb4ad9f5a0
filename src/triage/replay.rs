//! Replay: an investigation is run again from what is stored. The same loop gets the same brief; evidence is read where it is kept,
//! and what other tools told comes from the record. No server is asked, nothing is written down and nothing is filed.

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

/// Requests of one run that are looked through.
const MAX_CALLS: i64 = 1_000;
/// What a call is answered that was not made then.
const NOT_RECORDED: &str = "Not recorded: this investigation is run again from what was stored, and no server is asked. There is no result for these arguments. Go on with the evidence there is.";

/// What a replay is done with.
pub struct Replay {
    /// Who concludes now.
    pub analyst: Analyst,
    /// The instructions of today instead of those of then.
    pub current_prompt: bool,
}

/// Who concludes.
pub enum Analyst {
    /// A model.
    Model(Arc<dyn Model>),
    /// The rules analyst, from the signatures of today.
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

/// What one of the two runs came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Model's name or `rules`.
    pub analyst: String,
    /// Why it ended.
    pub stop: String,
    /// Class of the cause; absent when it did not conclude, like what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The cause in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Hash of the line that proves it first, without what changes from run to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Claims.
    pub claims: usize,
    /// Those found in the evidence.
    pub verified: usize,
    /// Completions.
    pub turns: i32,
    /// Calls.
    pub tool_calls: usize,
    /// Tokens.
    pub usage: Usage,
    /// In the currency of the configured prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Milliseconds.
    pub duration_ms: i64,
}

/// Both runs side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The recorded run.
    pub run: Uuid,
    /// Its report.
    pub report: Uuid,
    /// The cause it was placed under: the hash of its evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether both conclude the same: the same class, proved by at least one line that both cite.
    pub same: bool,
    /// Whether the templates of the prompts are the same today.
    pub same_prompts: bool,
    /// Whether what is stored is what the model was asked then, by the hash in the audit record; absent when that row is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic: Option<bool>,
    /// As recorded.
    pub recorded: Side,
    /// As it is now.
    pub replayed: Side,
    /// Calls that have no recorded result.
    pub not_recorded: Vec<String>,
}

/// Runs an investigation again: that of a run, or the latest one of a report.
///
/// # Errors
/// There is no recording of that id, the database is away, or it was interrupted.
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

/// Compares the first request as it would be made of what is stored with the one that is on record.
async fn authentic(pool: &PgPool, recorded: &Recorded) -> sqlx::Result<Option<bool>> {
    let Recorded { run, recording, .. } = recorded;
    let filter = audit::Filter {
        run: Some(run.id),
        action: Some("model.call".to_owned()),
        ..audit::Filter::default()
    };
    let rows = audit::list(pool, &filter, MAX_CALLS).await?;
    // On the only turn there is nothing but to conclude.
    let last = recording.budget.turns == 1;
    let choice = if last { ToolChoice::Only(SUBMIT_DIAGNOSIS.to_owned()) } else { ToolChoice::Call };
    let tools = recording.tools.clone().into();
    let first = Request { messages: recording.messages.clone(), tools, choice, account: None };
    // Newest first.
    Ok(rows.last().map(|row| row.data["request"] == llm::request_hash(&first)))
}

/// Why there is nothing to replay, and what to do.
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
    // What it does is compared, and put on no record.
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

/// What a recorded run is run again with.
struct Rerun<'a> {
    recorded: &'a Recorded,
    workspace: &'a Arc<Workspace>,
    answers: &'a Arc<Answers>,
    recorder: &'a Recorder,
}

/// A model with the tools that it was offered then.
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

/// What tools told then, by their name and arguments.
struct Answers {
    known: HashMap<String, String>,
    missed: Mutex<Vec<String>>,
}

impl Answers {
    /// Of the run itself, then of the other runs of its report; the first answer to a call is the whole one.
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

/// A tool that answers as it did then.
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
        // They were redacted before they were recorded.
        let key = key(&self.spec.name, &self.workspace.redact(&arguments.to_string()).await);
        if let Some(known) = self.answers.known.get(&key) {
            // As the model was shown it: fenced, and cut where it was.
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

/// The lines that prove a diagnosis, in the order of its claims, without what changes from run to run.
fn cited(diagnosis: &Diagnosis, pieces: &[Evidence]) -> Vec<String> {
    let claims = diagnosis.claims.iter().filter(|claim| claim.verified);
    let lines = claims.flat_map(|claim| {
        let piece = pieces.iter().find(|piece| piece.label == claim.evidence);
        let lines = claim.lines();
        piece.into_iter().flat_map(move |piece| piece.cited(lines)).map(template::mask)
    });
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Models say the same in different words, so it is not the words that are compared: the class has to be the same, and a line that
/// proves one has to prove the other. Without any such line in both, their titles have to be the same.
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

/// The analyst of that name: `rules`, or the configured endpoint asked for such a model.
///
/// # Errors
/// A model is asked for, and no endpoint is configured.
pub fn analyst(app: &App, name: &str) -> anyhow::Result<Analyst> {
    if name == rules::NAME {
        return Ok(Analyst::Rules);
    }
    let model = app.model_named(name).with_context(|| {
        format!("no model endpoint is configured to ask `{name}`: set `model.url` and `model.name`, or replay with `--model rules`")
    })?;
    Ok(Analyst::Model(model))
}
