//! `demo`: runs the whole service with a simulated cluster and forge.

use super::output;
use super::serve::{self, Roles, Service};
use crate::config::Privacy;
use crate::config::{Config, process_env};
use crate::demo::samples::{Sample, samples};
use crate::demo::{cluster, forge};
use crate::domain::{Caller, Failure, Report, ReportStatus};
use crate::shutdown::Shutdown;
use crate::triage::{Intake, Submission, intake};
use crate::{db, telemetry};
use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Polling interval of the progress.
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End after the first report; exit code 0 only if an issue was filed.
    #[arg(long)]
    once: bool,
    /// Which failed pod to report; `--list` names them.
    #[arg(long, value_name = "NAME")]
    sample: Option<String>,
    /// List the failed pods and end.
    #[arg(long)]
    list: bool,
}

/// Starts everything on loopback, reports one failed pod and prints the outcome.
pub(super) async fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let all = samples();
    if arguments.list {
        return Ok(list(&all));
    }
    let sample = match &arguments.sample {
        None => &all[0],
        Some(name) => all
            .iter()
            .find(|sample| sample.slug == name)
            .with_context(|| format!("there is no sample `{name}`; see `regreen demo --list`"))?,
    };
    let begun = Instant::now();
    let shutdown = Shutdown::new();
    shutdown.on_signals(Duration::ZERO).context("cannot listen for signals")?;
    let stand_ins = Shutdown::new();
    let cluster_url = cluster::start(&stand_ins).await?;
    let forge = forge::start(&stand_ins).await?;
    outln!("Stand-in cluster   {cluster_url} ({} failed pods)", all.len());
    outln!("Stand-in forge     {}", forge.mcp_url);
    let config = config(file, &arguments, &cluster_url, &forge.mcp_url)?;
    telemetry::init(&config.log)?;
    let analyst = config.model.as_ref().map_or_else(
        || "rules (built in; set REGREEN_MODEL_URL and REGREEN_MODEL for a model)".to_owned(),
        |model| model.name.clone(),
    );
    let service = serve::start(config, Roles::Both, shutdown.clone()).await?;
    // Start with an empty database, because the forge has no issues from an earlier run either.
    db::reports::forget_all(&service.app.pool).await?;
    service.app.mcp.wait_for_first_attempts().await;
    let address = service.address.context("the demonstration serves HTTP")?;
    outln!("Regreen            http://{address} (ready after {} ms)", begun.elapsed().as_millis());
    outln!("Analyst            {analyst}\n");
    let filed = tokio::select! {
        filed = show(&service, sample, &forge) => filed,
        () = shutdown.token().cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    let code = match filed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("regreen: {error:#}");
            ExitCode::FAILURE
        }
    };
    if !arguments.once && !shutdown.token().is_cancelled() {
        invite(address, &all);
        // With a closed standard output, nobody knows that the server runs.
        if !output::is_closed() {
            shutdown.token().cancelled().await;
        }
    }
    shutdown.token().cancel();
    service.stop().await?;
    stand_ins.finish(Duration::from_secs(2)).await;
    Ok(code)
}

fn list(all: &[Sample]) -> ExitCode {
    for sample in all {
        let lines = sample.log.lines().count();
        outln!("{:<18} {:<38} {} ({lines} lines of log)", sample.slug, sample.title, sample.pod);
    }
    ExitCode::SUCCESS
}

/// Loads the user's settings with the simulated cluster, forge and the demo database.
fn config(file: Option<&Path>, arguments: &Arguments, cluster: &str, forge: &str) -> anyhow::Result<Config> {
    let mut own = BTreeMap::from([
        ("REGREEN_OPENSHIFT_URL", cluster.to_owned()),
        ("REGREEN_OPENSHIFT_TRANSPORT", "sse".to_owned()),
        ("REGREEN_GITEA_URL", forge.to_owned()),
        ("REGREEN_GITEA_TRANSPORT", "streamable-http".to_owned()),
        ("REGREEN_TRACKER_OWNER", "platform".to_owned()),
        ("REGREEN_TRACKER_REPO", "pipeline-failures".to_owned()),
    ]);
    if process_env("REGREEN_DATA_DIR").is_none() {
        own.insert("REGREEN_DATA_DIR", ".regreen/demo".to_owned());
    }
    if process_env("REGREEN_LOG").is_none() {
        own.insert("REGREEN_LOG", "warn,graphile_worker=error".to_owned());
    }
    if arguments.once {
        own.insert("REGREEN_PORT", "0".to_owned());
    }
    let env = |name: &str| match name {
        // Never use a configured database: the demo empties its tables.
        "REGREEN_DATABASE_URL" | "DATABASE_URL" => None,
        name => own.get(name).cloned().or_else(|| process_env(name)),
    };
    let config = Config::load(file, &env)?;
    if config.database.url.is_some() {
        bail!("the configuration file names a database; the demonstration uses only its own private one");
    }
    Ok(config)
}

/// Reports the pod and prints each step as it completes. Returns whether an issue was filed.
async fn show(service: &Service, sample: &Sample, forge: &forge::Forge) -> anyhow::Result<bool> {
    let pool = &service.app.pool;
    outln!("A pod failed: {}/{} — {}", sample.namespace, sample.pod, sample.title);
    let failure = Failure {
        namespace: sample.namespace.to_owned(),
        pod_name: sample.pod.to_owned(),
        pipeline: Some(sample.pipeline.to_owned()),
        ..Failure::default()
    };
    let submission = Submission { failure, caller: Caller::anyone().actor(), ..Submission::default() };
    let (Intake::Accepted(id) | Intake::Repeated(id) | Intake::KeyReused(id)) =
        intake(pool, &service.app.blocking, submission, Privacy::default()).await?;
    outln!("Reported as {id}\n");
    let report = follow(service, id).await?;
    if report.status != ReportStatus::Done {
        bail!("the report failed: {}", report.error.unwrap_or_default());
    }
    outln!("\n{}\n", report.result.unwrap_or_default());
    let issues = forge.issues();
    if let Some(issue) = issues.last() {
        let rule = "─".repeat(78);
        outln!(
            "{rule}\n{}\n{rule}\n{}\n{rule}",
            issue["title"].as_str().unwrap_or_default(),
            issue["body"].as_str().unwrap_or_default()
        );
    }
    Ok(!issues.is_empty())
}

async fn follow(service: &Service, id: Uuid) -> anyhow::Result<Report> {
    let pool = &service.app.pool;
    let spinner =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.enable_steady_tick(Duration::from_millis(100));
    let mut shown = 0;
    loop {
        let report = db::reports::get(pool, id).await?.context("the report is gone")?;
        let steps = db::reports::steps(pool, id).await?;
        for step in &steps[shown..] {
            spinner.suspend(|| outln!("  ✓ {:<12} {} ({} ms)", step.name, step.detail, step.duration_ms));
        }
        shown = steps.len();
        if report.status.is_final() {
            spinner.finish_and_clear();
            return Ok(report);
        }
        spinner.set_message("working …");
        tokio::time::sleep(LOOK).await;
    }
}

fn invite(address: SocketAddr, all: &[Sample]) {
    let other = &all[all.len().min(3) - 1];
    outln!(
        "\nRegreen stays up: open http://{address} in a browser (the API is described at http://{address}/docs), or try:\n\n  \
         curl -s http://{address}/report-failure -H 'content-type: application/json' -d '{{\"namespace\":\"{}\",\"pod_name\":\"{}\"}}'\n  \
         curl -s http://{address}/api/incidents\n  \
         curl -s http://{address}/api/health\n\nOther failed pods: {}\nCtrl-C ends it.",
        other.namespace,
        other.pod,
        all.iter().map(|sample| sample.pod).collect::<Vec<_>>().join(" ")
    );
}
