//! Agent profiles for conversations.

use crate::domain::{Profile, Prompt};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

struct Row {
    id: Uuid,
    name: String,
    description: String,
    prompt_file: Option<String>,
    prompt_text: Option<String>,
    model: Option<String>,
    temperature: Option<f32>,
    max_output_tokens: Option<i32>,
    tools: Vec<String>,
    turns: Option<i32>,
    total_tokens: Option<i64>,
    built_in: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Profile {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            prompt: row
                .prompt_file
                .map_or_else(|| Prompt::Text(row.prompt_text.unwrap_or_default()), Prompt::File),
            model: row.model,
            temperature: row.temperature,
            max_output_tokens: row.max_output_tokens,
            tools: row.tools,
            turns: row.turns,
            total_tokens: row.total_tokens,
            built_in: row.built_in,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Lists all agents, built-in ones first.
pub async fn list(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Profile>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, description, prompt_file, prompt_text, model, temperature, max_output_tokens, tools, turns,
                total_tokens, built_in, created_at, updated_at
         from agents order by built_in desc, created_at, id"
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Profile::from).collect())
}

/// Returns an agent.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Profile>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, description, prompt_file, prompt_text, model, temperature, max_output_tokens, tools, turns,
                total_tokens, built_in, created_at, updated_at
         from agents where id = $1",
        id
    );
    Ok(row.fetch_optional(db).await?.map(Profile::from))
}

/// Inserts or updates an agent. Returns `false` when its name belongs to another agent.
pub async fn put(db: impl PgExecutor<'_>, profile: &Profile) -> sqlx::Result<bool> {
    let (file, text) = match &profile.prompt {
        Prompt::File(name) => (Some(name), None),
        Prompt::Text(text) => (None, Some(text)),
    };
    let stored = sqlx::query!(
        "insert into agents (id, name, description, prompt_file, prompt_text, model, temperature, max_output_tokens, tools,
                             turns, total_tokens, built_in, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         on conflict (id) do update set name = excluded.name, description = excluded.description,
             prompt_file = excluded.prompt_file, prompt_text = excluded.prompt_text, model = excluded.model,
             temperature = excluded.temperature, max_output_tokens = excluded.max_output_tokens, tools = excluded.tools,
             turns = excluded.turns, total_tokens = excluded.total_tokens, updated_at = excluded.updated_at",
        profile.id,
        profile.name,
        profile.description,
        file,
        text,
        profile.model,
        profile.temperature,
        profile.max_output_tokens,
        &profile.tools,
        profile.turns,
        profile.total_tokens,
        profile.built_in,
        profile.created_at,
        profile.updated_at
    )
    .execute(db)
    .await;
    match stored {
        Ok(_) => Ok(true),
        Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes an agent that is not built in; its conversations stay. Returns `false` when there is none.
pub async fn remove(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let gone = sqlx::query!("delete from agents where id = $1 and not built_in", id);
    Ok(gone.execute(db).await?.rows_affected() == 1)
}
