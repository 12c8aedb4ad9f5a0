//! The `regreen` binary: parses and runs.

use clap::Parser as _;
use regreen::cli::{self, Cli};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Boxed: it holds all settings.
    match Box::pin(cli::run(Cli::parse())).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("regreen: {}", cli::in_words(&error));
            ExitCode::FAILURE
        }
    }
}
