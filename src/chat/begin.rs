//! A question comes in: one transaction stores it and opens the turn, then the answer begins.

use super::answer::{self, Task};
use super::profiles::{self, Sampling};
use crate::app::{App, Place};
use crate::clock;
use crate::db::conversations::{self, NewMessage};
use crate::db::turns::{self, NewTurn, Opened};
use crate::db::{incidents, queue};
use crate::domain::Caller;
use crate::evidence::redact::Redactor;
use crate::live::Answer;
use crate::telemetry::trace::FutureExt as _;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Longest title.
const MAX_TITLE: usize = 80;
/// How long a question may be redacted, with the wait for a thread.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A first question of fewer words says too little for a title.
const MIN_WORDS: usize = 3;

/// A question.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// What is said.
    pub message: String,
    /// In which conversation; a new one when left out.
    pub conversation: Option<Uuid>,
    /// To which agent; the conversation's when left out.
    pub agent: Option<Uuid>,
    /// About which incident, when no conversation is named: in the incident's own.
    pub incident: Option<Uuid>,
    /// Who asks.
    pub caller: Caller,
    /// By which name.
    pub author: String,
    /// How the model answers, beside the agent's own settings.
    pub sampling: Sampling,
    /// What was said before, elsewhere: role, author and text, for a conversation that is opened now.
    pub before: Vec<(&'static str, String, String)>,
}

/// An answer that began.
#[derive(Debug)]
pub struct Begun {
    /// The turn.
    pub turn: Uuid,
    /// The conversation.
    pub conversation: Uuid,
    /// What happens.
    pub answer: Arc<Answer>,
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing of that id.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// Another answer is being made.
    #[error("this conversation is being answered already; wait for the end, or stop it")]
    Busy,
    /// As many answers are being made as may be.
    #[error("as many answers are being made as this server makes at a time; ask again in a moment")]
    Full,
    /// The process ends.
    #[error("the server is stopping; ask again in a moment")]
    Stopping,
    /// The database is away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Stores a question and begins to answer it.
///
/// # Errors
/// See [`Refusal`].
pub async fn begin(app: &Arc<App>, ask: Ask) -> Result<Begun, Refusal> {
    if app.shutdown.token().is_cancelled() {
        return Err(Refusal::Stopping);
    }
    let place = app.room.answer().ok_or(Refusal::Full)?;
    let (ask, Redacted { question, secrets, before }) = redacted(app, ask).await?;
    let title_of = title(&question);
    let question = noted(question, secrets);
    let now = clock::now();
    let mut transaction = app.pool.begin().await?;
    let Conversation { id, title, incident, agent } =
        conversation(&mut transaction, &ask, title_of, now).await?;
    // With this connection: were all of them in the hands of transactions that wait for another one, nobody would go on.
    let profile = profiles::choose(&mut *transaction, agent, incident.is_some()).await?;
    let profile = profile.ok_or(Refusal::Missing("agent"))?;
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
        return Err(Refusal::Busy);
    };
    let mut messages: Vec<NewMessage<'_>> = before.iter().map(|brought| brought.message(&ask)).collect();
    messages.push(NewMessage {
        role: "user",
        author: &ask.author,
        text: &question,
        answer: None,
        speaker: Some(&ask.author),
        visible_to: None,
    });
    app.knowledge.say(&mut transaction, (id, &title, incident), &messages, now).await?;
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
    };
    Ok(answer_now(app, task, opened, Some(place)))
}

/// Where it is asked.
struct Conversation {
    id: Uuid,
    title: String,
    incident: Option<Uuid>,
    agent: Option<Uuid>,
}

/// The conversation of a question: locked when it is there, else opened, by this title if it is nobody's.
async fn conversation(
    transaction: &mut sqlx::PgConnection,
    ask: &Ask,
    title: String,
    now: DateTime<Utc>,
) -> Result<Conversation, Refusal> {
    match (ask.conversation, ask.incident) {
        (Some(id), _) => {
            if !conversations::lock(&mut *transaction, id).await? {
                return Err(Refusal::Missing("conversation"));
            }
            let known = conversations::get(&mut *transaction, id).await?;
            let known = known.ok_or(Refusal::Missing("conversation"))?;
            let agent = ask.agent.or(known.agent_id);
            Ok(Conversation { id, title: known.title, incident: known.incident_id, agent })
        }
        (None, Some(incident)) => {
            let known = incidents::get(&mut *transaction, incident).await?;
            let known = known.ok_or(Refusal::Missing("incident"))?;
            let id = conversations::of_incident(transaction, incident, &known.title, now).await?;
            Ok(Conversation { id, title: known.title, incident: Some(incident), agent: ask.agent })
        }
        (None, None) => {
            let id = Uuid::now_v7();
            conversations::open(&mut *transaction, id, (&title, &ask.caller.name), now).await?;
            Ok(Conversation { id, title, incident: None, agent: ask.agent })
        }
    }
}

/// A message that was said elsewhere.
struct Brought {
    role: &'static str,
    author: String,
    text: String,
    /// Whether it holds an answer that is visible to whoever asks alone.
    is_own: bool,
}

impl Brought {
    fn message<'a>(&'a self, ask: &'a Ask) -> NewMessage<'a> {
        let visible_to = self.is_own.then_some(ask.caller.name.as_str());
        let (author, text, speaker) = (&self.author, &self.text, Some(ask.author.as_str()));
        NewMessage { role: self.role, author, text, answer: None, speaker, visible_to }
    }
}

/// What was said before, elsewhere: `texts` are without secrets. What was visible to whoever asks alone stays so.
async fn brought(db: &mut sqlx::PgConnection, ask: &Ask, texts: Vec<String>) -> sqlx::Result<Vec<Brought>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let own = conversations::quoting_own(db, &ask.caller.name, &texts).await?;
    let brought = said_before(ask).zip(texts).zip(own);
    Ok(brought
        .map(|(((role, author, _), text), is_own)| Brought { role, author: author.clone(), text, is_own })
        .collect())
}

/// What a new conversation begins with.
fn said_before(ask: &Ask) -> impl Iterator<Item = &(&'static str, String, String)> {
    ask.before.iter().filter(|(_, _, text)| ask.conversation.is_none() && !text.trim().is_empty())
}

/// What is said, and below it how many secrets were taken out: whoever pasted one learns so where they look.
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
    /// Secrets in the question.
    secrets: usize,
    /// The texts of what was said before.
    before: Vec<String>,
}

/// The question, and what was said before it in a new conversation, redacted on the blocking pool.
async fn redacted(app: &App, ask: Ask) -> Result<(Ask, Redacted), Refusal> {
    let redacted = app.blocking.run_checked(LIMIT, move |deadline| {
        let mut redactor = Redactor::new();
        let question = redactor.redact_within(ask.message.trim(), deadline)?;
        let secrets = redactor.count();
        let before = said_before(&ask).map(|(_, _, text)| redactor.redact_within(text, deadline));
        let before = before.collect::<Result<_, _>>()?;
        Ok((ask, Redacted { question, secrets, before }))
    });
    redacted.await.map_err(|error| {
        tracing::warn!(%error, "a question could not be redacted");
        Refusal::Full
    })
}

/// Begins to answer in a turn that was opened; in a place of its own, or beside all others.
pub(super) fn answer_now(app: &Arc<App>, task: Task, opened: Opened, place: Option<Place>) -> Begun {
    let (turn, conversation) = (task.turn, task.conversation);
    let answer = app.live.begin(turn, &task.caller.name, &app.drain);
    if opened == Opened::Own {
        answer.make_own();
    }
    let made = answer::run(Arc::clone(app), task, Arc::clone(&answer)).with_current_context();
    app.shutdown.spawn(async move {
        made.await;
        drop(place);
    });
    Begun { turn, conversation, answer }
}

/// What a conversation is called after its first question: the question's first line, cut at a word.
fn title(question: &str) -> String {
    shortened(question.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("Conversation"))
}

/// What it is called after the first answer, when the question says too little (`hello`, `help!`): with the answer's first
/// line of text.
pub(super) fn title_with_answer(title: &str, answer: &str) -> Option<String> {
    let plain = |line: &str| {
        let line: String = line.chars().filter(|c| !matches!(c, '*' | '`' | '#' | '>' | '_')).collect();
        line.trim().to_owned()
    };
    let line = answer.lines().map(plain).find(|line| line.chars().any(char::is_alphabetic))?;
    (title.split_whitespace().count() < MIN_WORDS).then(|| shortened(&format!("{title}: {line}")))
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= MAX_TITLE {
        return line.to_owned();
    }
    let cut: String = line.chars().take(MAX_TITLE).collect();
    let end = cut.rfind(char::is_whitespace).filter(|end| *end > MAX_TITLE / 2).unwrap_or(cut.len());
    format!("{}…", cut[..end].trim_end())
}

#[cfg(test)]
mod unit {
    use super::{title, title_with_answer};

    #[test]
    fn a_title_is_the_first_line_cut_at_a_word() {
        assert_eq!(title("\n  Why does it fail?\nMore"), "Why does it fail?");
        let long = title(&"somewhat longish words ".repeat(9));
        assert!(long.ends_with('…') && long.chars().count() <= 81 && !long.contains(" …"), "{long}");
        assert_eq!(title(&"ä".repeat(200)).chars().count(), 81);
        assert_eq!(title_with_answer("Why does it fail?", "Because."), None);
        assert_eq!(
            title_with_answer("hello", "---\n# **Hi**, ask me about `failures`.\nMore.").as_deref(),
            Some("hello: Hi, ask me about failures.")
        );
    }
}
