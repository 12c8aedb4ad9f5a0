//! Integration tests: the whole service on real Postgres, with real MCP around it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests look into the database with statements of their own")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod alertmanager;
mod api_schema;
mod approvals;
mod audit;
mod audit_chain;
mod auth;
mod bodies;
mod browser;
mod chaos_clients;
mod chaos_disk;
mod chaos_postgres;
mod chaos_replicas;
mod chaos_servers;
mod charts;
mod chat;
mod command_line;
mod command_line_keys;
mod command_line_output;
mod command_line_report;
mod conformance;
mod conversations;
mod crashes;
mod definitions;
mod doctor;
mod examples;
mod examples_run;
mod examples_shape;
mod four_eyes;
mod fuzz;
mod http_api;
mod image;
mod ingest;
mod injection;
mod learning;
mod limits;
#[cfg(feature = "local-embeddings")]
mod local_embedder;
mod login_page;
mod mcp_client;
mod mcp_door;
mod mcp_servers;
mod metrics;
mod model_failures;
mod mounts;
mod namespaces;
mod notify;
mod openai_door;
mod oversize;
mod own_access;
mod pages;
mod plants;
mod policy;
mod policy_property;
mod policy_real_servers;
mod postgres_upgrade;
mod private_postgres;
mod prune;
mod real_servers;
mod reconnect;
mod redaction;
mod redirects;
mod replay;
mod reports;
mod responsive;
mod search;
mod signatures;
mod slow_tracker;
mod traces;
mod usage;
