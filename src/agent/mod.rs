//! The loop between a model and its tools, within a budget. Knows neither HTTP, SQL nor Kubernetes.

mod calls;
mod event;
mod fit;
mod run;
#[cfg(test)]
mod tests;
mod told;
mod tool;
mod workspace;

pub use calls::Single;
pub use event::{Event, Review, Watcher};
pub use fit::{estimate_tool, tools_that_fit};
pub use run::{Agent, Outcome};
pub use told::was_kept_back;
pub use tool::{Tool, ToolAnswer};
pub use workspace::Workspace;
