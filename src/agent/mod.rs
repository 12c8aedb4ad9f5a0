//! The loop between a model and its tools, within a budget. Knows neither HTTP, SQL nor Kubernetes.

mod calls;
mod event;
mod fit;
mod run;
#[cfg(test)]
mod tests;
mod tool;
mod workspace;

pub use calls::Single;
pub(crate) use calls::sorted;
pub use event::{Event, Review, Watcher};
pub use run::{Agent, Outcome};
pub use tool::{Tool, ToolAnswer};
pub use workspace::Workspace;
