//! `ingest`: stores runbooks, reports bad files at the end.

use crate::config::Config;
use crate::{app, db, knowledge, telemetry};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;

/// Stores the built-in runbooks and those of `paths`. Fails at the end when a file was no runbook.
pub(super) async fn run(config: Config, paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let mut corpus = app::corpus(&config)?;
    for path in paths {
        corpus.add_path(path)?;
    }
    corpus.signatures()?;
    let connected = app::connect(&config).await?;
    db::migrate(&connected.pool).await?;
    let bar = ProgressBar::new(corpus.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    let ingested = knowledge::ingest(&connected.pool, &corpus, |path| {
        bar.set_message(path.to_owned());
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();
    println!("{} runbooks stored, {} unchanged.", ingested.stored, ingested.unchanged);
    for (path, reason) in &corpus.rejected {
        eprintln!("left out: {path}: {reason}");
    }
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    Ok(if corpus.rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
