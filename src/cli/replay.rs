//! `replay`: repeats stored investigations and compares the conclusions.

use super::output;
use crate::app::{self, App};
use crate::clock;
use crate::config::Config;
use crate::db::recordings;
use crate::evidence::rules;
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::triage::{self, Compared, Replay, Side};
use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use std::process::ExitCode;
use uuid::Uuid;

/// Exit code for a different conclusion.
const DIFFERENT: u8 = 2;
/// Width of a column in the comparison, in characters.
const WIDTH: usize = 60;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A run, or a report, whose investigation is run again.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = super::id)]
    run: Option<Uuid>,
    /// Who thinks: a model of the configured endpoint, or `rules`. As recorded when left out.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Give the instructions of this version instead of the recorded ones.
    #[arg(long)]
    current_prompt: bool,
    /// Every recorded investigation, the latest of each report.
    #[arg(long)]
    all: bool,
    /// With --all: only those since then (a day such as 2026-11-01, or RFC 3339).
    #[arg(long, value_name = "TIME", requires = "all", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// With --all: at most so many, the latest first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Print JSON, one object an investigation.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let day = text.parse::<NaiveDate>().map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc());
    day.or_else(|_| text.parse().map_err(drop))
        .and_then(|time| if clock::can_be_stored(time) { Ok(time) } else { Err(()) })
        .map_err(|_| "neither a day such as 2026-11-01 nor an RFC 3339 time".to_owned())
}

/// Runs the command. Exit code 0 for equal conclusions, 2 for a different one, 1 on an error.
pub(super) async fn run(mut config: Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    // Only the model is called, and no issue is filed.
    config.mcp.clear();
    config.tracker = None;
    let shutdown = Shutdown::new();
    shutdown.on_signals(std::time::Duration::ZERO).context("cannot listen for signals")?;
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let app = App::build(config, connected.pool, shutdown)?;
    // The built-in analyst uses the current runbooks.
    app.knowledge.reload().await?;
    let compared = compare(&app, &arguments).await;
    app.connections.token().cancel();
    app.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    Ok(if compared? { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// Returns whether all conclusions are equal.
async fn compare(app: &App, arguments: &Arguments) -> anyhow::Result<bool> {
    let Some(run) = arguments.run else { return compare_all(app, arguments).await };
    let compared = one(app, run, arguments).await?;
    if arguments.json {
        outln!("{}", serde_json::to_string(&compared)?);
    } else {
        tell(&compared);
    }
    Ok(compared.same)
}

async fn one(app: &App, run: Uuid, arguments: &Arguments) -> anyhow::Result<Compared> {
    let name = match &arguments.model {
        Some(name) => name.clone(),
        None => match recordings::get(&app.pool, run).await? {
            Some(recorded) => recorded.run.analyst,
            // The replay reports the reason.
            None => rules::NAME.to_owned(),
        },
    };
    let replay = Replay { analyst: triage::analyst(app, &name)?, current_prompt: arguments.current_prompt };
    triage::replay(app, run, &replay, app.shutdown.token()).await
}

async fn compare_all(app: &App, arguments: &Arguments) -> anyhow::Result<bool> {
    let runs = recordings::since(&app.pool, arguments.since, arguments.limit).await?;
    anyhow::ensure!(!runs.is_empty(), "no recorded investigation is there to run again");
    let mut all = Vec::new();
    for run in runs {
        let compared = one(app, run, arguments).await?;
        if arguments.json {
            outln!("{}", serde_json::to_string(&compared)?);
        } else {
            let Side { class, title, verified, claims, .. } = &compared.replayed;
            let said = title.as_deref().map_or("no conclusion".to_owned(), cut);
            outln!(
                "{:<9} {}  {:<14} {verified}/{claims} claims  {said}",
                if compared.same { "same" } else { "DIFFERENT" },
                compared.report,
                class.as_deref().unwrap_or("-"),
            );
        }
        all.push(compared);
        if output::is_closed() {
            break;
        }
    }
    if !arguments.json {
        summary(&all);
    }
    Ok(all.iter().all(|compared| compared.same))
}

fn summary(all: &[Compared]) {
    let same = all.iter().filter(|compared| compared.same).count();
    let missed: usize = all.iter().map(|compared| compared.not_recorded.len()).sum();
    outln!("\n{same} of {} conclude the same; {missed} calls had no recorded result\n", all.len());
    outln!("{:<18} {:>14} {:>14}", "", "recorded", "replayed");
    let sum = |of: &dyn Fn(&Side) -> f64| {
        let both = all.iter().fold((0.0, 0.0), |(recorded, replayed), compared| {
            (recorded + of(&compared.recorded), replayed + of(&compared.replayed))
        });
        (both.0, both.1)
    };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rows: [(&str, (f64, f64)); 7] = [
        ("concluded", sum(&|side| f64::from(u8::from(side.class.is_some())))),
        ("claims", sum(&|side| side.claims as f64)),
        ("claims verified", sum(&|side| side.verified as f64)),
        ("turns", sum(&|side| f64::from(side.turns))),
        ("tokens", sum(&|side| side.usage.total() as f64)),
        ("seconds", sum(&|side| side.duration_ms as f64 / 1000.0)),
        ("cost", sum(&|side| side.cost.unwrap_or_default())),
    ];
    for (name, (recorded, replayed)) in rows {
        let digits = match name {
            "cost" => 4,
            "seconds" => 1,
            _ => 0,
        };
        outln!("{name:<18} {recorded:>14.digits$} {replayed:>14.digits$}");
    }
}

fn tell(compared: &Compared) {
    let Compared {
        run,
        report,
        fingerprint,
        same,
        same_prompts,
        authentic,
        recorded,
        replayed,
        not_recorded,
    } = compared;
    outln!("Run       {run}\nReport    {report}\nCause     {}\n", fingerprint.as_deref().unwrap_or("-"));
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), cut);
    let cost = |cost: Option<f64>| cost.map_or("-".to_owned(), |cost| format!("{cost:.4}"));
    let line = |name: &str, of: &dyn Fn(&Side) -> String| {
        outln!("{name:<10} {:<WIDTH$}  {}", of(recorded), of(replayed));
    };
    outln!("{:<10} {:<WIDTH$}  replayed", "", "recorded");
    line("analyst", &|side| side.analyst.clone());
    line("ended", &|side| side.stop.clone());
    line("class", &|side| text(&side.class));
    line("title", &|side| text(&side.title));
    line("cause", &|side| text(&side.cause));
    line("proof", &|side| text(&side.key));
    line("claims", &|side| format!("{} of {} found in the evidence", side.verified, side.claims));
    line("work", &|side| format!("{} turns, {} tool calls", side.turns, side.tool_calls));
    line("tokens", &|side| format!("{} in, {} out", side.usage.input_tokens, side.usage.output_tokens));
    line("cost", &|side| cost(side.cost));
    line("took", &|side| format!("{} ms", side.duration_ms));
    outln!();
    if *authentic == Some(false) {
        outln!("WHAT IS STORED IS NOT WHAT THE MODEL WAS ASKED THEN, by the hash in the audit record.");
    }
    if !same_prompts {
        outln!("The prompts of this version are not those the investigation was told with.");
    }
    if !not_recorded.is_empty() {
        outln!("{} calls had no recorded result, such as: {}", not_recorded.len(), cut(&not_recorded[0]));
    }
    outln!("{}", if *same { "The conclusion is the same." } else { "The conclusion is DIFFERENT." });
}

/// Shortens a text to one column of one line.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
