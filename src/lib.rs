//! Regreen brings broken CI/CD pipelines back to green.
//!
//! The map, from the top of the ladder down; a module imports only from its own rung or a lower one:
//! `cli` parses and runs; `server` is everything between the socket and a handler; `api`, `web` (the pages) and `jobs` are the edges, `demo` the stand-in cluster and forge; `triage` takes a
//! failure report to a filed issue, `chat` answers questions; `tools` are the agent's own; `app` holds the shared parts; `mcp` is every MCP server, `auth` who calls,
//! `knowledge` the runbooks and past failures, `events` what happens, for those who watch; `agent` is the loop; `llm` the models, `budget` what they may use and used, `db` all SQL, `prompts`, `config`, `telemetry`,
//! `shutdown`, `blocking` the bounded threads for long work, `audit` what a piece of work did until it is on record, `metrics` what is counted; `domain` the plain types, `evidence` the pure functions over logs, `clock` the time,
//! `overrides` files that take the places of what is built in.
#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when the reader left; `cli::output` does not"
)]

pub mod agent;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod blocking;
pub mod budget;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod demo;
pub mod domain;
pub mod events;
pub mod evidence;
pub mod jobs;
pub mod knowledge;
pub mod llm;
pub mod mcp;
pub mod metrics;
pub mod notify;
mod overrides;
pub mod prompts;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tools;
pub mod triage;
mod web;
