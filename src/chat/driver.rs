//! Drives answers: starts one in an opened turn. After it ends, decisions made meanwhile continue in a new turn, which
//! executes the approved calls and tells the model about the others. Only the driver starts the next turn, never the answer.

use super::answer;
use super::profiles::{self, Sampling};
use super::task::Task;
use crate::app::{App, Slot};
use crate::audit::Recorder;
use crate::clock;
use crate::db::approvals::{self, Filter, Requester};
use crate::db::conversations::{self, NewMessage};
use crate::db::queue;
use crate::db::turns::{self, NewTurn, TurnVisibility};
use crate::domain::{Actor, Approval, ApprovalState, Caller, Event, MessageRole};
use crate::events::AnswerStream;
use crate::evidence::untrusted::markdown;
use crate::knowledge::ConversationRef;
use crate::telemetry::trace::FutureExt as _;
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::fmt::Write as _;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of decisions reported to one turn.
const MAX_TOLD: i64 = 1_000;

/// A started answer.
#[derive(Debug)]
pub struct StartedTurn {
    /// The turn.
    pub turn: Uuid,
    /// The conversation.
    pub conversation: Uuid,
    /// Event stream of the answer.
    pub answer: Arc<AnswerStream>,
}

/// Starts the answer in an opened turn. Without `place`, the answer does not count against the limit of concurrent answers.
pub(super) fn answer_now(
    app: &Arc<App>,
    task: Task,
    opened: TurnVisibility,
    place: Option<Slot>,
) -> StartedTurn {
    let (turn, conversation) = (task.turn, task.conversation);
    let answer = app.live.begin(turn, &task.caller.name, &app.drain);
    if opened == TurnVisibility::Own {
        answer.make_private();
    }
    let driven = drive(Arc::clone(app), task, Arc::clone(&answer)).with_current_context();
    app.shutdown.spawn(async move {
        driven.await;
        drop(place);
    });
    StartedTurn { turn, conversation, answer }
}

/// Runs the answer, continues the conversation, and emits the final event with the id of the next turn.
async fn drive(app: Arc<App>, task: Task, answer: Arc<AnswerStream>) {
    let conversation = task.conversation;
    let answer::AnswerOutcome { mut event, goes_on, decider } = answer::run(&app, task, &answer).await;
    if goes_on {
        let begun = go_on(&app, conversation, decider).await;
        match &mut event {
            Event::Done(done) => done.next_run = begun,
            Event::Failed { next_run, .. } => *next_run = begun,
            _ => {}
        }
    }
    answer.emit(event);
}

/// Continues a conversation if it has decisions and no pending calls. Returns the id of the started turn. `decider` is the
/// person who has just decided.
pub(super) async fn go_on(app: &Arc<App>, conversation: Uuid, decider: Option<Caller>) -> Option<Uuid> {
    let own = Arc::clone(app);
    // Runs in its own task: a disconnected caller must not leave a turn without an answer.
    let begun = app.shutdown.spawn(async move { carry_on(&own, conversation, decider).await }).await;
    match begun.map_err(anyhow::Error::from).flatten() {
        Ok(begun) => begun.map(|begun| begun.turn),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(%conversation, error, "a decided conversation cannot go on now; tried again in a moment");
            None
        }
    }
}

/// Opens the turn, claims the approved calls and stores the decisions as a message, in one transaction. The future is boxed
/// because it is recursive: the answer started here may call this function at its end.
fn carry_on(
    app: &Arc<App>,
    conversation: Uuid,
    decider: Option<Caller>,
) -> BoxFuture<'_, anyhow::Result<Option<StartedTurn>>> {
    async move {
        // During shutdown, the decisions are left to the next process.
        if app.shutdown.token().is_cancelled() || !approvals::is_open(&app.pool, conversation).await? {
            return Ok(None);
        }
        let now = clock::now();
        let mut transaction = app.pool.begin().await?;
        if !conversations::lock(&mut *transaction, conversation).await? {
            return Ok(None);
        }
        approvals::end_late(&mut transaction, conversation, now).await?;
        let turn = Uuid::now_v7();
        let first = decider.as_ref().map(|decider| decider.name.as_str());
        let Some(asker) = approvals::next_asker(&mut *transaction, conversation, first).await? else {
            return Ok(None);
        };
        let Requester { caller, speaker, is_own } = asker;
        // Tokens are not stored: the requester provides theirs again by deciding.
        let token = decider.filter(|decider| decider.name == caller.name).and_then(|decider| decider.token);
        let new = NewTurn { id: turn, conversation, caller: &caller, speaker: &speaker, is_own };
        let Some(opened) = turns::open(&mut transaction, &new, now).await? else { return Ok(None) };
        if !approvals::take(&mut *transaction, conversation, turn, &caller.name).await? {
            return Ok(None);
        }
        let filter = Filter { told_in: Some(turn), ..Filter::default() };
        let mut decided = approvals::list(&mut *transaction, &filter, now, MAX_TOLD).await?;
        decided.reverse();
        let known = conversations::get(&mut *transaction, conversation).await?;
        let known = known.context("the conversation is gone")?;
        let (title, incident) = (known.title, known.incident_id);
        let profile = profiles::choose(&mut *transaction, known.agent_id, incident.is_some()).await?;
        let profile = profile.context("no agent ships")?;
        let latest = decided.iter().max_by_key(|approval| approval.decided_at);
        let author = latest.and_then(|approval| approval.decided_by.clone()).unwrap_or_default();
        let question = said(&decided);
        let visible_to = is_own.then_some(caller.name.as_str());
        let message =
            NewMessage { visible_to, ..NewMessage::of_program(MessageRole::User, &author, &question) };
        let about = ConversationRef { id: conversation, title: &title, incident };
        app.knowledge.append_messages(&mut transaction, about, &[message], now).await?;
        conversations::touch(&mut *transaction, conversation, None, now).await?;
        queue::add_index(&mut *transaction).await?;
        transaction.commit().await?;
        let task = Task {
            sampling: Sampling::default(),
            turn,
            conversation,
            title,
            incident,
            profile,
            caller,
            speaker,
            author,
            question,
            decided,
            token,
            recorder: Recorder::new(Actor::service(turn)),
        };
        Ok(Some(answer_now(app, task, opened, None)))
    }
    .boxed()
}

/// Describes the decisions in words.
fn said(decided: &[Approval]) -> String {
    let mut text = "Decisions on what waited for approval.".to_owned();
    for approval in decided {
        let by = approval.decided_by.as_deref().unwrap_or("Nobody");
        let call = format!("this call of `{}` (MCP server `{}`)", approval.tool, approval.server);
        let what = match approval.state {
            ApprovalState::Denied => format!("{by} denied {call}; it is not carried out:"),
            ApprovalState::Expired => format!("Nobody decided in time on {call}; it is not carried out:"),
            ApprovalState::Failed => {
                format!("{by} approved {call}, and it is not known whether it was carried out:")
            }
            _ => format!("{by} approved {call}:"),
        };
        let arguments = serde_json::to_string_pretty(&approval.arguments).unwrap_or_default();
        let _ = write!(text, "\n\n{what}\n\n{}", markdown::block("json", &arguments));
        if let Some(note) = &approval.note {
            let _ = write!(text, "\n\n{by} says: {note}");
        }
    }
    text
}
