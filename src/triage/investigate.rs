//! Investigate: briefs the agent, runs it and verifies every claim. The rules analyst concludes when the model does not.

use super::brief::{self, Material};
use super::collect::Collected;
use super::lease::LeasedReport;
use super::prepare;
use super::rules::Rules;
use super::step_error::{StepError, unless_stopped};
use crate::agent::{Agent, Outcome, Tool, Workspace, tools_that_fit};
use crate::app::App;
use crate::audit::Recorder;
use crate::budget::Account;
use crate::clock::{self, Started};
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::recordings::{self, Recording};
use crate::db::reports::{self, NewStep};
use crate::db::usage::{Purpose, UsageKind};
use crate::db::{audit, incidents, reinvestigate, runs};
use crate::domain::policy::CallContext;
use crate::domain::{
    AuditAction, AuditEvent, Diagnosis, Evidence, Failure, Incident, Report, Run, RunLimits, StepName,
    StopReason, hash,
};
use crate::evidence::rules;
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown::{self, RenderTarget};
use crate::evidence::verify::{Checked, Sources, verify_within};
use crate::knowledge::Investigated;
use crate::llm::Model;
use crate::mcp::ToolCaller;
use crate::metrics::metrics;
use crate::tools::{Briefed, SUBMIT_DIAGNOSIS, SubmitDiagnosis, checked, diagnosis, permitted};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Minimum context size of a brief in tokens.
const SMALLEST_CONTEXT: usize = 3_000;

/// Finds the cause. Stores runs, diagnosis and tool results. Reuses an existing diagnosis.
pub(super) async fn investigate(
    app: &App,
    held: &LeasedReport<'_>,
    incident: &Incident,
    collected: Collected,
    cancel: &CancellationToken,
) -> Result<Diagnosis, StepError> {
    if let Some(concluded) = incident.diagnosis.as_ref().filter(|_| !held.anew) {
        // The diagnosis may be based on another report's evidence, so its claims are verified against this one's.
        let (mut diagnosis, pieces) = (concluded.clone(), collected.pieces);
        let verified = app.blocking.run_checked(prepare::LIMIT, move |deadline| {
            verify_within(&mut diagnosis, &Collection(&pieces), deadline)?;
            Ok(diagnosis)
        });
        return unless_stopped(cancel, verified).await;
    }
    let started = Instant::now();
    let Collected { pieces, gaps, redactor } = collected;
    let workspace = Arc::new(Workspace::new(pieces, redactor, app.blocking.clone()).sharing(&app.schemas));
    let material = brief::gather(app, &held.report.failure, incident, &workspace, &gaps);
    let material = unless_stopped(cancel, material).await?;
    let purpose = Purpose {
        kind: UsageKind::Investigation,
        caller: reports::caller(&app.pool, held.report.id).await?.unwrap_or_default(),
        report: Some(held.report.id),
        ..Purpose::default()
    };
    let account = app.ledger.account(purpose);
    let Report { id: report, failure, .. } = held.report;
    let work = Work {
        app,
        report: *report,
        failure,
        workspace: &workspace,
        material,
        account,
        recorder: &held.recorder,
    };
    let (mut diagnosis, mut made) = work.conclude(cancel).await?;
    sanitize_diagnosis(&mut diagnosis, &app.config.privacy.links);
    if let Some(Made { recording, .. }) = made.last_mut() {
        recording.diagnosis = Some(diagnosis.clone());
    }
    store(
        app,
        held,
        incident,
        &Concluded { diagnosis: &diagnosis, made: &made, workspace: &workspace, started },
    )
    .await?;
    Ok(diagnosis)
}

/// Sanitizes the diagnosis, which pages and clients render as Markdown: no images, no unknown links.
pub(super) fn sanitize_diagnosis(diagnosis: &mut Diagnosis, links: &LinkPolicy) {
    let texts = diagnosis.claims.iter_mut().map(|claim| &mut claim.statement);
    for text in texts.chain(&mut diagnosis.next_steps).chain([&mut diagnosis.cause]) {
        *text = markdown::sanitize(text, links, RenderTarget::Answer);
    }
}

/// Evidence of another report with the same cause. Names in the diagnosis were checked in the original report.
struct Collection<'a>(&'a [Arc<Evidence>]);

impl Sources for Collection<'_> {
    fn text(&self, label: &str) -> Option<&str> {
        self.0.iter().find(|piece| piece.label == label).map(|piece| piece.text.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        None
    }
}

/// A run with the recording to replay it.
struct Made {
    run: Run,
    recording: Recording,
}

/// Inputs that all analysts of a report share.
struct Work<'a> {
    app: &'a App,
    report: Uuid,
    failure: &'a Failure,
    workspace: &'a Arc<Workspace>,
    material: Material,
    account: Arc<Account>,
    recorder: &'a Recorder,
}

impl Work<'_> {
    /// Runs the configured model first. Falls back to the rules analyst when there is no model, it does not conclude, or none
    /// of its claims is in the evidence.
    async fn conclude(&self, cancel: &CancellationToken) -> Result<(Diagnosis, Vec<Made>), StepError> {
        let Self { app, workspace, .. } = self;
        let mut all = Vec::new();
        let mut note = None;
        if let Some(model) = &app.model {
            let Attempt { outcome, mut made, runbooks } = self.model(model, cancel).await?;
            if outcome.stop == StopReason::Cancelled {
                return Err(StepError::Stopping);
            }
            let briefed = brief::briefed(self.failure, &made.recording.messages, app.knowledge.signatures());
            let mut checked =
                self.checked(outcome.finish.clone(), model.name(), Some(briefed), &mut made.run).await?;
            if let Some(Checked { held: Some(found), .. }) = &mut checked {
                found.runbooks = runbooks;
            }
            all.push(made);
            let told = match checked {
                Some(Checked { held: Some(found), .. }) if !found.next_steps.is_empty() => {
                    return Ok((found, all));
                }
                Some(Checked { held: Some(mut found), .. }) => {
                    found.next_steps = self.steps(&found).await?;
                    return Ok((found, all));
                }
                Some(Checked { held: None, .. }) => format!(
                    "Nothing of what the model {} concluded could be found in the evidence, so it is left out; the built-in rules \
                     analyst concluded.",
                    model.name()
                ),
                None => {
                    let why = outcome.detail.unwrap_or_else(|| outcome.stop.as_str().to_owned());
                    format!(
                        "The model {} did not conclude ({why}); the built-in rules analyst did.",
                        model.name()
                    )
                }
            };
            tracing::warn!(
                model = model.name(),
                stop = outcome.stop.as_str(),
                "the model came to no conclusion that holds: the rules analyst takes over"
            );
            note = Some(workspace.redact(&told).await);
        }
        let (mut found, made) = self.rules(cancel).await?;
        all.push(made);
        found.note = note;
        Ok((found, all))
    }

    /// Runs the model. Retries with a smaller context when the provider rejects the brief as too long.
    async fn model(&self, model: &Arc<dyn Model>, cancel: &CancellationToken) -> Result<Attempt, StepError> {
        let mut budget = self.app.config.agent;
        loop {
            let attempt = self.run(model, budget, cancel).await?;
            let too_long = attempt.outcome.stop == StopReason::ContextTooLong && attempt.outcome.turns == 0;
            let smaller = budget.context_tokens / 2;
            if !too_long || smaller < SMALLEST_CONTEXT {
                return Ok(attempt);
            }
            budget.context_tokens = smaller;
            tracing::warn!(
                model = model.name(),
                tokens = smaller,
                "the brief is too long for the model: `agent.context_tokens` is tried at half"
            );
        }
    }

    /// Runs the rules analyst. The brief is only recorded, so that a replay can use a model on the same evidence.
    async fn rules(&self, cancel: &CancellationToken) -> Result<(Diagnosis, Made), StepError> {
        // The model's context limit does not apply.
        let budget =
            RunLimits { context_tokens: RunLimits::default().context_tokens, ..self.app.config.agent };
        let Briefing { recording, runbooks, .. } = self.briefing(budget, cancel).await?;
        let (started, mark) = (Started::now(), self.recorder.mark());
        let rules = Rules {
            workspace: self.workspace,
            budget: recording.budget,
            brief: &recording.messages,
            tools: &recording.tools,
            recorder: self.recorder,
        };
        let outcome = unless_stopped(cancel, rules.run(self.app.knowledge.signatures(), cancel)).await?;
        let mut run = self.ended(rules::NAME, &outcome, started, mark);
        // The rules analyst uses only text that people wrote in runbooks, so its names are not checked.
        let checked = self.checked(outcome.finish, rules::NAME, None, &mut run).await?;
        let mut found = checked.and_then(|checked| checked.held).ok_or_else(|| {
            StepError::Failed("neither the model nor the rules analyst came to a conclusion".into())
        })?;
        found.runbooks = runbooks;
        Ok((found, Made { run, recording }))
    }

    /// Returns the next steps of the highest-priority runbook that matches a cited line, or none.
    async fn steps(&self, found: &Diagnosis) -> Result<Vec<String>, StepError> {
        let cited = found
            .claims
            .iter()
            .filter_map(|claim| Some((self.workspace.get(&claim.evidence)?, claim.lines())));
        let (cited, signatures) = (cited.collect::<Vec<_>>(), self.app.knowledge.signatures());
        let steps = self.workspace.work(move |deadline| {
            let mut hits = Vec::new();
            for line in cited.iter().flat_map(|(piece, lines)| piece.cited(*lines)) {
                deadline.check()?;
                hits.extend(signatures.matches(line));
            }
            let all = signatures.signatures();
            let best = hits.iter().max_by_key(|hit| all[hit.index].priority);
            Ok(best.map_or_else(Vec::new, |hit| {
                all[hit.index].next_steps.iter().map(|step| hit.fill(step)).collect()
            }))
        });
        Ok(steps.await?)
    }

    /// Verifies a conclusion and stores the number of verified claims in the run. Returns `None` without a conclusion.
    async fn checked(
        &self,
        finish: Option<Value>,
        analyst: &str,
        briefed: Option<Briefed>,
        run: &mut Run,
    ) -> Result<Option<Checked>, StepError> {
        let Some(found) = diagnosis(finish, analyst, self.workspace).await? else { return Ok(None) };
        let claims = found.claims.len();
        let checked = checked(found, self.workspace, briefed).await?;
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        (run.claims, run.claims_verified) = (count(claims), count(checked.verified));
        metrics().claims_checked(checked.verified, claims);
        Ok(Some(checked))
    }

    /// Creates the brief and selects the tools that fit into the analyst's context.
    async fn briefing(&self, budget: RunLimits, cancel: &CancellationToken) -> Result<Briefing, StepError> {
        let Self { app, workspace, material, .. } = self;
        let context = budget.context_tokens;
        let budget = budget.with_results_that_fit();
        // By default, only read-only tools in the report's namespace. Policy rules can allow others.
        let asker = Arc::new(CallContext::triage(&self.failure.namespace));
        let caller = ToolCaller { context: asker, recorder: self.recorder.clone() };
        let mut offered = permitted(&app.knowledge, &app.mcp, workspace, &caller);
        offered.retain(|tool| tool.spec().name != SUBMIT_DIAGNOSIS);
        let (mut tools, tokens) = tools_that_fit(offered, context / 2);
        // Reserves a quarter of the context for tool results.
        let room = (context / 4 * 3).saturating_sub(tokens + SubmitDiagnosis::tokens());
        let brief = material.brief(&app.prompts, &app.config.triage, workspace, room.max(context / 4));
        let (brief, runbooks) = unless_stopped(cancel, brief).await?;
        let briefed = brief::briefed(self.failure, &brief, app.knowledge.signatures());
        tools.insert(0, Arc::new(SubmitDiagnosis::new(Arc::clone(workspace), Some(briefed))));
        let recording = Recording {
            messages: brief,
            tools: tools.iter().map(|tool| tool.spec().clone()).collect(),
            fence: workspace.fence().mark().to_owned(),
            prompts: brief::prompts_hash(&app.prompts),
            budget,
            diagnosis: None,
        };
        Ok(Briefing { recording, tools, runbooks })
    }

    /// Runs a model.
    async fn run(
        &self,
        model: &Arc<dyn Model>,
        budget: RunLimits,
        cancel: &CancellationToken,
    ) -> Result<Attempt, StepError> {
        let Briefing { recording, tools, runbooks } = self.briefing(budget, cancel).await?;
        let agent = Agent {
            name: "triage".to_owned(),
            model: Arc::clone(model),
            tools,
            finishing_tool: Some(SUBMIT_DIAGNOSIS),
            budget: recording.budget,
            workspace: Arc::clone(self.workspace),
            watcher: None,
            review: None,
            account: Some(Arc::clone(&self.account)),
            recorder: self.recorder.clone(),
        };
        let (started, mark) = (Started::now(), self.recorder.mark());
        let outcome = agent.run(recording.messages.clone(), cancel).await;
        let run = self.ended(model.name(), &outcome, started, mark);
        Ok(Attempt { outcome, made: Made { run, recording }, runbooks })
    }

    /// Creates the record of a finished run and assigns the audit events since `mark` to it.
    fn ended(&self, analyst: &str, outcome: &Outcome, started: Started, mark: usize) -> Run {
        let run = self.app.record(analyst, outcome, started);
        metrics().run(&run);
        self.recorder.ran(mark, &run, "report", &self.report.to_string());
        run
    }
}

/// Inputs of an analyst.
struct Briefing {
    recording: Recording,
    tools: Vec<Arc<dyn Tool>>,
    /// Paths of the runbooks in the brief.
    runbooks: Vec<String>,
}

/// A completed model run.
struct Attempt {
    outcome: Outcome,
    made: Made,
    /// Paths of the runbooks in the brief.
    runbooks: Vec<String>,
}

struct Concluded<'a> {
    diagnosis: &'a Diagnosis,
    made: &'a [Made],
    workspace: &'a Workspace,
    started: Instant,
}

/// Stores runs, tool results, diagnosis and both steps in one transaction.
async fn store(
    app: &App,
    held: &LeasedReport<'_>,
    incident: &Incident,
    concluded: &Concluded<'_>,
) -> Result<(), StepError> {
    let Concluded { diagnosis, made, workspace, started } = concluded;
    let now = clock::now();
    let (added, proofs) = added(workspace).await?;
    let calls: usize = made.iter().map(|made| made.run.tool_calls.len()).sum();
    let turns: i32 = made.iter().map(|made| made.run.turns).sum();
    let verified = diagnosis.claims.iter().filter(|claim| claim.verified).count();
    let found = format!("{} by {}, {turns} turns, {calls} tool calls", diagnosis.title, diagnosis.analyst);
    let claims = diagnosis.claims.len() + diagnosis.left_out as usize;
    let checked = format!("{verified} of {claims} claims found in the evidence");
    let took = started.elapsed();
    let mut transaction = app.pool.begin().await?;
    held.check(&mut transaction, app.config.queue.lease).await?;
    for Made { run, recording } in *made {
        App::store_run(&mut transaction, runs::Work::Report(held.report.id), run, &held.recorder).await?;
        recordings::insert(&mut transaction, run.id, recording).await?;
    }
    if !added.is_empty() {
        evidence::insert(&mut *transaction, Owner::Report(held.report.id), &added, now).await?;
    }
    incidents::set_diagnosis(&mut *transaction, incident.id, diagnosis).await?;
    reinvestigate::concluded(&mut transaction, held.report.id).await?;
    let investigated = Investigated { incident: incident.id, failure: &held.report.failure, diagnosis };
    app.knowledge.remember(&mut transaction, &investigated).await?;
    for step in [
        NewStep { name: StepName::Investigate, detail: &found, at: now, took },
        NewStep { name: StepName::Verify, detail: &checked, at: now, took: Duration::ZERO },
    ] {
        reports::add_step(&mut *transaction, held.report.id, &step).await?;
    }
    held.recorder.record(diagnosed(held, incident, concluded, proofs));
    audit::commit(transaction, &held.recorder).await?;
    Ok(())
}

/// Returns the tool results to store, with hashes that later prove their integrity.
async fn added(workspace: &Workspace) -> Result<(Vec<NewEvidence>, Map<String, Value>), StepError> {
    let pieces = workspace.added();
    let added = workspace.work(move |_| {
        let added: Vec<NewEvidence> = pieces.iter().map(|piece| NewEvidence::of(piece)).collect();
        let hash = |piece: &NewEvidence| json!(hash(piece.stored_text().as_bytes()));
        let proofs = pieces.iter().zip(&added).map(|(piece, new)| (piece.label.clone(), hash(new))).collect();
        Ok((added, proofs))
    });
    Ok(added.await?)
}

/// Creates the audit event of a diagnosis, with hashes that later prove the integrity of evidence and diagnosis.
fn diagnosed(
    held: &LeasedReport<'_>,
    incident: &Incident,
    concluded: &Concluded<'_>,
    proofs: Map<String, Value>,
) -> AuditEvent {
    let Concluded { diagnosis, made, started, .. } = concluded;
    let verified = diagnosis.claims.iter().filter(|claim| claim.verified).count();
    let data = json!({
        "incident": incident.id, "class": diagnosis.class.as_str(), "claims": diagnosis.claims.len(), "claims_verified": verified,
        "diagnosis": hash(serde_json::to_string(diagnosis).unwrap_or_default()), "evidence": proofs,
    });
    let event = held.recorder.event(AuditAction::ReportDiagnose).on("report", held.report.id);
    let run = made.last().map(|made| made.run.id);
    let event = event
        .detail(format!("{} by {}", diagnosis.title, diagnosis.analyst))
        .data(data)
        .took(started.elapsed());
    AuditEvent { run, ..event }
}
