//! Accepts a question: stores it and opens its turn in one transaction, then starts the answer.

use super::driver::{StartedTurn, answer_now};
use super::profiles::{self, Sampling};
use super::task::Task;
use super::title::title;
use crate::app::App;
use crate::audit::Recorder;
use crate::blocking::BlockingPool;
use crate::clock;
use crate::db::conversations::{self, NewMessage};
use crate::db::turns::{self, NewTurn};
use crate::db::{incidents, queue};
use crate::domain::{Actor, Caller, MessageRole};
use crate::evidence::redact::Redactor;
use crate::knowledge::ConversationRef;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Time limit for redacting a question, including the wait for a thread.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A question of a user.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Text of the question.
    pub message: String,
    /// The conversation. `None` opens a new one.
    pub conversation: Option<Uuid>,
    /// The agent. Defaults to the conversation's agent.
    pub agent: Option<Uuid>,
    /// The incident whose own conversation is used when no conversation is given.
    pub incident: Option<Uuid>,
    /// The user who asks.
    pub caller: Caller,
    /// The user's display name.
    pub author: String,
    /// Sampling settings that override those of the agent.
    pub sampling: Sampling,
    /// Earlier messages from an external conversation. Used only when a conversation is opened.
    pub before: Vec<ExternalMessage>,
}

/// A message of an external conversation.
#[derive(Debug, Clone)]
pub struct ExternalMessage {
    /// Role of the author.
    pub role: MessageRole,
    /// Name of the author.
    pub author: String,
    /// Text of the message.
    pub text: String,
}

/// Error of a question.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The named object does not exist.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// An answer is already running in this conversation.
    #[error("this conversation is being answered already; wait for the end, or stop it")]
    Busy,
    /// The limit of concurrent answers is reached, or the question could not be redacted in time.
    #[error("as many answers are being made as this server makes at a time; ask again in a moment")]
    Full,
    /// The server is shutting down.
    #[error("the server is stopping; ask again in a moment")]
    Stopping,
    /// The database is unavailable.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Stores a question and starts the answer.
///
/// # Errors
/// See [`AskError`].
pub async fn begin(app: &Arc<App>, ask: Ask) -> Result<StartedTurn, AskError> {
    if app.shutdown.token().is_cancelled() {
        return Err(AskError::Stopping);
    }
    let place = app.admission.answer().ok_or(AskError::Full)?;
    let (ask, Redacted { question, secrets, before }) = redacted(&app.blocking, ask).await?;
    let title_of = title(&question);
    let question = noted(question, secrets);
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    let Conversation { id, title, incident, agent } =
        conversation(&mut transaction, &ask, title_of, now).await?;
    // Uses the transaction's connection. If every transaction waited for a second connection, the pool would deadlock.
    let profile = profiles::choose(&mut *transaction, agent, incident.is_some()).await?;
    let profile = profile.ok_or(AskError::Missing("agent"))?;
    let before = brought(&mut transaction, &ask, before).await?;
    let turn = Uuid::now_v7();
    let new = NewTurn {
        id: turn,
        conversation: id,
        caller: &ask.caller,
        speaker: &ask.author,
        is_own: before.iter().any(|brought| brought.is_own),
    };
    let Some(opened) = turns::open(&mut transaction, &new, now).await? else {
        return Err(AskError::Busy);
    };
    let mut messages: Vec<NewMessage<'_>> = before.iter().map(|brought| brought.message(&ask)).collect();
    messages.push(NewMessage {
        role: MessageRole::User,
        author: &ask.author,
        text: &question,
        answer: None,
        speaker: Some(&ask.author),
        visible_to: None,
    });
    let about = ConversationRef { id, title: &title, incident };
    app.knowledge.append_messages(&mut transaction, about, &messages, now).await?;
    conversations::touch(&mut *transaction, id, Some(profile.id), now).await?;
    queue::add_index(&mut *transaction).await?;
    transaction.commit().await?;
    let (author, speaker) = (ask.author.clone(), ask.author.clone());
    let (decided, token, caller, sampling) = (Vec::new(), None, ask.caller, ask.sampling);
    let task = Task {
        turn,
        conversation: id,
        title,
        incident,
        profile,
        sampling,
        caller,
        speaker,
        author,
        question,
        decided,
        token,
        recorder: Recorder::new(Actor::service(turn)),
    };
    Ok(answer_now(app, task, opened, Some(place)))
}

/// The conversation of a question.
struct Conversation {
    id: Uuid,
    title: String,
    incident: Option<Uuid>,
    agent: Option<Uuid>,
}

/// Locks the conversation of a question, or opens one. A conversation without an incident gets this title.
async fn conversation(
    transaction: &mut sqlx::PgConnection,
    ask: &Ask,
    title: String,
    now: DateTime<Utc>,
) -> Result<Conversation, AskError> {
    match (ask.conversation, ask.incident) {
        (Some(id), _) => {
            if !conversations::lock(&mut *transaction, id).await? {
                return Err(AskError::Missing("conversation"));
            }
            let known = conversations::get(&mut *transaction, id).await?;
            let known = known.ok_or(AskError::Missing("conversation"))?;
            let agent = ask.agent.or(known.agent_id);
            Ok(Conversation { id, title: known.title, incident: known.incident_id, agent })
        }
        (None, Some(incident)) => {
            let known = incidents::get(&mut *transaction, incident).await?;
            let known = known.ok_or(AskError::Missing("incident"))?;
            let id = conversations::of_incident(transaction, incident, &known.title, now).await?;
            Ok(Conversation { id, title: known.title, incident: Some(incident), agent: ask.agent })
        }
        (None, None) => {
            let id = Uuid::now_v7();
            conversations::open(&mut *transaction, id, &title, &ask.caller.name, now).await?;
            Ok(Conversation { id, title, incident: None, agent: ask.agent })
        }
    }
}

/// A message imported from an external conversation.
struct ImportedMessage {
    role: MessageRole,
    author: String,
    text: String,
    /// Whether it contains an answer that is visible only to the user who asks.
    is_own: bool,
}

impl ImportedMessage {
    fn message<'a>(&'a self, ask: &'a Ask) -> NewMessage<'a> {
        let visible_to = self.is_own.then_some(ask.caller.name.as_str());
        let (author, text, speaker) = (&self.author, &self.text, Some(ask.author.as_str()));
        NewMessage { role: self.role, author, text, answer: None, speaker, visible_to }
    }
}

/// Returns the earlier external messages with their redacted `texts`. Private answers stay visible only to the user who asks.
async fn brought(
    db: &mut sqlx::PgConnection,
    ask: &Ask,
    texts: Vec<String>,
) -> sqlx::Result<Vec<ImportedMessage>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let own = conversations::quoting_own(db, &ask.caller.name, &texts).await?;
    let brought = said_before(ask).zip(texts).zip(own);
    Ok(brought
        .map(|((said, text), is_own)| ImportedMessage {
            role: said.role,
            author: said.author.clone(),
            text,
            is_own,
        })
        .collect())
}

/// Returns the messages to import into a new conversation.
fn said_before(ask: &Ask) -> impl Iterator<Item = &ExternalMessage> {
    ask.before.iter().filter(|said| ask.conversation.is_none() && !said.text.trim().is_empty())
}

/// Appends the number of removed secrets to the question, so that the user who pasted them learns about it.
fn noted(question: String, secrets: usize) -> String {
    if secrets == 0 {
        return question;
    }
    let what = if secrets == 1 { "1 secret was".to_owned() } else { format!("{secrets} secrets were") };
    format!(
        "{question}\n\n({what} removed from this message before it was stored or sent to a model. Rotate what was pasted.)"
    )
}

/// A question without secrets.
struct Redacted {
    question: String,
    /// Number of secrets removed from the question.
    secrets: usize,
    /// Texts of the earlier messages.
    before: Vec<String>,
}

/// Redacts the question and the messages to import, on the blocking pool.
async fn redacted(blocking: &BlockingPool, ask: Ask) -> Result<(Ask, Redacted), AskError> {
    let redacted = blocking.run_checked(LIMIT, move |deadline| {
        let mut redactor = Redactor::new();
        let question = redactor.redact_within(ask.message.trim(), deadline)?;
        let secrets = redactor.count();
        let before = said_before(&ask).map(|said| redactor.redact_within(&said.text, deadline));
        let before = before.collect::<Result<_, _>>()?;
        Ok((ask, Redacted { question, secrets, before }))
    });
    redacted.await.map_err(|error| {
        tracing::warn!(%error, "a question could not be redacted");
        AskError::Full
    })
}
