//! Search for messages of conversations.

use super::learn::POSITIONS;
use super::{Knowledge, Query, Reason};
use crate::db::conversations;
use crate::db::documents::Realm;
use crate::domain::MessageRole;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A message that was found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageHit {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Its title.
    pub title: String,
    /// The incident it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<Uuid>,
    /// The message's place in the conversation, from 0.
    pub position: i32,
    /// Who speaks.
    pub role: MessageRole,
    /// Who said it.
    pub author: String,
    /// The part of the message that was found.
    pub text: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Higher is better; only good for comparing hits of one search.
    pub score: f32,
    /// Why it was found.
    pub reasons: Vec<Reason>,
}

impl Knowledge {
    /// Returns the messages that match a query: the best one of each conversation, best first.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn said_before(&self, text: &str, limit: usize) -> sqlx::Result<Vec<MessageHit>> {
        let query = Query {
            text,
            realms: &[Realm::Conversation],
            kind: None,
            applies_to: None,
            limit,
            namespaces: None,
        };
        let hits = self.search(&query).await?.hits;
        let places: Vec<(Uuid, i32)> =
            hits.iter().filter_map(|hit| Some((hit.conversation_id?, hit.position / POSITIONS))).collect();
        let messages = conversations::messages_at(&self.pool, &places).await?;
        let said = hits.into_iter().filter_map(|hit| {
            let (conversation, position) = (hit.conversation_id?, hit.position / POSITIONS);
            let message = messages
                .iter()
                .find(|message| message.conversation_id == conversation && message.position == position)?;
            Some(MessageHit {
                conversation_id: conversation,
                title: hit.title,
                incident_id: hit.incident_id,
                position,
                role: message.role,
                author: message.author.clone(),
                text: hit.text,
                created_at: message.created_at,
                score: hit.score,
                reasons: hit.reasons,
            })
        });
        Ok(said.collect())
    }
}
