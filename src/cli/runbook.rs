//! `runbook draft`: drafts a runbook from an incident and its resolutions.

use crate::config::Config;
use crate::domain::{Incident, Resolution};
use crate::{app, db, knowledge, telemetry};
use anyhow::Context as _;
use clap::Subcommand;
use sqlx::PgPool;
use std::path::PathBuf;
use std::process::ExitCode;
use uuid::Uuid;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Write the draft of a runbook out of an incident.
    Draft {
        /// The incident's id, or the number of its issue.
        incident: String,
        /// File to write; standard output when left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs the command.
pub(super) async fn run(config: Config, action: Action) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let Action::Draft { incident, out } = action;
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let found = find(&connected.pool, &incident).await;
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    let (incident, resolutions) = found?;
    let text = knowledge::draft(&incident, &resolutions)?;
    match out {
        None => out!("{text}"),
        Some(path) => {
            let file = std::fs::File::create_new(&path);
            let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
            std::io::Write::write_all(&mut file, text.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            outln!("Written to {}. Finish it, then: regreen ingest {}", path.display(), path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(pool: &PgPool, name: &str) -> anyhow::Result<(Incident, Vec<Resolution>)> {
    let id = match (name.parse::<Uuid>(), name.trim_start_matches('#').parse::<i64>()) {
        (Ok(id), _) => Some(id),
        (_, Ok(number)) => db::resolutions::incident_of_issue(pool, number).await?.map(|(id, _)| id),
        _ => anyhow::bail!("`{name}` is neither an incident's id nor the number of an issue"),
    };
    let incident = match id {
        Some(id) => db::incidents::get(pool, id).await?,
        None => None,
    };
    let incident = incident.with_context(|| format!("there is no incident `{name}`"))?;
    let resolutions = db::resolutions::of_incident(pool, incident.id).await?;
    Ok((incident, resolutions))
}
