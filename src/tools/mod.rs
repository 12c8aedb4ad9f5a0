//! Built-in tools of agents, one file each.

mod read_evidence;
mod search_evidence;
mod search_runbooks;
mod similar_incidents;
mod submit_diagnosis;

pub use read_evidence::ReadEvidence;
pub use search_evidence::SearchEvidence;
pub use search_runbooks::SearchRunbooks;
pub use similar_incidents::SimilarIncidents;
pub use submit_diagnosis::{Briefed, NAME as SUBMIT_DIAGNOSIS, SubmitDiagnosis, checked, diagnosis};

use crate::agent::{Tool, ToolAnswer, Workspace};
use crate::domain::{Access, ToolSpec};
use crate::knowledge::Knowledge;
use crate::mcp::{Registry, ToolCaller};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Returns the tools of a run: the built-in ones, and all tools of MCP servers that the policy lets the caller call without
/// approval.
#[must_use]
pub fn permitted(
    knowledge: &Arc<Knowledge>,
    mcp: &Registry,
    workspace: &Arc<Workspace>,
    caller: &ToolCaller,
) -> Vec<Arc<dyn Tool>> {
    let mut tools: Vec<Arc<dyn Tool>> = vec![
        Arc::new(ReadEvidence::new(Arc::clone(workspace))),
        Arc::new(SearchEvidence::new(Arc::clone(workspace))),
        Arc::new(SearchRunbooks::new(Arc::clone(knowledge))),
        Arc::new(SimilarIncidents::new(Arc::clone(knowledge), caller.context.namespaces().cloned())),
    ];
    let taken: Vec<String> = tools.iter().map(|tool| tool.spec().name.clone()).collect();
    let foreign = mcp.offered(caller).into_iter().filter(|tool| !tool.waits());
    let foreign = foreign.filter(|tool| !taken.contains(&tool.spec().name));
    tools.extend(foreign.map(|tool| Arc::new(tool) as Arc<dyn Tool>));
    tools
}

/// Creates the specification of a read-only tool.
fn spec(name: &str, description: &str, input_schema: Value) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: Arc::new(input_schema),
        access: Access::Read,
    }
}

/// Parses arguments, which the loop has already validated against the schema.
fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, ToolAnswer> {
    serde_json::from_value(arguments).map_err(|error| ToolAnswer::Failed(format!("bad arguments: {error}")))
}

/// Answer for an unknown label.
fn no_such_evidence(workspace: &Workspace, label: &str) -> ToolAnswer {
    let known: Vec<String> = workspace.pieces().iter().map(|piece| piece.label.clone()).collect();
    ToolAnswer::Failed(format!("there is no evidence `{label}`; there is {}", known.join(", ")))
}
