//! `search_runbooks`: what the team wrote down about failures like this one.

use super::{parse, spec};
use crate::agent::{Tool, ToolAnswer};
use crate::domain::ToolSpec;
use crate::knowledge;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Chunks shown.
const LIMIT: i64 = 4;

/// Searches the runbooks in Postgres.
pub struct SearchRunbooks {
    pool: PgPool,
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

impl SearchRunbooks {
    /// Over this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let description = "Finds passages of the team's runbooks. Ask with the words of the error, for example \
                           `ImagePullBackOff manifest unknown`.";
        let schema = json!({
            "type": "object",
            "properties": {"query": {"type": "string", "minLength": 2}},
            "required": ["query"]
        });
        Self { pool, spec: spec("search_runbooks", description, schema) }
    }
}

#[async_trait]
impl Tool for SearchRunbooks {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _cancel: CancellationToken) -> ToolAnswer {
        let arguments: Arguments = match parse(arguments) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        match knowledge::search(&self.pool, &arguments.query, LIMIT).await {
            Ok(hits) if hits.is_empty() => ToolAnswer::Ok("no runbook mentions these words".to_owned()),
            Ok(hits) => {
                let passages: Vec<String> = hits
                    .iter()
                    .map(|hit| format!("## {} — {} ({})\n{}", hit.title, hit.heading, hit.path, hit.text))
                    .collect();
                ToolAnswer::Ok(passages.join("\n\n"))
            }
            Err(error) => {
                tracing::warn!(%error, "the runbooks cannot be searched");
                ToolAnswer::Failed("the runbooks cannot be searched right now; go on without them".to_owned())
            }
        }
    }
}
