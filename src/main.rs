//! The `regreen` binary.
#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when the reader left; `cli::output` does not"
)]

use clap::Parser as _;
use regreen::cli::{self, Cli, output};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let code = match cli::run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            output::write_stderr(format_args!("regreen: {}", cli::in_words(&error)));
            ExitCode::FAILURE
        }
    };
    output::end(code)
}
