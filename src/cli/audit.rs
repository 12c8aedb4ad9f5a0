//! `audit verify`: checks the integrity of the audit log.

use crate::config::Config;
use crate::db::audit::{self, Verified};
use crate::{app, telemetry};
use clap::Subcommand;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Exit code for a broken chain.
const BROKEN: u8 = 2;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Follow the chain of the record; exit 0 when it holds, 2 when it does not, 1 when it cannot be read.
    Verify {
        /// A seal that was noted elsewhere, such as in the log (`head`): it has to be in the chain.
        #[arg(long, value_name = "SEAL", value_parser = seal)]
        head: Option<String>,
        /// Print the outcome as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn seal(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("a seal has 64 hexadecimal digits".to_owned())
}

/// Runs the command.
pub(super) async fn run(config: Config, action: Action) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let Action::Verify { head, json } = action;
    let connected = app::connect(&config).await?;
    connected.migrate().await?;
    let started = Instant::now();
    let verified = audit::verify(&connected.pool, head.as_deref()).await;
    let took = started.elapsed();
    connected.pool.close().await;
    if let Some(private) = connected.private {
        private.stop().await?;
    }
    let verified = verified?;
    if json {
        outln!("{}", serde_json::to_string(&verified)?);
    } else {
        tell(&verified, took);
    }
    Ok(if verified.broken.is_some() { ExitCode::from(BROKEN) } else { ExitCode::SUCCESS })
}

fn tell(verified: &Verified, took: Duration) {
    let Verified { rows, dropped, unsealed, seq, head, known_at, broken } = verified;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = *rows as f64 / took.as_secs_f64().max(0.001);
    outln!("{rows} rows checked in {:.1} s ({rate:.0} a second)", took.as_secs_f64());
    if *dropped > 0 {
        outln!("{dropped} rows were dropped as past `audit.retention`; their last seal is on record");
    }
    if *unsealed > 0 {
        outln!("{unsealed} rows have no seal yet; a running server seals them within seconds");
    }
    if let Some(at) = known_at {
        outln!("The seal that was asked for is that of place {at}; {} rows came after it", seq - at);
    }
    match broken {
        None => outln!("The chain holds. It has {seq} places and ends with {head}"),
        Some(broken) => outln!("THE CHAIN DOES NOT HOLD at place {}: {}", broken.seq, broken.what),
    }
}
