//! `prune`: deletes data that is older than `retention.*`.

use crate::config::{Config, LEAST_KEPT, Retention};
use crate::db::audit;
use crate::db::prune::{Kind, prune};
use crate::domain::{Actor, AuditAction, AuditEvent};
use crate::{app, clock, telemetry};
use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use humantime::format_duration;
use sqlx::PgPool;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only say what would be removed. It is removed and taken back in one transaction, which holds on to these rows meanwhile.
    #[arg(long)]
    dry_run: bool,
    /// Another time than `retention.evidence`, such as `30d`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    evidence: Option<Duration>,
    /// Another time than `retention.reports`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    reports: Option<Duration>,
    /// Another time than `retention.incidents`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    incidents: Option<Duration>,
    /// Another time than `retention.conversations`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    conversations: Option<Duration>,
    /// Another time than `retention.usage`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    usage: Option<Duration>,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "is not a time such as `90d`".to_owned())?;
    if time < LEAST_KEPT { Err("is shorter than a day".to_owned()) } else { Ok(time) }
}

impl Arguments {
    /// Returns the configured retention with these values applied.
    fn over(&self, configured: &Retention) -> Retention {
        Retention {
            evidence: self.evidence.or(configured.evidence),
            reports: self.reports.or(configured.reports),
            incidents: self.incidents.or(configured.incidents),
            conversations: self.conversations.or(configured.conversations),
            usage: self.usage.or(configured.usage),
        }
    }
}

/// A kind of data to delete.
struct Due {
    kind: Kind,
    /// Retention period.
    kept: Duration,
    /// Deletes data older than this.
    before: DateTime<Utc>,
}

/// Deletes expired data and prints the numbers.
pub(super) async fn run(config: Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let now = clock::now();
    let due = due(&arguments.over(&config.retention), now);
    if due.is_empty() {
        outln!("No `retention.*` is set: everything is kept for ever.");
        return Ok(ExitCode::SUCCESS);
    }
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let outcome = if arguments.dry_run {
        tried(&connected.pool, &due, now).await
    } else {
        done(&connected.pool, &due, now).await
    };
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    outcome.context("not everything could be looked at; what was removed until then stays so")?;
    Ok(ExitCode::SUCCESS)
}

/// Formats a duration in days where possible, such as `90d`.
fn days(time: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    if time.subsec_nanos() == 0 && time.as_secs().is_multiple_of(DAY) {
        return format!("{}d", time.as_secs() / DAY);
    }
    format_duration(time).to_string()
}

fn due(retention: &Retention, now: DateTime<Utc>) -> Vec<Due> {
    let due = |kind| {
        let kept = match kind {
            Kind::Incidents => retention.incidents,
            Kind::Conversations => retention.conversations,
            Kind::Reports => retention.reports,
            Kind::Evidence | Kind::Runs => retention.evidence,
            Kind::Usage => retention.usage,
        }?;
        let before = now.checked_sub_signed(TimeDelta::from_std(kept).ok()?)?;
        Some(Due { kind, kept, before })
    };
    Kind::ALL.iter().copied().filter_map(due).collect()
}

async fn done(pool: &PgPool, due: &[Due], now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    for Due { kind, kept, before } in due {
        let count = prune(&mut connection, *kind, *before, now).await?;
        outln!("{count:>9} {} older than {} removed", kind.as_str(), days(*kept));
        if count > 0 {
            let detail = format!("{count} of before {}", before.to_rfc3339());
            let event = AuditEvent::new(&Actor::service(""), AuditAction::RetentionPrune, now);
            audit::add(&mut *connection, &event.on("retention", kind.as_str()).detail(detail)).await?;
        }
    }
    Ok(())
}

/// Deletes and rolls back, so that data deleted through another row is counted once.
async fn tried(pool: &PgPool, due: &[Due], now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    for Due { kind, kept, before } in due {
        let count = prune(&mut transaction, *kind, *before, now).await?;
        outln!("{count:>9} {} older than {} would go", kind.as_str(), days(*kept));
    }
    transaction.rollback().await
}
