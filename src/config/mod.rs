//! Settings: a TOML file under environment variables, checked as a whole before anything starts.

mod mcp;

pub use mcp::{McpServer, Transport};
