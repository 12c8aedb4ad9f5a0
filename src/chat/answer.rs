//! Produces an answer: runs the agent loop, streams events to subscribers, verifies and stores the result.

use super::approve::{self, ApprovalRequester};
use super::brief::{self, AnswerContext};
use super::execute::{self, ExecutedCall};
use super::history::{self, History};
use super::passthrough_access::{self, PassthroughAccess};
use super::profiles;
use super::task::Task;
use super::{cite, command, fallback, title};
use crate::agent::{self, Agent, Outcome, Tool, Workspace, tools_beside};
use crate::app::App;
use crate::clock::{self, Started};
use crate::db::approvals::{self, Filter};
use crate::db::audit;
use crate::db::conversations::{self, Answered, NewMessage};
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::db::queue;
use crate::db::runs::Work;
use crate::db::turns::{self, TurnState};
use crate::db::usage::UsageKind;
use crate::domain::{
    Actor, Approval, AuditAction, Caller, Citation, ConversationMessage, Done, Event, Evidence, Message,
    MessageRole, Run, StopReason, Usage,
};
use crate::events::AnswerStream;
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown::{self, MarkdownSanitizer, RenderTarget};
use crate::evidence::{rules, verify};
use crate::knowledge::ConversationRef;
use crate::llm::Model;
use crate::mcp::ToolCaller;
use crate::metrics::metrics;
use crate::telemetry;
use crate::telemetry::trace::Span;
use crate::tools;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum length in characters of a tool result sent to subscribers. The complete result is kept as evidence.
const SENT_RESULT: usize = 4_000;
/// Maximum number of approvals reported with the end of an answer.
const TOLD_APPROVALS: i64 = 100;

/// A finished answer before it is stored.
struct Concluded {
    text: String,
    author: String,
    citations: Vec<Citation>,
    not_found: Vec<String>,
    runs: Vec<Run>,
    usage: Usage,
    stop: StopReason,
    /// Whether the text was truncated at the model's output limit.
    cut_off: bool,
}

/// Outcome of an answer: the final event, and whether the conversation continues with decisions made meanwhile.
pub(super) struct AnswerOutcome {
    pub(super) event: Event,
    pub(super) goes_on: bool,
    /// The user who asked, if the answer was completed. They may have decided calls meanwhile.
    pub(super) decider: Option<Caller>,
}

/// Runs the answer and closes the turn, whatever the outcome.
pub(super) async fn run(app: &Arc<App>, task: Task, answer: &Arc<AnswerStream>) -> AnswerOutcome {
    let turn = task.turn;
    let (inner_app, inner_answer) = (Arc::clone(app), Arc::clone(answer));
    let recorder = task.recorder.clone();
    let span = Span::in_conversation("answer", task.conversation);
    let work = async move {
        let made = make(&inner_app, &task, &inner_answer).await;
        // Also when the answer was not stored.
        audit::flush(&inner_app.pool, &task.recorder).await;
        made
    };
    let named = telemetry::named(turn.to_string(), work);
    let made = app.shutdown.spawn(async move { span.of(named).await }).await;
    let problem = match made {
        Ok(Ok(ended)) => return ended,
        Ok(Err(error)) => {
            tracing::error!(%turn, error = format!("{error:#}"), "an answer failed");
            "The answer could not be made or stored. Ask again in a moment."
        }
        Err(_) => "The answer broke off by an internal error; the log has more.",
    };
    // Also after an error or a panic.
    audit::flush(&app.pool, &recorder).await;
    if let Err(error) = turns::finish(&app.pool, turn, TurnState::Failed, clock::now()).await {
        tracing::warn!(%turn, %error, "a failed turn cannot be closed; its lease ends by itself");
    }
    let event = Event::Failed { run: turn, detail: problem.to_owned(), next_run: None };
    AnswerOutcome { event, goes_on: true, decider: None }
}

/// State of an answer in progress.
struct Making<'a> {
    app: &'a App,
    task: &'a Task,
    answer: &'a Arc<AnswerStream>,
    known: AnswerContext,
    workspace: Arc<Workspace>,
    history: History,
    carried: Vec<ExecutedCall>,
    started: Started,
}

async fn make(app: &App, task: &Task, answer: &Arc<AnswerStream>) -> anyhow::Result<AnswerOutcome> {
    // A generated message about decisions is never a user's command.
    let commanded = match &task.decided[..] {
        [] => {
            let author = Actor::new(&task.author, task.turn);
            command::run(&app.knowledge, task.incident, &task.question, &author).await?
        }
        _ => None,
    };
    let what = if task.decided.is_empty() { AuditAction::ChatAsk } else { AuditAction::ChatGoOn };
    let mut asked = task.recorder.event(what).on("conversation", task.conversation);
    asked.actor.name.clone_from(&task.caller.name);
    task.recorder.record(asked);
    if answer.visible_to().is_some() {
        task.recorder.withhold();
    }
    let model = app.model_of(&task.profile).filter(|_| commanded.is_none());
    let mut known = brief::known(&app.pool, &app.knowledge, task).await?;
    let workspace = Arc::new(known.workspace(&app.blocking, &app.schemas));
    let started = Started::now();
    let watching = watcher(&app.config.privacy.links, answer, &Arc::default(), rules::NAME);
    let carried = execute::execute_approved(app, task, answer, &workspace, &*watching).await?;
    let history = history::history(app, task, model.as_ref()).await?;
    let making = Making { app, task, answer, known, workspace, history, carried, started };
    let mut concluded = match commanded {
        Some(text) => making.say(text).await?,
        None => making.conclude(model).await?,
    };
    let asked = making.name_what_waits(&mut concluded).await?;
    let Some(message) = store(app, task, answer, &making.workspace, &concluded).await? else {
        let detail = "The conversation was deleted meanwhile.".to_owned();
        let event = Event::Failed { run: task.turn, detail, next_run: None };
        return Ok(AnswerOutcome { event, goes_on: false, decider: None });
    };
    let event = Event::Done(Box::new(Done {
        run: task.turn,
        conversation_id: task.conversation,
        stop_reason: concluded.stop,
        cut_off: concluded.cut_off,
        message: Some(message),
        approvals: asked,
        usage: Some(concluded.usage),
        next_run: None,
    }));
    Ok(AnswerOutcome { event, goes_on: true, decider: Some(task.caller.clone()) })
}

impl Making<'_> {
    /// Returns the model's answer, or the stored facts if the model gives none.
    async fn conclude(&self, model: Option<Arc<dyn Model>>) -> anyhow::Result<Concluded> {
        let mut runs = Vec::new();
        let mut usage = self.history.usage;
        let mut why = "No model is configured.".to_owned();
        // The sampling settings apply to the answer only, not to the summary of earlier messages.
        let Task { profile, sampling, .. } = self.task;
        if let Some(model) = profiles::sampled_model(self.app, model, profile, *sampling) {
            let (mut concluded, detail) = self.think(&model).await?;
            if concluded.text.is_empty() && concluded.stop == StopReason::Cancelled {
                "(Stopped before there was an answer.)".clone_into(&mut concluded.text);
            }
            if !concluded.text.is_empty() {
                if let Some(why) = detail.filter(|_| concluded.stop == StopReason::Budget) {
                    // Marks the answer as incomplete.
                    let why = format!("\n\n(It ends here: {why}.)");
                    self.answer.emit(Event::TextDelta { text: why.clone() });
                    concluded.text.push_str(&why);
                }
                return Ok(concluded);
            }
            let reason = match concluded.stop {
                StopReason::Answered => "its answer was empty".to_owned(),
                stop => detail.unwrap_or_else(|| stop.as_str().to_owned()),
            };
            let told = format!("The model {} did not answer ({reason}).", model.name());
            why = self.workspace.redact(&told).await;
            (runs, usage) = (concluded.runs, concluded.usage);
        }
        let text = if self.task.decided.is_empty() {
            let (runbooks, past) = self.known.passages(&self.app.config, &self.app.knowledge).await;
            fallback::fallback_answer(&self.known, &self.workspace.added(), &runbooks, &past, &why)
        } else {
            execute::decision_message(&self.task.decided, &self.carried, &why)
        };
        if runs.is_empty() && !self.carried.is_empty() {
            runs.push(self.record(rules::NAME, &Outcome::answered()));
        }
        let text = self.workspace.redact(&text).await;
        Ok(Concluded { runs, usage, ..self.say(text).await? })
    }

    /// Creates the run record, beginning with the executed approved calls.
    fn record(&self, analyst: &str, outcome: &Outcome) -> Run {
        let mut run = self.app.record(analyst, outcome, self.started);
        run.tool_calls.splice(0..0, execute::records(&self.carried));
        run
    }

    /// Returns the calls requested by this answer. Appends the pending calls that the model did not mention.
    async fn name_what_waits(&self, concluded: &mut Concluded) -> sqlx::Result<Vec<Approval>> {
        let filter = Filter { turn: Some(self.task.turn), ..Filter::default() };
        let mut asked = approvals::list(&self.app.pool, &filter, clock::now(), TOLD_APPROVALS).await?;
        asked.reverse();
        let public_url = self.app.config.server.public_url.as_deref();
        if let Some(text) = approve::waiting(public_url, &asked, &concluded.text) {
            self.answer.emit(Event::TextDelta { text: text.clone() });
            concluded.text.push_str(&text);
        }
        Ok(asked)
    }

    /// Emits an answer written by the program.
    async fn say(&self, text: String) -> anyhow::Result<Concluded> {
        // Stored facts may quote logs.
        let text = markdown::sanitize(&text, &self.app.config.privacy.links, RenderTarget::Answer);
        let author = rules::NAME.to_owned();
        self.answer.emit(Event::MessageStart { run: self.task.turn, turn: 1, model: author.clone() });
        self.answer.emit(Event::TextDelta { text: text.clone() });
        let citations = self.citations(&text).await?;
        let (not_found, runs, usage) = (Vec::new(), Vec::new(), Usage::default());
        let (stop, cut_off) = (StopReason::Answered, false);
        Ok(Concluded { text, author, citations, not_found, runs, usage, stop, cut_off })
    }

    /// Runs the agent loop. Returns the result and details about how it ended.
    async fn think(&self, model: &Arc<dyn Model>) -> anyhow::Result<(Concluded, Option<String>)> {
        let Self { app, task, answer, known, workspace, history, carried, .. } = self;
        let (system, mut context) = known.texts(app, task, workspace).await?;
        let (tools, note) = tools(app, task, answer, workspace).await?;
        if let Some(note) = note {
            context = format!("{}\n\n{note}", context.trim());
        }
        let mut messages = history::messages(system, &context, history, task, workspace.fence());
        messages.extend(execute::messages(carried));
        let told = messages.iter().map(Message::text).collect::<Vec<_>>().join("\n");
        let said: Arc<Mutex<String>> = Arc::default();
        let budget = profiles::run_limits(app.config.agent, &task.profile);
        let fitted = workspace.work(move |_| {
            let tools = tools_beside(&messages, tools, budget.context_tokens);
            Ok((messages, tools))
        });
        let (messages, tools) = fitted.await?;
        let agent = Agent {
            name: task.profile.name.clone(),
            model: Arc::clone(model),
            tools,
            finishing_tool: None,
            budget,
            workspace: Arc::clone(workspace),
            watcher: Some(watcher(&app.config.privacy.links, answer, &said, model.name())),
            review: Some(review(workspace)),
            account: Some(app.ledger.account(task.charged(UsageKind::Answer))),
            recorder: task.recorder.clone(),
        };
        let mark = task.recorder.mark();
        let outcome = agent.run(messages, &answer.stop).await;
        let mut run = self.record(model.name(), &outcome);
        metrics().run(&run);
        task.recorder.ran(mark, &run, "conversation", &task.conversation.to_string());
        // PostgreSQL text cannot contain NUL.
        let text = workspace.redact(last_words(&outcome, &said).trim()).await.replace('\0', "\u{fffd}");
        let text = markdown::sanitize(&text, &app.config.privacy.links, RenderTarget::Answer);
        let citations = self.citations(&text).await?;
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        run.claims = count(citations.len());
        run.claims_verified = count(citations.iter().filter(|citation| citation.verified).count());
        let (pieces, answered) = (workspace.pieces(), text.clone());
        let not_found = workspace.work(move |deadline| {
            let texts = pieces.iter().map(|piece| piece.text.as_str());
            let sources: Vec<&str> = texts.chain([told.as_str()]).collect();
            verify::not_found(&answered, &sources, deadline)
        });
        let not_found = not_found.await?;
        let mut usage = history.usage;
        usage += outcome.usage;
        let (author, runs) = (model.name().to_owned(), vec![run]);
        let (stop, cut_off) = (outcome.stop, outcome.cut_off);
        let concluded = Concluded { text, author, citations, not_found, runs, usage, stop, cut_off };
        Ok((concluded, outcome.detail))
    }

    /// Returns the citations of a text, each checked against the evidence.
    async fn citations(&self, text: &str) -> anyhow::Result<Vec<Citation>> {
        let (pieces, text) = (self.workspace.pieces(), text.to_owned());
        let cited = self.workspace.work(move |_| Ok(cite::citations(&text, &pieces, &|_| None)));
        let mut citations = cited.await?;
        for citation in &mut citations {
            let known = self.workspace.get(&citation.evidence);
            citation.url = known.and_then(|_| self.url(&citation.evidence));
        }
        Ok(citations)
    }

    /// Returns the URL of a piece of evidence, which belongs to the report or to the conversation.
    fn url(&self, label: &str) -> Option<String> {
        let number: usize = label.trim_start_matches('E').parse().ok()?;
        match self.known.incident.as_ref().and_then(|known| known.report) {
            Some(report) if number <= self.known.reported => {
                // The label that the piece has in the report.
                let piece = self.known.pieces.get(number.checked_sub(1)?)?;
                Some(format!("/api/reports/{report}/evidence/{}", piece.label))
            }
            _ => Some(format!("/api/conversations/{}/evidence/{label}", self.task.conversation)),
        }
    }
}

/// Returns the answer, or the partial text when the run ended early.
fn last_words(outcome: &Outcome, said: &Mutex<String>) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if outcome.stop == StopReason::Answered || said.trim().is_empty() {
        return outcome.text.clone();
    }
    said.clone()
}

/// Returns the agent's tools, with or without approval, and a note about missing tools.
async fn tools(
    app: &App,
    task: &Task,
    answer: &Arc<AnswerStream>,
    workspace: &Arc<Workspace>,
) -> anyhow::Result<(Vec<Arc<dyn Tool>>, Option<String>)> {
    let caller = ToolCaller { context: task.asker(), recorder: task.recorder.clone() };
    let permitted = tools::permitted(&app.knowledge, &app.mcp, workspace, &caller);
    let mut tools: Vec<Arc<dyn Tool>> = permitted
        .into_iter()
        .map(|tool| passthrough_access::kept_apart(&app.pool, task, answer, tool))
        .collect();
    let taken: Vec<String> = tools.iter().map(|tool| tool.spec().name.clone()).collect();
    let asking = ApprovalRequester::new(&app.pool, &app.config, task, answer);
    let waiting = approve::guarded(&app.mcp, &caller, &asking);
    tools.extend(waiting.into_iter().filter(|tool| !taken.contains(&tool.spec().name)));
    if !task.profile.tools.is_empty() {
        let globs = profiles::globs(&task.profile.tools)?;
        tools.retain(|tool| globs.is_match(&tool.spec().name));
    }
    let own = PassthroughAccess::of(&app.pool, task).await?;
    let missing = own.keep_permitted(&task.question, &mut tools);
    Ok((tools, own.note(&missing)))
}

/// Emits events to subscribers, who render Markdown as it arrives. Therefore neutralises links and images in the stream, and
/// holds back text that cannot be judged until more arrives.
fn watcher(
    links: &LinkPolicy,
    answer: &Arc<AnswerStream>,
    said: &Arc<Mutex<String>>,
    model: &str,
) -> Arc<crate::agent::Watcher> {
    let (answer, said, model) = (Arc::clone(answer), Arc::clone(said), model.to_owned());
    let links = links.clone();
    let defuser = Mutex::new(MarkdownSanitizer::new(links.clone(), RenderTarget::Answer));
    Arc::new(move |event| match event {
        agent::Event::Begun { turn } => {
            said.lock().unwrap_or_else(PoisonError::into_inner).clear();
            *held(&defuser) = MarkdownSanitizer::new(links.clone(), RenderTarget::Answer);
            answer.emit(Event::MessageStart { run: answer.turn, turn, model: model.clone() });
        }
        agent::Event::Text { text } => {
            if !text.is_empty() {
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                let text = held(&defuser).push(&text);
                if !text.is_empty() {
                    answer.emit(Event::TextDelta { text });
                }
            }
        }
        agent::Event::ToolStarted { call, name: tool, arguments } => {
            answer.emit(Event::ToolStarted { call, tool, arguments });
        }
        agent::Event::ToolFinished { call, name: tool, failed, duration_ms, result } => {
            let result = result.chars().take(SENT_RESULT).collect();
            answer.emit(Event::ToolFinished { call, tool, failed, duration_ms, result });
        }
        agent::Event::Used { usage } => {
            let rest = held(&defuser).finish();
            if !rest.is_empty() {
                answer.emit(Event::TextDelta { text: rest });
            }
            answer.emit(Event::Used(usage));
        }
    })
}

fn held(defuser: &Mutex<MarkdownSanitizer>) -> MutexGuard<'_, MarkdownSanitizer> {
    defuser.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the answer to the model once if citations are invalid.
fn review(workspace: &Arc<Workspace>) -> Arc<crate::agent::Review> {
    let workspace = Arc::clone(workspace);
    Arc::new(move |text| {
        let workspace = Arc::clone(&workspace);
        Box::pin(async move {
            let pieces = workspace.pieces();
            let problem = workspace
                .work(move |_| Ok(cite::problem(&cite::citations(&text, &pieces, &|_| None), &pieces)));
            // If the check fails, the answer is accepted as it is.
            problem.await.unwrap_or_default()
        })
    })
}

/// Stores the message, runs, evidence and end of the turn in one transaction. Returns `None` when the conversation was
/// deleted.
async fn store(
    app: &App,
    task: &Task,
    answer: &AnswerStream,
    workspace: &Workspace,
    concluded: &Concluded,
) -> anyhow::Result<Option<ConversationMessage>> {
    let (now, own) = (clock::now(), answer.visible_to());
    let (pieces, owner) = (workspace.added(), own.map(ToOwned::to_owned));
    let added = workspace.work(move |_| {
        let new = |piece: &Arc<Evidence>| NewEvidence::of(piece).visible_to(owner.as_deref());
        Ok(pieces.iter().map(new).collect::<Vec<NewEvidence>>())
    });
    let added = added.await?;
    let mut transaction = app.pool.begin().await?;
    if !conversations::lock(&mut *transaction, task.conversation).await? {
        return Ok(None);
    }
    for run in &concluded.runs {
        App::store_run(&mut transaction, Work::Turn(task.turn), run, &task.recorder).await?;
    }
    if !added.is_empty() {
        evidence::insert(&mut *transaction, Owner::Conversation(task.conversation), &added, now).await?;
    }
    let citations = serde_json::to_value(&concluded.citations)?;
    let message = NewMessage {
        role: MessageRole::Assistant,
        author: &concluded.author,
        text: &concluded.text,
        answer: Some(Answered { turn: task.turn, citations: &citations, not_found: &concluded.not_found }),
        speaker: Some(&task.speaker),
        visible_to: own,
    };
    let position = conversations::length(&mut *transaction, task.conversation).await?;
    let about = ConversationRef { id: task.conversation, title: &task.title, incident: task.incident };
    app.knowledge.append_messages(&mut transaction, about, &[message], now).await?;
    if let Some(title) = title::title_with_answer(&task.title, &concluded.text)
        && position == 1
        && task.incident.is_none()
        && own.is_none()
    {
        conversations::rename(&mut *transaction, task.conversation, &title).await?;
    }
    conversations::touch(&mut *transaction, task.conversation, None, now).await?;
    let state = if concluded.stop == StopReason::Cancelled { TurnState::Cancelled } else { TurnState::Done };
    turns::finish(&mut *transaction, task.turn, state, now).await?;
    let mut stored =
        conversations::messages(&mut *transaction, task.conversation, position, &task.reader()).await?;
    queue::add_index(&mut *transaction).await?;
    audit::commit(transaction, &task.recorder).await?;
    Ok((!stored.is_empty()).then(|| stored.remove(0)))
}
