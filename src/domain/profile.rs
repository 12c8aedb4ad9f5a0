//! Agent profiles, as configured by users.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Where an agent's instructions stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A file of `prompts/`, without its ending.
    File(String),
    /// A template.
    Text(String),
}

/// An agent: who answers in a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Profile {
    /// Identifies it.
    pub id: Uuid,
    /// Unique.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its instructions.
    pub prompt: Prompt,
    /// Another model of the configured endpoint.
    pub model: Option<String>,
    /// Instead of the configured one.
    pub temperature: Option<f32>,
    /// Instead of the configured one.
    pub max_output_tokens: Option<i32>,
    /// Tools it may call, as globs over their names (`openshift.*`); empty for all. Calls of those that change something wait for a
    /// person's approval.
    pub tools: Vec<String>,
    /// Completions of one answer, instead of the configured number.
    pub turns: Option<i32>,
    /// Tokens of one answer, instead of the configured number.
    pub total_tokens: Option<i64>,
    /// Shipped with the program: it can be copied, not changed.
    pub built_in: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}
