//! `doctor`: checks a deployment from inside with the settings of `serve` and suggests an action for each finding.
//! Changes nothing: runs no migration, starts no private server and calls no tool that writes.

mod database;
mod files;
mod finding;
mod mcp_servers;
mod model;
mod permissions;
mod reach;

use crate::app;
use crate::config::{Config, ConfigErrors, own_namespace, process_env};
use clap::Args;
use database::Database;
use finding::{Finding, Hide, Mark};
use mcp_servers::Servers;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// Timeout of each check.
const LIMIT: Duration = Duration::from_secs(30);

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when nothing is an error, 1 when something is.")]
pub(super) struct Arguments {
    /// Namespace whose pods, events and logs are read as a trial. Its own when it runs in a pod.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Print JSON Lines: an object for each finding.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let findings = match Config::load(file, &process_env) {
        Ok(config) => {
            let namespace = arguments.namespace.or_else(own_namespace);
            Box::pin(examine(&config, file, namespace.as_deref())).await?
        }
        Err(error) => Hide::default().all(mistakes(&error)),
    };
    finding::print(&findings, arguments.json)?;
    let wrong = findings.iter().any(|finding| finding.mark == Mark::Error);
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Converts configuration errors to findings; no other check is possible then.
fn mistakes(error: &anyhow::Error) -> Vec<Finding> {
    let advice = "mend it; the other checks need the settings, and come then";
    let of = |said: String| Finding::error("settings", said).advice(advice);
    match error.downcast_ref::<ConfigErrors>() {
        Some(ConfigErrors(mistakes)) => mistakes.iter().map(|mistake| of(mistake.to_string())).collect(),
        None => vec![of(format!("{error:#}"))],
    }
}

/// Runs all checks and returns the findings in output order.
async fn examine(
    config: &Config,
    file: Option<&Path>,
    namespace: Option<&str>,
) -> anyhow::Result<Vec<Finding>> {
    let http = app::http_client()?;
    let mut findings = vec![Finding::ok("settings", "can be used")];
    findings.extend(config.warnings.iter().map(|warning| Finding::warning("settings", warning)));
    // Checked first, because added servers are stored in the database.
    let database = within("database", Database::look(config)).await;
    let Database { findings: of_database, added, spaces, keys } = database.unwrap_or_else(Database::late);
    let servers = Servers::connect(config, &added, http.clone());
    let hide = Hide::of(config, servers.all());
    let asked = async {
        let mut found = servers.check().await;
        found.extend(servers.tools(config).await);
        found.extend(late(within("tracker", servers.tracker(config)).await));
        let permissions = permissions::check(servers.registry(), &config.cluster, namespace);
        let permissions = late(within("permissions", permissions).await);
        servers.close().await;
        (found, permissions)
    };
    let (asked, model, auth) = tokio::join!(
        Box::pin(asked),
        Box::pin(within("model", model::check(config, http.clone()))),
        Box::pin(within("auth", reach::auth(config, http.clone(), keys))),
    );
    // Runs alone: a local embedder uses CPU time, which would increase the times measured by other checks.
    let embedder = within("embedder", model::embedder(config, &http, &spaces)).await;
    findings.extend(of_database);
    let (of_servers, permissions) = asked;
    findings.extend(of_servers);
    findings.extend([model, embedder].into_iter().flat_map(late));
    findings.extend(permissions);
    findings.extend(files::check(config, file));
    findings.extend(late(auth));
    findings.extend(reach::address(config));
    Ok(hide.all(findings))
}

/// Runs a check with a timeout.
async fn within<T>(check: &'static str, work: impl Future<Output = T>) -> Result<T, Finding> {
    timeout(LIMIT, work).await.map_err(|_| {
        let limit = humantime::format_duration(LIMIT);
        Finding::error(check, format!("the check did not end within {limit}"))
            .advice("see whether what it asks is slow, or whether a firewall drops the packets")
    })
}

fn late(outcome: Result<Vec<Finding>, Finding>) -> Vec<Finding> {
    outcome.unwrap_or_else(|finding| vec![finding])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_end_is_a_finding() {
        let late = within("model", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((late.check, late.mark), ("model", Mark::Error));
        assert_eq!(late.says, "the check did not end within 30s");
    }
}
