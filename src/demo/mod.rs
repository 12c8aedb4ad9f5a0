//! Simulated cluster and forge that speak MCP over loopback, with sample failures. Not used by `serve`.

pub mod cluster;
pub mod forge;
mod mcp_server;
pub mod samples;
