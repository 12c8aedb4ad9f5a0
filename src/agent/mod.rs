//! The loop between a model and its tools, within limits. Independent of HTTP, SQL and Kubernetes.

mod calls;
mod egress_guard;
mod event;
mod fit;
mod run;
mod schemas;
#[cfg(test)]
mod tests;
mod tool;
mod workspace;

pub use calls::Single;
pub use egress_guard::was_kept_back;
pub use event::{Event, Review, Watcher};
pub use fit::{estimate_tool, tools_beside, tools_that_fit};
pub use run::{Agent, Outcome};
pub use schemas::Schemas;
pub use tool::{Tool, ToolAnswer};
pub use workspace::Workspace;
