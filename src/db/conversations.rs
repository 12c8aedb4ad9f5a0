//! Conversations and their messages.

use super::decoded;
use crate::domain::{Conversation, ConversationMessage, MessageRole, Principal};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A message to insert.
#[derive(Debug)]
pub struct NewMessage<'a> {
    /// Role of the author.
    pub role: MessageRole,
    /// Author: a person, a tool or a model.
    pub author: &'a str,
    /// Text without secrets.
    pub text: &'a str,
    /// Sources of an analyst's answer.
    pub answer: Option<Answered<'a>>,
    /// Person who wrote the message or whom it answers; `None` for messages of the program.
    pub speaker: Option<&'a str>,
    /// Only person who may read it; `None` for everybody.
    pub visible_to: Option<&'a str>,
}

impl<'a> NewMessage<'a> {
    /// Creates a message of the program, without a speaker.
    #[must_use]
    pub fn of_program(role: MessageRole, author: &'a str, text: &'a str) -> Self {
        Self { role, author, text, answer: None, speaker: None, visible_to: None }
    }
}

/// Sources of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Turn that produced the answer.
    pub turn: Uuid,
    /// Cited lines, as JSON.
    pub citations: &'a Value,
    /// Names in the answer that occur in none of the analyst's input.
    pub not_found: &'a [String],
}

/// Returns the conversation of an incident, created if missing, and locks it until the transaction ends.
pub async fn of_incident(
    db: &mut PgConnection,
    incident: Uuid,
    title: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!(
        "insert into conversations (id, incident_id, title, created_at, updated_at) values ($1, $2, $3, $4, $4)
         on conflict (incident_id) do update set title = excluded.title, updated_at = excluded.updated_at
         returning id",
        Uuid::now_v7(),
        incident,
        title,
        now
    )
    .fetch_one(db)
    .await
}

/// Returns the position of the next message.
pub async fn length(db: impl PgExecutor<'_>, conversation: Uuid) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"select coalesce(max(position) + 1, 0) as "next!" from messages where conversation_id = $1"#,
        conversation
    )
    .fetch_one(db)
    .await
}

/// Inserts a message at a position.
pub async fn add_message(
    db: impl PgExecutor<'_>,
    conversation: Uuid,
    position: i32,
    message: &NewMessage<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let answer = message.answer.as_ref();
    let none = Value::Array(Vec::new());
    sqlx::query!(
        "insert into messages (id, conversation_id, position, role, author, text, created_at, turn_id, citations, not_found,
                               speaker, visible_to)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        Uuid::now_v7(),
        conversation,
        position,
        message.role.as_str(),
        message.author,
        message.text,
        now,
        answer.map(|answer| answer.turn),
        answer.map_or(&none, |answer| answer.citations),
        answer.map_or(&[][..], |answer| answer.not_found),
        message.speaker,
        message.visible_to
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Metadata of a message.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Position in the conversation, from 0.
    pub position: i32,
    /// Role of the author.
    pub role: MessageRole,
    /// Author.
    pub author: String,
    /// Creation time.
    pub created_at: DateTime<Utc>,
}

/// Returns the messages at these positions of conversations.
pub async fn messages_at(db: impl PgExecutor<'_>, places: &[(Uuid, i32)]) -> sqlx::Result<Vec<Spoken>> {
    let (conversations, positions): (Vec<Uuid>, Vec<i32>) = places.iter().copied().unzip();
    let rows = sqlx::query!(
        "select m.conversation_id, m.position, m.role, m.author, m.created_at from messages m
         join unnest($1::uuid[], $2::integer[]) as wanted (conversation_id, position)
              on m.conversation_id = wanted.conversation_id and m.position = wanted.position",
        &conversations,
        &positions
    );
    let spoken = rows.fetch_all(db).await?.into_iter().map(|row| {
        Ok(Spoken {
            conversation_id: row.conversation_id,
            position: row.position,
            role: decoded(&row.role)?,
            author: row.author,
            created_at: row.created_at,
        })
    });
    spoken.collect()
}

/// Creates a conversation that belongs to no incident.
pub async fn open(
    db: impl PgExecutor<'_>,
    id: Uuid,
    title: &str,
    opened_by: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into conversations (id, title, opened_by, created_at, updated_at) values ($1, $2, $3, $4, $4)",
        id,
        title,
        opened_by,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks a conversation until the transaction ends. Returns `false` when it does not exist.
pub async fn lock(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let row = sqlx::query_scalar!("select id from conversations where id = $1 for update", id);
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Updates the time of the last message and, if given, the agent.
pub async fn touch(
    db: impl PgExecutor<'_>,
    id: Uuid,
    agent: Option<Uuid>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update conversations set updated_at = $2, agent_id = coalesce($3, agent_id) where id = $1",
        id,
        now,
        agent
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Changes the title. Returns `false` when the conversation does not exist.
pub async fn rename(db: impl PgExecutor<'_>, id: Uuid, title: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("update conversations set title = $2 where id = $1", id, title);
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// Deletes a conversation with its messages, turns, evidence and search entries. Returns `false` when it does not
/// exist.
pub async fn remove(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    Ok(sqlx::query!("delete from conversations where id = $1", id).execute(db).await?.rows_affected() == 1)
}

/// Filter of a conversation list.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Agent.
    pub agent: Option<Uuid>,
    /// Incident.
    pub incident: Option<Uuid>,
    /// Inclusive start of the time of a message.
    pub since: Option<DateTime<Utc>>,
    /// Conversations without a message after this time.
    pub until: Option<DateTime<Utc>>,
    /// Words in the title or the messages.
    pub text: Option<&'a str>,
    /// Cursor for the next page: only conversations before this one.
    pub before: Option<Uuid>,
    /// Participation of a person.
    pub whose: Whose<'a>,
}

/// Filter by participation. A person's own conversations are those that the person opened or wrote in.
#[derive(Debug, Default, Clone, Copy)]
pub enum Whose<'a> {
    /// All conversations.
    #[default]
    Anybodys,
    /// Conversations of this person.
    Of(&'a str),
    /// Conversations of others only.
    NotOf(&'a str),
}

impl<'a> Whose<'a> {
    /// Returns the person, and whether the person's own conversations are selected.
    fn person(self) -> (Option<&'a str>, bool) {
        match self {
            Self::Anybodys => (None, true),
            Self::Of(person) => (Some(person), true),
            Self::NotOf(person) => (Some(person), false),
        }
    }
}

/// Lists conversations, most recently updated first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter<'_>,
    limit: i64,
) -> sqlx::Result<Vec<Conversation>> {
    let (person, own) = filter.whose.person();
    sqlx::query_as!(
        Conversation,
        r#"select c.id, c.title, c.incident_id, c.agent_id, c.opened_by, c.created_at, c.updated_at,
                  (select count(*) from messages m where m.conversation_id = c.id) as "messages!",
                  (select t.id from turns t where t.conversation_id = c.id and t.state = 'running' and t.lease_until > now()) as "running?"
           from conversations c
           where ($1::uuid is null or c.agent_id = $1) and ($2::uuid is null or c.incident_id = $2)
                 and ($3::timestamptz is null or c.updated_at >= $3) and ($4::timestamptz is null or c.updated_at <= $4)
                 and ($5::text is null or to_tsvector('simple', c.title) @@ plainto_tsquery('simple', $5)
                      or exists (select from chunks k join documents d on d.id = k.document_id
                                 where d.conversation_id = c.id and k.realm = 'conversation'
                                       and (k.search @@ plainto_tsquery('simple', $5) or k.search @@ plainto_tsquery('english', $5))))
                 and ($6::uuid is null or (c.updated_at, c.id) < (select b.updated_at, b.id from conversations b where b.id = $6))
                 and ($8::text is null or $9 = (coalesce(c.opened_by = $8, false)
                      or exists (select from messages m where m.conversation_id = c.id and m.speaker = $8)))
           order by c.updated_at desc, c.id desc limit $7"#,
        filter.agent,
        filter.incident,
        filter.since,
        filter.until,
        filter.text,
        filter.before,
        limit,
        person,
        own
    )
    .fetch_all(db)
    .await
}

/// Returns a conversation.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Conversation>> {
    sqlx::query_as!(
        Conversation,
        r#"select c.id, c.title, c.incident_id, c.agent_id, c.opened_by, c.created_at, c.updated_at,
                  (select count(*) from messages m where m.conversation_id = c.id) as "messages!",
                  (select t.id from turns t where t.conversation_id = c.id and t.state = 'running' and t.lease_until > now()) as "running?"
           from conversations c where c.id = $1"#,
        id
    )
    .fetch_optional(db)
    .await
}

/// Returns the messages from a position on, in order, as visible to the reader.
pub async fn messages(
    db: impl PgExecutor<'_>,
    id: Uuid,
    from: i32,
    reader: &Principal,
) -> sqlx::Result<Vec<ConversationMessage>> {
    let rows = sqlx::query!(
        "select id, position, role, author, text, citations, not_found, turn_id, speaker, visible_to, created_at
         from messages where conversation_id = $1 and position >= $2 order by position",
        id,
        from
    )
    .fetch_all(db)
    .await?;
    let said = rows.into_iter().map(|row| {
        let message = ConversationMessage {
            id: row.id,
            position: row.position,
            role: decoded(&row.role)?,
            author: row.author,
            text: row.text,
            citations: serde_json::from_value(row.citations).unwrap_or_default(),
            not_found: row.not_found,
            run: row.turn_id,
            visible_to: row.visible_to,
            speaker: row.speaker,
            created_at: row.created_at,
        };
        Ok(message.redacted_for(reader))
    });
    said.collect()
}

/// Returns whether anybody other than this person wrote in the conversation. Messages without a known speaker count as
/// others'.
pub async fn others_speak(db: impl PgExecutor<'_>, id: Uuid, speaker: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from messages where conversation_id = $1 and role = 'user' and speaker is distinct from $2) as "others!""#,
        id,
        speaker
    )
    .fetch_one(db)
    .await
}

/// Returns for each text whether it contains an answer visible only to this person.
pub async fn quoting_own(db: impl PgExecutor<'_>, owner: &str, texts: &[String]) -> sqlx::Result<Vec<bool>> {
    sqlx::query_scalar!(
        r#"select exists (select from messages m where m.visible_to = $1 and m.text <> '' and strpos(brought.text, m.text) > 0) as "own!"
           from unnest($2::text[]) with ordinality as brought (text, place) order by place"#,
        owner,
        texts
    )
    .fetch_all(db)
    .await
}

/// Returns the position of the message that a turn produced, if any.
pub async fn position_of(db: impl PgExecutor<'_>, turn: Uuid) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "select position from messages where turn_id = $1 and role = 'assistant' order by position limit 1",
        turn
    )
    .fetch_optional(db)
    .await
}

/// Returns the summary of earlier messages and the position of the first message that it does not cover.
pub async fn summary(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<(Option<String>, i32)> {
    let row = sqlx::query!("select summary, summarised from conversations where id = $1", id);
    Ok(row.fetch_optional(db).await?.map_or((None, 0), |row| (row.summary, row.summarised)))
}

/// Stores a summary of all messages before a position.
pub async fn summarise(db: impl PgExecutor<'_>, id: Uuid, summary: &str, before: i32) -> sqlx::Result<()> {
    sqlx::query!(
        "update conversations set summary = $2, summarised = $3 where id = $1 and summarised < $3",
        id,
        summary,
        before
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the latest conversation whose thread key matches the end of a client's history.
pub async fn of_thread(db: impl PgExecutor<'_>, thread: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from conversations where thread = $1 order by updated_at desc limit 1",
        thread
    )
    .fetch_optional(db)
    .await
}

/// Stores the thread key that the end of a client's history must match to continue the conversation.
pub async fn set_thread(db: impl PgExecutor<'_>, id: Uuid, thread: &str) -> sqlx::Result<()> {
    sqlx::query!("update conversations set thread = $2 where id = $1", id, thread).execute(db).await?;
    Ok(())
}
