//! Takes one report from wherever it is to its end, under a lease, and says whether to come back.

use super::collect::collect;
use super::investigate::investigate;
use super::place::{Placed, place};
use super::publish;
use crate::app::App;
use crate::clock;
use crate::db;
use crate::db::reports::{self, End, Lease};
use crate::db::{incidents, queue};
use crate::domain::{Report, StepName};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What became of a take-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// The report is finished, or somebody else has it or will finish it.
    Over,
    /// Try again later; the reason for the log.
    Again(String),
    /// Stopped by a shutdown and handed back.
    HandedBack,
}

/// Why the way of a report stops before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// A moment later it may work.
    Retry(String),
    /// It never will.
    Failed(String),
    /// Another worker has the report.
    Lost,
    /// The process stops.
    Stopping,
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Retry(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::Lost => f.write_str("another worker has the report"),
            Self::Stopping => f.write_str("the process stops"),
        }
    }
}

impl From<sqlx::Error> for Halt {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) if !db::is_away(error.code().as_deref()) => {
                Self::Failed(format!("the database refused a statement: {}", error.message()))
            }
            other => Self::Retry(format!("the database is away: {other}")),
        }
    }
}

/// A report under our lease.
pub(super) struct Held<'a> {
    pub(super) report: &'a Report,
    pub(super) leads: bool,
    pub(super) token: Uuid,
    /// Times the queue tried before.
    pub(super) retry: u32,
}

impl Held<'_> {
    /// Prolongs the lease, or finds it lost.
    pub(super) async fn renew(&self, app: &App) -> Result<(), Halt> {
        let lease = Lease { token: self.token, until: lease_end(app) };
        if reports::renew(&app.pool, self.report.id, lease).await? { Ok(()) } else { Err(Halt::Lost) }
    }

    /// The same within a transaction, which then holds the report's row.
    pub(super) async fn check(&self, transaction: &mut PgConnection, app: &App) -> Result<(), Halt> {
        let lease = Lease { token: self.token, until: lease_end(app) };
        if reports::renew(transaction, self.report.id, lease).await? { Ok(()) } else { Err(Halt::Lost) }
    }
}

fn lease_end(app: &App) -> DateTime<Utc> {
    clock::now() + app.config.queue.lease
}

/// Takes the report up and brings it as far as it gets. `retry` counts earlier tries, `last` says there will be no other.
///
/// # Errors
/// The database is away, so that not even the outcome could be stored: the queue tries again.
pub async fn run(app: &App, id: Uuid, retry: u32, last: bool) -> sqlx::Result<Ran> {
    let lease = Lease { token: Uuid::new_v4(), until: lease_end(app) };
    let Some((report, leads)) = reports::take(&app.pool, id, lease, clock::now()).await? else {
        let until = reports::held_until(&app.pool, id).await?;
        return Ok(
            until.map_or(Ran::Over, |until| Ran::Again(format!("held by another worker until {until}")))
        );
    };
    let held = Held { report: &report, leads, token: lease.token, retry };
    if report.attempts > app.config.triage.max_attempts {
        let steps = reports::steps(&app.pool, id).await?;
        let after = steps.last().map_or("intake", |step| step.name.as_str());
        let reason = format!(
            "given up: its worker died {} times, each time after the step `{after}`",
            report.attempts - 1
        );
        return fail(app, &held, &reason).await;
    }
    let cancel = app.drain.child_token();
    let ended = tokio::select! {
        ended = advance(app, &held, &cancel) => ended,
        halt = keep(app, &held) => Err(halt),
    };
    match ended {
        Ok(()) => Ok(Ran::Over),
        Err(Halt::Lost) => Ok(Ran::Over),
        Err(Halt::Stopping) => {
            reports::hand_back(&app.pool, id, held.token).await?;
            Ok(Ran::HandedBack)
        }
        Err(Halt::Retry(_)) if cancel.is_cancelled() => {
            reports::hand_back(&app.pool, id, held.token).await?;
            Ok(Ran::HandedBack)
        }
        Err(Halt::Retry(reason)) if !last => {
            reports::hand_back(&app.pool, id, held.token).await?;
            Ok(Ran::Again(reason))
        }
        Err(Halt::Retry(reason)) => fail(app, &held, &format!("{reason} (tried {} times)", retry + 1)).await,
        Err(Halt::Failed(reason)) => fail(app, &held, &reason).await,
    }
}

/// Prolongs the lease until it is lost.
async fn keep(app: &App, held: &Held<'_>) -> Halt {
    let mut beat = tokio::time::interval(app.config.queue.lease.max(Duration::from_secs(1)) / 3);
    beat.tick().await;
    loop {
        beat.tick().await;
        // A database that is away for a moment is no reason to stop: the lease outlasts three beats.
        if let Err(Halt::Lost) = held.renew(app).await {
            return Halt::Lost;
        }
    }
}

async fn advance(app: &App, held: &Held<'_>, cancel: &CancellationToken) -> Result<(), Halt> {
    let collected = collect(app, held.report, cancel).await?;
    let (incident, result) = match place(app, held, &collected.pieces, cancel).await? {
        Placed::Waits => return Ok(()),
        Placed::Known(incident) => {
            let started = Instant::now();
            let result = publish::known(app, held, &incident, cancel).await?;
            return finish(app, held, None, &result, started).await;
        }
        Placed::Leads(incident) => {
            let diagnosis = investigate(app, held, &incident, collected, cancel).await?;
            let started = Instant::now();
            let result = publish::publish(app, held, &incident, &diagnosis, cancel).await?;
            ((incident.id, started), result)
        }
    };
    finish(app, held, Some(incident.0), &result, incident.1).await
}

/// Ends the report, and with a leader all that waited for it.
async fn finish(
    app: &App,
    held: &Held<'_>,
    leads: Option<Uuid>,
    result: &str,
    started: Instant,
) -> Result<(), Halt> {
    let now = clock::now();
    let timing = (now, i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX));
    let detail = result.lines().next().unwrap_or_default();
    let mut transaction = app.pool.begin().await?;
    if let Some(incident) = leads {
        // Nobody is placed under the incident as waiting once this commits.
        incidents::lock(&mut *transaction, incident).await?;
    }
    reports::add_step(&mut *transaction, held.report.id, StepName::Publish, detail, timing).await?;
    if !reports::finish(&mut *transaction, held.report.id, held.token, &End::Done(result), now).await? {
        return Err(Halt::Lost);
    }
    if let Some(incident) = leads {
        let waiting = result.replacen("Issue created:", "Known cause, just filed:", 1);
        reports::finish_waiting(&mut *transaction, incident, &waiting, now).await?;
    }
    transaction.commit().await?;
    tracing::info!(report = %held.report.id, "report done");
    Ok(())
}

async fn fail(app: &App, held: &Held<'_>, reason: &str) -> sqlx::Result<Ran> {
    let mut transaction = app.pool.begin().await?;
    // Read again: this very take-up may have placed it.
    let incident =
        reports::get(&mut *transaction, held.report.id).await?.and_then(|report| report.incident_id);
    if let Some(incident) = incident {
        incidents::lock(&mut *transaction, incident).await?;
    }
    if !reports::finish(&mut *transaction, held.report.id, held.token, &End::Failed(reason), clock::now())
        .await?
    {
        return Ok(Ran::Over);
    }
    if let Some(incident) = incident {
        // Those that waited take the investigation up; the first one leads.
        for waiting in reports::requeue_waiting(&mut *transaction, incident).await? {
            queue::add_triage(&mut *transaction, waiting).await?;
        }
    }
    transaction.commit().await?;
    tracing::error!(report = %held.report.id, reason, "report failed");
    Ok(Ran::Over)
}
