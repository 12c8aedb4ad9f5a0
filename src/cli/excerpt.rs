//! `excerpt`: prints the lines of a log that explain the failure.

use crate::evidence::excerpt::of_lines;
use crate::evidence::lines::{Lines, Templates};
use crate::evidence::redact::Redactor;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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
    /// Log of the last good run of the same job: what it says too counts less.
    #[arg(long, value_name = "FILE")]
    good_log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Prints the redacted excerpt. Reads a log of any size once and keeps only parts in memory.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let good = match &arguments.good_log {
        Some(path) => Some(Templates::read(open(path)?).with_context(|| cannot_read(path))?),
        None => None,
    };
    let mut redactor = Redactor::new();
    let read = Lines::read(open(&arguments.file)?, good.as_ref(), &mut redactor);
    let lines = read.with_context(|| cannot_read(&arguments.file))?;
    let excerpt = of_lines(&lines, arguments.max_tokens);
    match arguments.format {
        Format::Text => out!("{}", excerpt.text),
        Format::Json => {
            let value = json!({
                "total_lines": excerpt.total_lines,
                "tokens": excerpt.tokens,
                "spans": excerpt.spans(),
                "redactions": redactor.count(),
                "text": excerpt.text,
            });
            outln!("{value}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).with_context(|| cannot_read(path))?;
    Ok(Box::new(BufReader::with_capacity(256 << 10, file)))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
