//! Investigate: brief the agent, let it work, check every claim; the built-in analyst finishes when the model does not.

use super::brief;
use super::collect::Collected;
use super::run::{Halt, Held};
use crate::agent::{Agent, Outcome, Workspace};
use crate::app::App;
use crate::clock;
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::runs::{self, Work};
use crate::db::{incidents, reports};
use crate::domain::{Diagnosis, Evidence, Incident, Message, Run, StepName, StopReason};
use crate::evidence::verify::{Sources, verify};
use crate::knowledge::Investigated;
use crate::llm::Model;
use crate::tools::{SUBMIT_DIAGNOSIS, SubmitDiagnosis, Told, diagnosis, reading};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Finds the cause, stores the run, the diagnosis and what the tools returned. What was concluded before is read back.
pub(super) async fn investigate(
    app: &App,
    held: &Held<'_>,
    incident: &Incident,
    collected: Collected,
    cancel: &CancellationToken,
) -> Result<Diagnosis, Halt> {
    if let Some(concluded) = &incident.diagnosis {
        // Maybe from another report's evidence: its claims have to hold in this one's.
        let mut diagnosis = concluded.clone();
        verify(&mut diagnosis, &Collection(&collected.pieces));
        return Ok(diagnosis);
    }
    let started = Instant::now();
    let Collected { pieces, gaps, redactor } = collected;
    let workspace = Arc::new(Workspace::new(pieces, redactor));
    let (brief, runbooks) = brief::brief(app, (&held.report.failure, incident), &workspace, &gaps).await?;
    let told = brief::told(&brief);
    let (mut diagnosis, mut runs) = conclude(app, &workspace, brief, cancel).await?;
    // The runbooks' words are people's: the built-in analyst invents no names.
    let told = (diagnosis.analyst != app.rules.name()).then_some(told.as_str());
    verify(&mut diagnosis, &Told::new(&workspace, told));
    diagnosis.runbooks = runbooks;
    if let Some(run) = runs.last_mut() {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        run.claims = count(diagnosis.claims.len());
        run.claims_verified = count(diagnosis.claims.iter().filter(|claim| claim.verified).count());
    }
    store(
        app,
        held,
        incident,
        &Concluded { diagnosis: &diagnosis, runs: &runs, workspace: &workspace, started },
    )
    .await?;
    Ok(diagnosis)
}

/// Pieces of another report with the same cause; its names were checked where they came from.
struct Collection<'a>(&'a [Evidence]);

impl Sources for Collection<'_> {
    fn text(&self, label: &str) -> Option<&str> {
        self.0.iter().find(|piece| piece.label == label).map(|piece| piece.text.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        None
    }
}

/// The configured model first; the rules analyst when there is none or when it does not conclude.
async fn conclude(
    app: &App,
    workspace: &Arc<Workspace>,
    brief: Vec<Message>,
    cancel: &CancellationToken,
) -> Result<(Diagnosis, Vec<Run>), Halt> {
    let mut runs = Vec::new();
    let mut note = None;
    if let Some(model) = &app.model {
        let (outcome, run) = run(app, model, workspace, brief.clone(), cancel).await;
        if outcome.stop == StopReason::Cancelled {
            return Err(Halt::Stopping);
        }
        let found = outcome.finish.clone().and_then(|value| diagnosis(value, model.name(), workspace));
        runs.push(run);
        if let Some(found) = found {
            return Ok((found, runs));
        }
        let why = outcome.detail.unwrap_or_else(|| outcome.stop.as_str().to_owned());
        tracing::warn!(
            model = model.name(),
            stop = outcome.stop.as_str(),
            "the model did not conclude: the rules analyst takes over"
        );
        note = Some(workspace.redact(&format!(
            "The model {} did not conclude ({why}); the built-in rules analyst did.",
            model.name()
        )));
    }
    let (outcome, run) = run(app, &app.rules, workspace, brief, cancel).await;
    if outcome.stop == StopReason::Cancelled {
        return Err(Halt::Stopping);
    }
    runs.push(run);
    let found = outcome.finish.and_then(|value| diagnosis(value, app.rules.name(), workspace));
    let mut found = found
        .ok_or_else(|| Halt::Failed("neither the model nor the rules analyst came to a conclusion".into()))?;
    found.note = note;
    Ok((found, runs))
}

async fn run(
    app: &App,
    model: &Arc<dyn Model>,
    workspace: &Arc<Workspace>,
    brief: Vec<Message>,
    cancel: &CancellationToken,
) -> (Outcome, Run) {
    let names = (!Arc::ptr_eq(model, &app.rules)).then(|| brief::told(&brief));
    let submit = SubmitDiagnosis::new(Arc::clone(workspace), names);
    // Only tools that look: nothing that changes the cluster or the forge is offered during triage.
    let tools = reading(app, workspace, Some(Arc::new(submit)));
    let agent = Agent {
        model: Arc::clone(model),
        tools,
        finishing_tool: Some(SUBMIT_DIAGNOSIS),
        budget: app.config.agent,
        workspace: Arc::clone(workspace),
        watcher: None,
        review: None,
    };
    let (started_at, started) = (clock::now(), Instant::now());
    let outcome = agent.run(brief, cancel).await;
    let run = app.record(model, &outcome, started_at, started);
    (outcome, run)
}

struct Concluded<'a> {
    diagnosis: &'a Diagnosis,
    runs: &'a [Run],
    workspace: &'a Workspace,
    started: Instant,
}

/// One transaction: runs, tool results, diagnosis and both steps.
async fn store(
    app: &App,
    held: &Held<'_>,
    incident: &Incident,
    concluded: &Concluded<'_>,
) -> Result<(), Halt> {
    let Concluded { diagnosis, runs, workspace, started } = concluded;
    let now = clock::now();
    let added: Vec<NewEvidence> = workspace.added().iter().map(|piece| NewEvidence::of(piece)).collect();
    let calls: usize = runs.iter().map(|run| run.tool_calls.len()).sum();
    let turns: i32 = runs.iter().map(|run| run.turns).sum();
    let verified = diagnosis.claims.iter().filter(|claim| claim.verified).count();
    let found = format!("{} by {}, {turns} turns, {calls} tool calls", diagnosis.title, diagnosis.analyst);
    let checked = format!("{verified} of {} claims found in the evidence", diagnosis.claims.len());
    let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let mut transaction = app.pool.begin().await?;
    held.check(&mut transaction, app).await?;
    for run in *runs {
        runs::insert(&mut transaction, Work::Report(held.report.id), run).await?;
    }
    if !added.is_empty() {
        evidence::insert(&mut *transaction, Owner::Report(held.report.id), &added, now).await?;
    }
    incidents::set_diagnosis(&mut *transaction, incident.id, diagnosis).await?;
    let investigated = Investigated { incident: incident.id, failure: &held.report.failure, diagnosis };
    app.knowledge.remember(&mut transaction, &investigated).await?;
    reports::add_step(&mut *transaction, held.report.id, StepName::Investigate, &found, (now, elapsed))
        .await?;
    reports::add_step(&mut *transaction, held.report.id, StepName::Verify, &checked, (now, 0)).await?;
    transaction.commit().await?;
    Ok(())
}
