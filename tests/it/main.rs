//! Integration tests: the whole service on real Postgres, with real MCP around it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod http_api;
mod mcp_client;
mod model_failures;
mod reports;
