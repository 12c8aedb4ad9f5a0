//! The loop between a model and its tools, within a budget. Knows neither HTTP, SQL nor Kubernetes.

mod tool;

pub use tool::{Tool, ToolAnswer};
