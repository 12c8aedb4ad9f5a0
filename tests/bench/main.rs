//! `make bench`: figures of a release build. Prints, asserts nothing about time. Reports have a model and tools that answer at
//! once; streams have a model that takes its time; pages have a database with a lot in it.
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
