//! Maintains the audit record: seals rows, creates partitions for the coming months, drops expired months.

use crate::app::App;
use crate::auth::{LeftOut, Refusals};
use crate::clock;
use crate::db::audit::{self, Head};
use crate::domain::{Actor, AuditAction, AuditEvent, AuditOutcome};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval for sealing rows.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Interval for checking the monthly partitions.
const MONTHS_EVERY: Duration = Duration::from_secs(3_600);
/// Interval for writing the head of the hash chain to the log, which users with write access to the database cannot change.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// Maintains the audit record until the shutdown token is cancelled. Any number of replicas may run it. Only one seals at a
/// time.
pub async fn keep(app: Arc<App>) {
    let stop = app.shutdown.token().clone();
    let keep = async {
        let (mut months, mut told) = (None::<Instant>, (Instant::now(), 0));
        let mut is_away = false;
        let mut beat = tokio::time::interval(SEAL_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if months.is_none_or(|last| last.elapsed() >= MONTHS_EVERY) {
                // On an error, retry in an hour: rows without a partition are stored nevertheless, and old rows can wait.
                if let Err(error) = keep_months(&app.pool, app.config.audit.retention).await {
                    tracing::warn!(%error, "the months of the audit record cannot be looked after now");
                }
                months = Some(Instant::now());
            }
            put_down_refusals(&app.pool, &app.auth.refusals, Some(clock::now())).await;
            match audit::seal(&app.pool).await {
                Ok(_) => is_away = false,
                // Warn once, not every second.
                Err(error) if !is_away => {
                    tracing::warn!(%error, "the audit record cannot be sealed now; tried again each second");
                    is_away = true;
                }
                Err(_) => {}
            }
            if told.0.elapsed() >= TELL_EVERY {
                told = (Instant::now(), tell(&app.pool, told.1).await);
            }
        }
    };
    tokio::select! {
        () = keep => {}
        () = stop.cancelled() => {}
    }
}

/// Adds one audit event for refused logins that have no event of their own.
async fn put_down_refusals(pool: &PgPool, refusals: &Refusals, now: Option<DateTime<Utc>>) {
    let Some(LeftOut { since, count }) = refusals.end(now) else { return };
    let since = since.format("%Y-%m-%d %H:%M:%S UTC");
    let detail = format!("{count} more within a minute of {since}, without a row of their own");
    let event = AuditEvent::new(&Actor::new("unknown", ""), AuditAction::Login, clock::now());
    let event = event.on("session", "").outcome(AuditOutcome::Refused).detail(detail);
    if let Err(error) = audit::add(pool, &event).await {
        tracing::error!(%error, count, "log-ins that were refused cannot be put on record");
    }
}

/// Creates the partitions of the coming months and drops those older than `audit.retention`.
async fn keep_months(pool: &PgPool, retention: Option<Duration>) -> sqlx::Result<()> {
    let now = clock::now();
    audit::add_months(pool, now).await?;
    let Some(cutoff) = retention.and_then(|retention| {
        now.checked_sub_signed(chrono::TimeDelta::from_std(retention).unwrap_or(chrono::TimeDelta::MAX))
    }) else {
        return Ok(());
    };
    for dropped in audit::drop_before(pool, cutoff, now).await? {
        tracing::info!(
            partition = dropped.name,
            rows = dropped.rows,
            "a month of the audit record is past its time and was dropped"
        );
    }
    Ok(())
}

/// Logs the head of the hash chain if it has moved since `last`. Returns its position.
async fn tell(pool: &PgPool, last: i64) -> i64 {
    match audit::head(pool).await {
        Ok(Head { seq, hash }) => {
            if seq != last {
                tracing::info!(
                    rows = seq,
                    head = hash,
                    "the audit record ends here; `regreen audit verify --head` proves it later"
                );
            }
            seq
        }
        Err(_) => last,
    }
}

/// Seals the last rows and logs the head of the hash chain at shutdown.
pub async fn close(pool: &PgPool, refusals: &Refusals) {
    put_down_refusals(pool, refusals, None).await;
    if let Err(error) = audit::seal(pool).await {
        tracing::warn!(%error, "the last rows of the audit record get their seal from the next process");
    }
    tell(pool, 0).await;
}
