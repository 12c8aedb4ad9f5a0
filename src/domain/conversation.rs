//! Conversations, as shown to users.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conversation {
    /// Identifies it.
    pub id: Uuid,
    /// What it is about.
    pub title: String,
    /// The incident it is about.
    pub incident_id: Option<Uuid>,
    /// Who answers.
    pub agent_id: Option<Uuid>,
    /// Who began it; absent where it began with an incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<String>,
    /// Number of messages.
    pub messages: i64,
    /// The run that is answering now.
    pub running: Option<Uuid>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When something was said last.
    pub updated_at: DateTime<Utc>,
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MessageRole {
    /// A person, or the program in the place of one.
    User,
    /// Whoever answers.
    Assistant,
}

impl MessageRole {
    /// Stable name, as stored and as models know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversationMessage {
    /// Identifies it.
    pub id: Uuid,
    /// Place in the conversation, from 0.
    pub position: i32,
    /// Who speaks.
    pub role: MessageRole,
    /// A person, `report`, `tracker`, a model, or `rules`.
    pub author: String,
    /// Markdown.
    pub text: String,
    /// The lines an answer rests on, in the order of its text.
    pub citations: Vec<Citation>,
    /// Names in an answer that stand nowhere in what the analyst was told.
    pub not_found: Vec<String>,
    /// The run that made an answer.
    pub run: Option<Uuid>,
    /// Who alone may read it: tools were called for it with their own token. Everybody may when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_to: Option<String>,
    /// The person who said it, or whom it answers; none of what the program says.
    #[serde(skip)]
    pub speaker: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Lines that an answer cites as `[E2:14]` or `[E2:14-20]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Citation {
    /// As it stands in the text.
    pub mark: String,
    /// Label of the evidence.
    pub evidence: String,
    /// What the evidence is.
    pub title: String,
    /// First line, from 1.
    pub first_line: u32,
    /// Last line.
    pub last_line: u32,
    /// The cited lines, shortened.
    pub quote: String,
    /// Whether the evidence has these lines.
    pub verified: bool,
    /// Where the evidence can be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<String>,
}
