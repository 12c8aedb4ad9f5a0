//! Regreen brings broken CI/CD pipelines back to green.
//!
//! Modules in layers, top to bottom; a module imports only from its own layer or a lower one:
//!
//! - `cli`: command line.
//! - `server`: everything between the socket and a handler.
//! - `api`, `web` (the pages), `jobs`: interfaces; `demo`: simulated cluster and forge.
//! - `triage`: from a failure report to a filed issue; `chat`: answers to questions.
//! - `tools`: the agent's own tools.
//! - `app`: shared state.
//! - `mcp`: MCP servers; `auth`: authentication; `knowledge`: runbooks and past failures; `events`: event streams.
//! - `agent`: the agent loop.
//! - `llm`: models; `budget`: their usage and limits; `db`: all SQL; `prompts`, `config`, `telemetry`, `shutdown`;
//!   `blocking`: bounded threads for long work; `audit`: buffered audit events; `metrics`: Prometheus metrics.
//! - `domain`: plain types; `evidence`: pure functions over logs; `clock`: the time; `overrides`: files that override
//!   built-in ones.
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
