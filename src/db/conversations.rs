//! Conversations and their messages.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A message to store.
#[derive(Debug)]
pub struct NewMessage<'a> {
    /// `user` or `assistant`.
    pub role: &'a str,
    /// Who: a person, a tool, a model.
    pub author: &'a str,
    /// Its text, without secrets.
    pub text: &'a str,
}

/// The conversation of an incident, opened if there is none, and locked until the transaction ends.
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

/// Number of messages of a conversation: the position of the next one.
pub async fn length(db: impl PgExecutor<'_>, conversation: Uuid) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"select coalesce(max(position) + 1, 0) as "next!" from messages where conversation_id = $1"#,
        conversation
    )
    .fetch_one(db)
    .await
}

/// Stores a message at a position.
pub async fn add_message(
    db: impl PgExecutor<'_>,
    conversation: Uuid,
    position: i32,
    message: &NewMessage<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into messages (id, conversation_id, position, role, author, text, created_at) values ($1, $2, $3, $4, $5, $6, $7)",
        Uuid::now_v7(),
        conversation,
        position,
        message.role,
        message.author,
        message.text,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What is known of a message besides its text.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Place in it, from 0.
    pub position: i32,
    /// `user` or `assistant`.
    pub role: String,
    /// Who.
    pub author: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The messages at these places of these conversations.
pub async fn messages_at(db: impl PgExecutor<'_>, places: &[(Uuid, i32)]) -> sqlx::Result<Vec<Spoken>> {
    let (conversations, positions): (Vec<Uuid>, Vec<i32>) = places.iter().copied().unzip();
    sqlx::query_as!(
        Spoken,
        "select m.conversation_id, m.position, m.role, m.author, m.created_at from messages m
         join unnest($1::uuid[], $2::integer[]) as wanted (conversation_id, position)
              on m.conversation_id = wanted.conversation_id and m.position = wanted.position",
        &conversations,
        &positions
    )
    .fetch_all(db)
    .await
}
