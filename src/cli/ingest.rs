//! `ingest`: stores documents with their embeddings and reports unreadable files at the end.

use crate::config::Config;
use crate::knowledge::{Corpus, Ingested, Knowledge};
use crate::{app, telemetry};
use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `ingest`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Markdown (.md), AsciiDoc (.adoc), text (.txt) and Prometheus alert rules (.yaml), or folders of them. What is gone from
    /// a folder since the last time is removed.
    paths: Vec<PathBuf>,
    /// Remove everything that came from the given folders instead.
    #[arg(long, requires = "paths")]
    remove: bool,
}

/// Stores the built-in runbooks, the documents of the configured folder and those of the paths. Fails at the end when a
/// file could not be read.
pub(super) async fn run(config: Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let mut corpora = Knowledge::corpora(&config)?;
    for path in &arguments.paths {
        corpora.push(if arguments.remove { Corpus::gone(path) } else { Corpus::of_path(path)? });
    }
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let knowledge = Knowledge::new(&config, connected.pool.clone(), app::http_client()?)?;
    let outcome = store(&knowledge, &corpora).await;
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    let (done, embedded) = outcome?;
    outln!(
        "{} documents stored, {} unchanged, {} removed; {embedded} pieces embedded.",
        done.stored,
        done.unchanged,
        done.removed
    );
    let mut code = ExitCode::SUCCESS;
    for (path, reason) in corpora.iter().flat_map(|corpus| &corpus.rejected) {
        errln!("left out: {path}: {reason}");
        code = ExitCode::FAILURE;
    }
    Ok(code)
}

async fn store(knowledge: &Knowledge, corpora: &[Corpus]) -> anyhow::Result<(Ingested, u64)> {
    let style = ProgressStyle::with_template("{prefix:10} {bar:40} {pos}/{len} {msg}")?;
    let all: usize = corpora.iter().map(|corpus| corpus.documents.len()).sum();
    let bar = ProgressBar::new(all as u64).with_style(style.clone()).with_prefix("reading");
    let mut done = Ingested::default();
    for corpus in corpora {
        let told = bar.clone();
        let progress = move |path: &str| {
            told.set_message(path.to_owned());
            told.inc(1);
        };
        let one = knowledge.ingest(corpus, Arc::new(progress)).await?;
        done.stored += one.stored;
        done.unchanged += one.unchanged;
        done.removed += one.removed;
    }
    bar.finish_and_clear();
    let bar = ProgressBar::new(0).with_style(style).with_prefix("embedding");
    let mut progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let embedded = knowledge.catch_up(&mut progress).await.context(
        "the documents are stored and are found by their words; their vectors are still missing: a server tries again by itself",
    )?;
    bar.finish_and_clear();
    Ok((done, embedded))
}
