//! `make bench`: measures a release build. Prints results without asserting times. Reports use an instant model and
//! instant tools, streams use a slow model, and pages use a large database.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench fails by panicking and owns its servers"
)]

mod audit;
mod burst;
mod endpoint;
mod flight;
mod follow;
mod live;
mod pages;
mod program;
mod prune;
mod reports;
mod streams;
#[path = "../support/mod.rs"]
mod support;
