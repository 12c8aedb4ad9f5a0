//! `similar_incidents`: finds similar past incidents and their resolutions.

use super::search_runbooks::answer;
use super::{parse, spec};
use crate::agent::{Tool, ToolAnswer};
use crate::db::documents::Realm;
use crate::domain::ToolSpec;
use crate::knowledge::{Knowledge, Query};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use tokio_util::sync::CancellationToken;

/// Maximum number of incidents in an answer.
const LIMIT: usize = 4;

/// Searches the incidents.
pub struct SimilarIncidents {
    knowledge: Arc<Knowledge>,
    /// Namespaces to search; all when absent.
    namespaces: Option<Arc<[String]>>,
}

static SPEC: LazyLock<ToolSpec> = LazyLock::new(|| {
    let description = "Finds past incidents like this one: their causes and, when they are solved, what helped. Ask with the lines of the error.";
    let schema = json!({
        "type": "object",
        "properties": {"query": {"type": "string", "minLength": 2}},
        "required": ["query"]
    });
    spec("similar_incidents", description, schema)
});

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

impl SimilarIncidents {
    /// Creates the tool for the incidents of these namespaces; all when absent.
    #[must_use]
    pub fn new(knowledge: Arc<Knowledge>, namespaces: Option<Arc<[String]>>) -> Self {
        Self { knowledge, namespaces }
    }
}

#[async_trait]
impl Tool for SimilarIncidents {
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
        let query = Query {
            text: &arguments.query,
            realms: &[Realm::Incident],
            kind: None,
            applies_to: None,
            limit: LIMIT,
            namespaces: self.namespaces.as_deref(),
        };
        answer(&self.knowledge, &query, "no past incident comes near these words").await
    }
}
