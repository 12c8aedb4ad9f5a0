//! Integration tests: the whole service on real Postgres, with real MCP around it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests look into the database with statements of their own")]

#[path = "../support/mod.rs"]
mod support;

mod api_schema;
mod approvals;
mod browser;
mod chat;
mod command_line;
mod conformance;
mod conversations;
mod crashes;
mod fuzz;
mod http_api;
mod ingest;
mod learning;
#[cfg(feature = "local-embeddings")]
mod local_embedder;
mod mcp_client;
mod mcp_door;
mod mcp_servers;
mod model_failures;
mod openai_door;
mod pages;
mod private_postgres;
mod real_servers;
mod reconnect;
mod redaction;
mod reports;
mod search;
mod signatures;
