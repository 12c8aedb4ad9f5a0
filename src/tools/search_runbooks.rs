//! `search_runbooks`: finds documentation of the team about similar failures.

use super::{parse, spec};
use crate::agent::{Tool, ToolAnswer};
use crate::db::documents::Realm;
use crate::domain::ToolSpec;
use crate::evidence::tokens;
use crate::knowledge::{Hit, Knowledge, Query};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Maximum number of documents in an answer.
const LIMIT: usize = 4;
/// Approximate maximum tokens of an answer. A longer result would be stored as evidence, which a runbook is not.
const MAX_TOKENS: usize = 1_800;

/// Searches the runbooks.
pub struct SearchRunbooks {
    knowledge: Arc<Knowledge>,
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let description = "Finds passages of the team's runbooks, notes and alerts. Ask with the words or lines of the error, for example \
                       `ImagePullBackOff manifest unknown`.";
    let schema = json!({
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 2},
            "kind": {"type": "string", "enum": ["runbook", "k8s_doc", "alert", "note"], "description": "only this kind; all when left out"},
            "applies_to": {"type": "array", "items": {"type": "string"}, "description": "only what applies to one of these, for example [\"tekton\"]"}
        },
        "required": ["query"]
    });
    spec("search_runbooks", description, schema)
});

#[derive(Deserialize)]
struct Arguments {
    query: String,
    kind: Option<String>,
    applies_to: Option<Vec<String>>,
}

impl SearchRunbooks {
    /// Creates the tool for the documents.
    #[must_use]
    pub fn new(knowledge: Arc<Knowledge>) -> Self {
        Self { knowledge }
    }
}

#[async_trait]
impl Tool for SearchRunbooks {
    fn spec(&self) -> &ToolSpec {
        &SPEC
    }

    fn is_knowledge(&self) -> bool {
        true
    }

    async fn call(&self, arguments: Value, _cancel: CancellationToken) -> ToolAnswer {
        let arguments: Arguments = match parse(arguments) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        let applies_to = arguments.applies_to.filter(|names| !names.is_empty());
        let query = Query {
            text: &arguments.query,
            realms: &[Realm::Runbook],
            kind: arguments.kind.as_deref(),
            applies_to: applies_to.as_deref(),
            limit: LIMIT,
            namespaces: None,
        };
        answer(&self.knowledge, &query, "no runbook comes near these words").await
    }
}

/// Returns the hits as text, as many as fit.
pub(super) async fn answer(knowledge: &Knowledge, query: &Query<'_>, none: &str) -> ToolAnswer {
    match knowledge.search(query).await {
        Ok(found) if found.hits.is_empty() => ToolAnswer::Ok(none.to_owned()),
        Ok(found) => {
            let mut text = String::new();
            for hit in &found.hits {
                let passage = passage(hit);
                if tokens::estimate(&text) + tokens::estimate(&passage) > MAX_TOKENS && !text.is_empty() {
                    break;
                }
                text.push_str(&passage);
            }
            ToolAnswer::Ok(text)
        }
        Err(error) => {
            tracing::warn!(%error, "the documents cannot be searched");
            ToolAnswer::Failed("the documents cannot be searched right now; go on without them".to_owned())
        }
    }
}

fn passage(hit: &Hit) -> String {
    let state = match (hit.kind.as_str(), hit.solved) {
        ("incident", true) => ", solved",
        ("incident", false) => ", open",
        _ => "",
    };
    format!("## {} ({}{state})\n{}\n\n", hit.heading, hit.path, hit.text)
}
