//! The brief of an investigation: instructions, relevant runbooks, past incidents, evidence excerpts and the lines that
//! signatures match, within the model's context.

use super::step_error::StepError;
use crate::agent::Workspace;
use crate::app::App;
use crate::clock::{Deadline, DeadlinePassed};
use crate::config::{Config, Triage};
use crate::db::documents::Realm;
use crate::domain::{Evidence, EvidenceKind, Failure, Incident, Message, hash};
use crate::evidence::excerpt::{Log, excerpt_within};
use crate::evidence::lines::Templates;
use crate::evidence::signature::{NAMES_CAUSE, SignatureSet};
use crate::evidence::tokens;
use crate::evidence::untrusted::fence::Fence;
use crate::knowledge::Passage;
use crate::metrics::metrics;
use crate::prompts::Prompts;
use crate::tools::Briefed;
use serde::Serialize;
use serde_json::json;
use std::cmp::Reverse;
use std::sync::Arc;

/// Maximum number of runbooks and past incidents in the brief.
const RUNBOOKS: usize = 3;
const INCIDENTS: usize = 2;
/// Maximum number of matched lines, and maximum length of a line in characters.
const RECOGNISED: usize = 12;
const MAX_LINE: usize = 1_000;
/// Token limit of the log excerpt in the search query.
const QUERY_TOKENS: usize = 120;

#[derive(Serialize)]
struct Shown {
    label: String,
    title: String,
    lines: usize,
    /// Whether the excerpt is the complete piece.
    whole: bool,
    #[serde(skip)]
    lines_shown: usize,
    excerpt: String,
}

/// A line that a signature matches.
struct Recognised {
    priority: i32,
    shown: String,
    text: String,
    /// The signature's meaning, with values from the line.
    meaning: String,
    /// The runbook's text as its author wrote it, without any content from the log.
    advice: String,
}

/// The content of a brief.
pub(super) struct Material {
    values: serde_json::Value,
    mark: String,
    pieces: Arc<[Arc<Evidence>]>,
    /// The matched lines, fenced.
    recognised: String,
    runbooks: Vec<serde_json::Value>,
    incidents: Vec<serde_json::Value>,
}

/// Scans the evidence and collects matching knowledge.
pub(super) async fn gather(
    app: &App,
    failure: &Failure,
    incident: &Incident,
    workspace: &Workspace,
    gaps: &[String],
) -> Result<Material, StepError> {
    let (pieces, signatures) = (workspace.pieces(), app.knowledge.signatures());
    let looked = pieces.clone();
    let read = workspace.work(move |deadline| read(&looked, &signatures, deadline)).await?;
    let (runbooks, incidents) = known(app, &read.query, failure, incident, workspace).await;
    let line = |line: &Recognised| format!("{}\n    {}", line.shown, line.meaning);
    let lines: Vec<String> = read.recognised.iter().map(line).collect();
    for line in &read.recognised {
        workspace.guide(&line.advice);
    }
    let fenced = |text: String| if text.is_empty() { text } else { workspace.fenced(&text) };
    let values = json!({
        "failure": failure,
        "reported": fenced(reported(failure)),
        // A gap could be mistaken for the cause, so the built-in template omits it and only the page shows it. A custom
        // template may show it.
        "gaps": fenced(gaps.join("\n")),
    });
    Ok(Material {
        values,
        mark: workspace.fence().mark().to_owned(),
        pieces: pieces.into(),
        recognised: fenced(lines.join("\n")),
        runbooks,
        incidents,
    })
}

impl Material {
    /// Returns the system prompt and the brief, and the paths of the runbooks in it. Drops content in the order of [`STEPS`]
    /// until the messages fit into `room` tokens. Matched lines are never dropped.
    pub(super) async fn brief(
        &self,
        prompts: &Prompts,
        config: &Triage,
        workspace: &Workspace,
        room: usize,
    ) -> Result<(Vec<Message>, Vec<String>), StepError> {
        let budget = config.excerpt_tokens.min(room);
        let system = Message::System { text: render(prompts, "triage-system", json!({}))? };
        let mut written = None;
        let (mut shown, mut drawn) = (Vec::new(), 0);
        for step in STEPS {
            let excerpts = (budget >> step.halved).max(1);
            if excerpts != drawn {
                (shown, drawn) = (self.excerpts(workspace, excerpts).await?, excerpts);
            }
            let text = render(prompts, "triage-brief", self.values(&shown, step))?;
            let messages = vec![system.clone(), Message::User { text }];
            let fits = fits(&messages, workspace, room).await?;
            written = Some((messages, step));
            if fits {
                break;
            }
        }
        let Some((messages, step)) = written else {
            return Err(StepError::Failed("no brief was made".into()));
        };
        let lines = |count: fn(&Shown) -> usize| shown.iter().map(count).sum();
        metrics().evidence(lines(|one| one.lines_shown), lines(|one| one.lines));
        let given = self.runbooks.iter().take(step.runbooks);
        let path = |runbook: &serde_json::Value| runbook["path"].as_str().map(str::to_owned);
        Ok((messages, given.filter_map(path).collect()))
    }

    async fn excerpts(&self, workspace: &Workspace, budget: usize) -> Result<Vec<Shown>, StepError> {
        let (pieces, fence) = (Arc::clone(&self.pieces), workspace.fence().clone());
        let drawn = workspace.work(move |deadline| {
            let good = good_log(pieces.iter().map(|piece| &**piece), deadline)?;
            let told: Vec<&Arc<Evidence>> = told(&pieces).collect();
            let budget = widened(budget, told.len());
            told.into_iter().map(|piece| shown(piece, good.as_ref(), budget, &fence, deadline)).collect()
        });
        Ok(drawn.await?)
    }

    /// Returns the values of the brief's template for a step.
    fn values(&self, shown: &[Shown], step: &Step) -> serde_json::Value {
        let mut values = self.values.clone();
        let all =
            |known: &[serde_json::Value], count: usize| json!(known.iter().take(count).collect::<Vec<_>>());
        values["mark"] = json!(self.mark);
        values["evidence"] = json!(shown);
        values["whole"] = json!(!shown.is_empty() && shown.iter().all(|piece| piece.whole));
        values["recognised"] = json!(self.recognised);
        values["runbooks"] = all(&self.runbooks, step.runbooks);
        values["incidents"] = all(&self.incidents, step.incidents);
        values
    }
}

fn render(prompts: &Prompts, template: &str, values: serde_json::Value) -> Result<String, StepError> {
    prompts.render(template, values).map_err(|error| StepError::Failed(format!("{error:#}")))
}

/// The content that a brief keeps at a step.
struct Step {
    incidents: usize,
    runbooks: usize,
    /// Number of times the excerpts' budget is halved.
    halved: u32,
}

/// Reductions for a small context, in order: past incidents, all runbooks but the nearest, half and three quarters of the
/// excerpts, the last runbook, then the excerpts down to a few lines of each piece.
const STEPS: &[Step] = &[
    Step { incidents: INCIDENTS, runbooks: RUNBOOKS, halved: 0 },
    Step { incidents: 0, runbooks: RUNBOOKS, halved: 0 },
    Step { incidents: 0, runbooks: 1, halved: 0 },
    Step { incidents: 0, runbooks: 1, halved: 1 },
    Step { incidents: 0, runbooks: 1, halved: 2 },
    Step { incidents: 0, runbooks: 0, halved: 2 },
    Step { incidents: 0, runbooks: 0, halved: 3 },
    Step { incidents: 0, runbooks: 0, halved: 10 },
];

/// Whether the messages fit into `room` tokens. Tokens are counted only when the estimate, which errs on the high side, does
/// not fit.
async fn fits(messages: &[Message], workspace: &Workspace, room: usize) -> Result<bool, StepError> {
    let texts: Vec<String> = messages.iter().map(|message| message.text().to_owned()).collect();
    if texts.iter().map(|text| tokens::estimate(text)).sum::<usize>() <= room {
        return Ok(true);
    }
    let count = workspace.work(move |_| Ok(texts.iter().map(|text| tokens::count(text)).sum::<usize>()));
    Ok(count.await? <= room)
}

/// Results of scanning the evidence, apart from the excerpts.
struct Read {
    recognised: Vec<Recognised>,
    /// Query for runbooks and past incidents.
    query: String,
}

/// Scans all evidence.
fn read(
    pieces: &[Arc<Evidence>],
    signatures: &SignatureSet,
    deadline: &Deadline,
) -> Result<Read, DeadlinePassed> {
    let good = good_log(pieces.iter().map(|piece| &**piece), deadline)?;
    let told: Vec<&Evidence> = told(pieces).map(|piece| &**piece).collect();
    let recognised = recognised(signatures, &told, deadline)?;
    let mut query: Vec<String> = recognised.iter().map(|line| line.text.clone()).collect();
    if let Some(piece) = told.iter().find(|piece| piece.kind.is_log()) {
        let excerpt = excerpt_within(&of(piece, good.as_ref()), QUERY_TOKENS, deadline)?;
        query.extend(excerpt.lines.into_iter().map(|(_, line)| line));
    }
    Ok(Read { recognised, query: query.join("\n") })
}

/// Returns the pieces that an analyst is shown.
fn told(pieces: &[Arc<Evidence>]) -> impl Iterator<Item = &Arc<Evidence>> {
    pieces.iter().filter(|piece| piece.kind != EvidenceKind::GoodLog)
}

/// Returns the templates of the last successful run's log, if there is one.
fn good_log<'a>(
    mut pieces: impl Iterator<Item = &'a Evidence>,
    deadline: &Deadline,
) -> Result<Option<Templates>, DeadlinePassed> {
    let good = pieces.find(|piece| piece.kind == EvidenceKind::GoodLog);
    good.map(|piece| Templates::within(&piece.text, deadline)).transpose()
}

/// Returns runbooks and the namespace's past incidents, within the configured token budget. The brief works without them: a
/// failed search must not fail the investigation.
async fn known(
    app: &App,
    query: &str,
    failure: &Failure,
    incident: &Incident,
    workspace: &Workspace,
) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
    let budget = app.config.knowledge.brief_tokens;
    let namespace = std::slice::from_ref(&failure.namespace);
    let mut past = app.knowledge.near(query, Realm::Incident, INCIDENTS + 1, Some(namespace)).await;
    // An unconfirmed conclusion may be wrong and must not return as if it were a fact.
    past.retain(|hit| hit.incident_id != Some(incident.id) && hit.solved);
    // The previous incident of the same cause ranks first, whatever its similarity.
    if let Some(previous) = incident.previous_id {
        past.retain(|hit| hit.incident_id != Some(previous));
        match app.knowledge.incident(previous, namespace).await {
            Ok(before) => past.splice(0..0, before.into_iter().filter(|hit| hit.solved)).for_each(drop),
            Err(error) => tracing::warn!(%error, "the incident of before cannot be read"),
        }
    }
    past.truncate(INCIDENTS);
    let runbooks = app.knowledge.near(query, Realm::Runbook, RUNBOOKS, None).await;
    let past = app.knowledge.passages(&past, if runbooks.is_empty() { budget } else { budget / 3 }).await;
    let used: usize = past.iter().map(|passage| passage.tokens).sum();
    let runbooks = app.knowledge.passages(&runbooks, budget.saturating_sub(used)).await;
    for passage in &runbooks {
        workspace.guide(&passage.titled());
    }
    let value = |passage: Passage| {
        // Past logs are as untrusted as the current one, and anybody may have written a runbook.
        json!({ "path": passage.path, "text": workspace.fenced(&passage.titled()), "solved": passage.solved })
    };
    (runbooks.into_iter().map(value).collect(), past.into_iter().map(value).collect())
}

/// Returns the free-text fields of the report.
fn reported(failure: &Failure) -> String {
    let told = [
        ("Pipeline", &failure.pipeline),
        ("Task", &failure.task),
        ("Repository", &failure.repository),
        ("Commit", &failure.commit),
    ];
    let line = |(name, value): (&str, &Option<String>)| Some(format!("{name}: {}", value.as_ref()?));
    told.into_iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the lines that signatures match, highest priority first. Only the first line of each signature and piece counts.
fn recognised(
    set: &SignatureSet,
    pieces: &[&Evidence],
    deadline: &Deadline,
) -> Result<Vec<Recognised>, DeadlinePassed> {
    let mut found: Vec<Recognised> = Vec::new();
    for piece in pieces {
        let mut seen = Vec::new();
        for (number, hit) in set.scan_within(&piece.text, deadline)? {
            if seen.contains(&hit.index) {
                continue;
            }
            seen.push(hit.index);
            let line = piece.text.lines().nth(number as usize - 1).unwrap_or_default();
            let text: String = line.chars().take(MAX_LINE).collect();
            let shown = format!("{}:{number}: {text}", piece.label);
            if found.iter().all(|known| known.shown != shown) {
                let signature = &set.signatures()[hit.index];
                let meaning = format!("({}) {}", signature.runbook, set.meaning(&hit));
                let advice = [&signature.title, &signature.cause].into_iter().chain(&signature.next_steps);
                let advice = advice.map(String::as_str).collect::<Vec<_>>().join("\n");
                found.push(Recognised { priority: signature.priority, shown, text, meaning, advice });
            }
        }
    }
    found.sort_by_key(|line| Reverse(line.priority));
    // An echo such as "build failed" could be mistaken for the cause next to a line that names one.
    if found.first().is_some_and(|line| line.priority >= NAMES_CAUSE) {
        found.retain(|line| line.priority >= NAMES_CAUSE);
    }
    found.truncate(RECOGNISED);
    Ok(found)
}

/// Returns the texts, besides the evidence, that a conclusion is checked against: the reported fields, the instructions and
/// the signatures.
pub(super) fn briefed(failure: &Failure, brief: &[Message], signatures: Arc<SignatureSet>) -> Briefed {
    let system = brief.iter().filter_map(|message| match message {
        Message::System { text } => Some(text.as_str()),
        _ => None,
    });
    let place = [Some(&failure.namespace), Some(&failure.pod_name), failure.container_name.as_ref()];
    let place = place.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
    Briefed {
        told: Arc::from(format!("{place}\n{}", reported(failure))),
        orders: Arc::from(system.collect::<Vec<_>>().join("\n")),
        signatures,
    }
}

fn of<'a>(piece: &'a Evidence, good: Option<&'a Templates>) -> Log<'a> {
    // Only logs have a successful run to compare with.
    Log { text: &piece.text, red: &piece.red, good: good.filter(|_| piece.kind.is_log()) }
}

fn excerpt_budget(config: &Config) -> usize {
    config.triage.excerpt_tokens.min(config.agent.context_tokens / 2)
}

/// A single piece gets the budget of the other pieces too.
fn widened(budget: usize, pieces: usize) -> usize {
    if pieces == 1 { budget * 10 / 6 } else { budget }
}

/// Token budgets for showing a piece of evidence: in the brief, and in a tool result.
#[derive(Debug, Clone, Copy)]
pub struct ExcerptBudget {
    brief: usize,
    result: usize,
}

impl ExcerptBudget {
    /// Reads the budgets from the configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { brief: excerpt_budget(config), result: config.agent.result_tokens }
    }

    /// Returns the lines of a piece that are shown: first and last line of each span.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn lines(
        self,
        pieces: &[Evidence],
        index: usize,
        deadline: &Deadline,
    ) -> Result<Vec<(u32, u32)>, DeadlinePassed> {
        let piece = &pieces[index];
        let briefed = pieces.iter().filter(|piece| in_brief(piece)).count();
        let budget = match piece.kind {
            EvidenceKind::GoodLog => return Ok(Vec::new()),
            EvidenceKind::ToolResult => self.result,
            kind => share(kind, widened(self.brief, briefed)),
        };
        let good = good_log(pieces.iter(), deadline)?;
        Ok(excerpt_within(&of(piece, good.as_ref()), budget, deadline)?.spans())
    }
}

fn in_brief(piece: &Evidence) -> bool {
    !matches!(piece.kind, EvidenceKind::GoodLog | EvidenceKind::ToolResult)
}

/// Returns the share of a kind. Logs get most of the budget, a pod's manifest the least.
fn share(kind: EvidenceKind, budget: usize) -> usize {
    let share = match kind {
        EvidenceKind::Log | EvidenceKind::Attached => budget * 6 / 10,
        EvidenceKind::PreviousLog | EvidenceKind::Events => budget * 15 / 100,
        EvidenceKind::Pod | EvidenceKind::Alert | EvidenceKind::ToolResult | EvidenceKind::GoodLog => {
            budget / 10
        }
    };
    share.max(100)
}

fn shown(
    piece: &Evidence,
    good: Option<&Templates>,
    budget: usize,
    fence: &Fence,
    deadline: &Deadline,
) -> Result<Shown, DeadlinePassed> {
    let excerpt = excerpt_within(&of(piece, good), share(piece.kind, budget), deadline)?;
    let lines = piece.text.lines().count();
    Ok(Shown {
        label: piece.label.clone(),
        title: piece.title.clone(),
        lines,
        whole: excerpt.lines.len() == lines,
        lines_shown: excerpt.lines.len(),
        excerpt: fence.around(&excerpt.numbered()),
    })
}

/// Returns the hash of the investigation's prompt templates.
#[must_use]
pub fn prompts_hash(prompts: &Prompts) -> String {
    let source = |name| prompts.source(name).unwrap_or_default();
    hash(format!("{}\0{}", source("triage-system"), source("triage-brief")))
}
