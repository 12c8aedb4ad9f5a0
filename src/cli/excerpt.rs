//! `excerpt`: the lines of a log that tell why it failed.

use crate::evidence::clean::clean;
use crate::evidence::excerpt::{Options, excerpt};
use crate::evidence::redact::Redactor;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `excerpt`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The log; `-` reads standard input.
    file: PathBuf,
    /// Most tokens of the excerpt.
    #[arg(long, default_value_t = 2_000)]
    max_tokens: usize,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Prints the excerpt, redacted.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    if arguments.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = std::fs::read(&arguments.file)
            .with_context(|| format!("cannot read {}", arguments.file.display()))?;
    }
    let text = Redactor::new().redact(&clean(&String::from_utf8_lossy(&bytes)));
    let excerpt = excerpt(&text, arguments.max_tokens, &Options::default());
    match arguments.format {
        Format::Text => print!("{}", excerpt.render()),
        Format::Json => {
            let value = json!({
                "total_lines": excerpt.total_lines, "tokens": excerpt.tokens, "spans": excerpt.spans(), "text": excerpt.render()});
            println!("{value}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
