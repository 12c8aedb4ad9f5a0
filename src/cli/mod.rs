//! Command line interface.

#[macro_use]
pub mod output;

mod audit;
mod demo;
mod doctor;
mod excerpt;
mod health;
mod ingest;
mod manual;
mod policy;
mod prune;
mod replay;
mod report;
mod runbook;
pub mod serve;
mod token;

use crate::config::{Config, markdown_table, process_env};
use crate::db::migrations::Migrations;
use crate::domain::Role;
use crate::prompts::Prompts;
use crate::web::Templates;
use crate::{app, db, telemetry};
use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use futures::future::LocalBoxFuture;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uuid::Uuid;

/// Diagnoses failed pipelines and files one issue per cause, with each claim tied to a log line.
#[derive(Debug, Parser)]
#[command(name = "regreen", version, arg_required_else_help = true)]
pub struct Cli {
    /// TOML file with settings; environment variables take precedence.
    #[arg(long, global = true, env = "REGREEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API and process reports.
    Serve {
        /// Serve only; `regreen work` processes the reports elsewhere.
        #[arg(long)]
        no_work: bool,
    },
    /// Process reports without serving the HTTP API.
    Work,
    /// Apply database migrations.
    Migrate,
    /// Store documents: the built-in runbooks, and files and folders.
    Ingest(ingest::Arguments),
    /// Delete data that is older than `retention.*`; run it once a day.
    Prune(prune::Arguments),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Token(token::Action),
    /// Draft runbooks from incidents.
    #[command(subcommand)]
    Runbook(runbook::Action),
    /// Test the tool policy.
    #[command(subcommand)]
    Policy(policy::Action),
    /// Run a demo with a simulated cluster and forge.
    Demo(demo::Arguments),
    /// Report a failed pod to a server and print the outcome.
    Report(Box<report::Arguments>),
    /// Print the lines of a log that explain the failure.
    Excerpt(excerpt::Arguments),
    /// Verify the audit record.
    #[command(subcommand)]
    Audit(audit::Action),
    /// Repeat a stored investigation and compare the conclusions.
    Replay(replay::Arguments),
    /// Check the health of a running server; the health check of its container.
    Health(health::Arguments),
    /// Print the description of the HTTP API (OpenAPI 3.1, JSON).
    Openapi,
    /// Check this deployment from inside and suggest fixes.
    Doctor(doctor::Arguments),
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page of a command, or write all of them to a folder.
    Man(manual::Arguments),
    /// Check the settings and explain every mistake.
    CheckConfig {
        /// Print the table of all settings as Markdown instead.
        #[arg(long)]
        table: bool,
    },
}

/// Runs a parsed command line.
///
/// # Errors
/// Returns the error that stopped the command, worded for the user.
pub fn run(cli: Cli) -> LocalBoxFuture<'static, anyhow::Result<ExitCode>> {
    // Boxed: the future contains all settings and is compiled with the library.
    Box::pin(run_command(cli))
}

async fn run_command(cli: Cli) -> anyhow::Result<ExitCode> {
    let load = || Config::load(cli.config.as_deref(), &process_env);
    match cli.command {
        Command::Serve { no_work } => {
            serve::run(load()?, if no_work { serve::Roles::Http } else { serve::Roles::Both }).await
        }
        Command::Work => serve::run(load()?, serve::Roles::Work).await,
        Command::Migrate => migrate(load()?).await,
        Command::Ingest(arguments) => ingest::run(load()?, arguments).await,
        Command::Prune(arguments) => prune::run(load()?, arguments).await,
        Command::Runbook(action) => runbook::run(load()?, action).await,
        Command::Policy(action) => policy::run(&load()?, action),
        Command::Token(action) => token::run(load()?, action).await,
        Command::Demo(arguments) => demo::run(cli.config.as_deref(), arguments).await,
        Command::Report(arguments) => report::run(*arguments).await,
        Command::Excerpt(arguments) => excerpt::run(&arguments),
        Command::Audit(action) => audit::run(load()?, action).await,
        Command::Replay(arguments) => replay::run(load()?, arguments).await,
        Command::Health(arguments) => health::run(load, arguments).await,
        Command::Doctor(arguments) => doctor::run(cli.config.as_deref(), arguments).await,
        Command::Openapi => {
            outln!("{}", crate::api::openapi().to_pretty_json().context("the description")?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => Ok(manual::completions(shell)),
        Command::Man(arguments) => manual::run(&arguments),
        Command::CheckConfig { table: true } => {
            out!("{}", markdown_table());
            Ok(ExitCode::SUCCESS)
        }
        Command::CheckConfig { table: false } => Ok(check_config(cli.config.as_deref())),
    }
}

/// Parses a role; help and completions list the names.
fn role() -> impl TypedValueParser<Value = Role> {
    let names = PossibleValuesParser::new(Role::NAMES);
    names.try_map(|name| Role::parse(&name).ok_or("no such role"))
}

/// Parses an id as it appears in page URLs.
fn id(text: &str) -> Result<Uuid, String> {
    let example = "01997a34-5c1e-7c43-9d0e-2f1f6f0f3a10";
    text.trim().parse().map_err(|_| {
        format!("it is no id: one looks like {example} and stands at the end of the address of its page, such as /reports/{example}")
    })
}

/// Formats an error with its causes, without repeating a cause that a message already includes.
#[must_use]
pub fn in_words(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !said.ends_with(&cause) {
            let between = if said.is_empty() { "" } else { ": " };
            said = format!("{said}{between}{cause}");
        }
    }
    said
}

async fn migrate(config: Config) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let connected = app::connect(&config).await?;
    db::wait_until_ready(&connected.pool, config.database.wait).await?;
    connected.migrate().await?;
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    outln!("The schema is up to date.");
    Ok(ExitCode::SUCCESS)
}

fn check_config(file: Option<&Path>) -> ExitCode {
    let good = |config: Config| {
        Prompts::load(config.prompts.as_deref())?;
        Templates::load(config.pages.as_deref())?;
        Migrations::load(config.database.migrations.as_deref())?;
        Ok(config)
    };
    match Config::load(file, &process_env).and_then(good) {
        Ok(config) => {
            let model =
                config.model.as_ref().map_or("the built-in rules analyst", |model| model.name.as_str());
            let tracker = config.tracker.as_ref().map_or_else(
                || "nowhere; diagnoses are stored and returned".to_owned(),
                |tracker| format!("{}/{} through `{}`", tracker.owner, tracker.repo, tracker.server),
            );
            let servers: Vec<&str> = config.mcp.iter().map(|server| server.name.as_str()).collect();
            let servers = if servers.is_empty() { "none".to_owned() } else { servers.join(", ") };
            let database =
                if config.database.url.is_some() { "as configured" } else { "private, in the data folder" };
            let policy = match config.policy.len() {
                0 => "the defaults".to_owned(),
                rules => format!("{rules} rules before the defaults"),
            };
            outln!(
                "The configuration is good.\n  model      {model}\n  database   {database}\n  MCP        {servers}\n  policy     {policy}\n  issues go  {tracker}"
            );
            for warning in &config.warnings {
                outln!("  warning    {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("{}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("refused (os error 111)")
            .context("error with the database: refused (os error 111)")
            .context("no answer");
        assert_eq!(in_words(&error), "no answer: error with the database: refused (os error 111)");
    }
}
