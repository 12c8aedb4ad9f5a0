//! Telling people outside what happened: noted with the end of a report, sent by a job, so that neither a crash nor a service
//! that is away loses it. What comes faster than a target wants to be told comes as one message.

mod message;
mod pull_request;

use crate::app::App;
use crate::clock;
use crate::config::{Channel, Target};
use crate::db::audit::{self, Deed};
use crate::db::notifications::{self, Notification};
use crate::db::{incidents, queue, reports};
use crate::domain::{FailureClass, Incident, Novelty, Report};
use crate::metrics::metrics;
use message::{Item, Message};
use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// Most that one message tells of; the rest comes with the next one.
const MOST: i64 = 50;
/// Longest wait for a target's answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what is being sent is nobody else's.
const LEASE: Duration = Duration::from_mins(2);
/// How long it is kept what was told.
const KEPT: chrono::TimeDelta = chrono::TimeDelta::days(7);

/// Notes that a report ended for all who want to know, within the transaction that ends it.
///
/// # Errors
/// The database is away.
pub async fn note(
    transaction: &mut PgConnection,
    app: &App,
    novelty: Novelty,
    report: &Report,
    class: Option<FailureClass>,
) -> sqlx::Result<()> {
    for target in &app.config.notify {
        if target.wanted.fits(novelty, &report.failure.namespace, class) {
            notifications::add(&mut *transaction, &target.name, novelty, report.id, clock::now()).await?;
            let rest = notifications::rests(&mut *transaction, &target.name, target.wanted.every).await?;
            queue::add_notify(&mut *transaction, &target.name, rest).await?;
        }
    }
    Ok(())
}

/// Why a message was not taken.
enum Refusal {
    /// It may be later.
    Retry(String),
    /// It never will be.
    Final(String),
}

/// Tells a target what there is to tell. What is not of the configuration any more stays untold.
///
/// # Errors
/// Why not now, for the log; the queue tries again.
pub async fn tell(app: &App, name: &str) -> Result<(), String> {
    let Some(target) = app.config.notify.iter().find(|target| target.name == name) else {
        tracing::warn!(
            target = name,
            "what was to be told to it is not: there is no such `[[notify]]` table"
        );
        return Ok(());
    };
    let away = |error: sqlx::Error| format!("the database is away: {error}");
    let rest = notifications::rests(&app.pool, name, target.wanted.every).await.map_err(away)?;
    if !rest.is_zero() {
        return queue::add_notify(&app.pool, name, rest).await.map_err(away);
    }
    let claimed = notifications::claim(&app.pool, name, MOST, LEASE).await.map_err(away)?;
    if claimed.is_empty() {
        // What a process that died was sending is somebody else's when its lease is over.
        return follow(app, name, Duration::ZERO).await.map_err(away);
    }
    let ids: Vec<Uuid> = claimed.iter().map(|notification| notification.id).collect();
    let sent = match items(app, &claimed).await {
        Ok(items) => send(app, target, &items).await,
        Err(error) => Err(Refusal::Retry(away(error))),
    };
    let outcome = match &sent {
        Ok(()) => "done",
        Err(_) => "failed",
    };
    metrics().notifications.with_label_values(&[name, outcome]).inc();
    match sent {
        Ok(()) => notifications::close(&app.pool, &ids, None).await.map_err(away)?,
        Err(Refusal::Retry(reason)) => {
            notifications::give_back(&app.pool, &ids).await.map_err(away)?;
            return Err(format!("`{name}` could not be told: {reason}"));
        }
        Err(Refusal::Final(reason)) => {
            tracing::error!(
                target = name,
                reason,
                "a target does not take what it is told; it is not told again"
            );
            notifications::close(&app.pool, &ids, Some(&reason)).await.map_err(away)?;
        }
    }
    settle(app, target, claimed.len(), outcome).await.map_err(away)
}

/// What was told goes on record, what is long over is forgotten, and what came meanwhile gets its turn.
async fn settle(app: &App, target: &Target, told: usize, outcome: &str) -> sqlx::Result<()> {
    let now = clock::now();
    let detail = format!("{told} told");
    let deed = Deed {
        actor: "regreen",
        action: "notify",
        object: ("target", &target.name),
        outcome,
        detail: &detail,
    };
    audit::add(&app.pool, &deed, now).await?;
    notifications::prune(&app.pool, now - KEPT).await?;
    follow(app, &target.name, target.wanted.every).await
}

/// What is left to be told gets its turn, at the earliest after a while.
async fn follow(app: &App, name: &str, least: Duration) -> sqlx::Result<()> {
    match notifications::due(&app.pool, name).await? {
        Some(wait) => queue::add_notify(&app.pool, name, wait.max(least)).await,
        None => Ok(()),
    }
}

/// A report and its cause.
async fn known(app: &App, id: Uuid) -> sqlx::Result<Option<(Report, Option<Incident>)>> {
    let Some(report) = reports::get(&app.pool, id).await? else { return Ok(None) };
    let incident = match report.incident_id {
        Some(id) => incidents::get(&app.pool, id).await?,
        None => None,
    };
    Ok(Some((report, incident)))
}

async fn items(app: &App, claimed: &[Notification]) -> sqlx::Result<Vec<Item>> {
    let mut items = Vec::new();
    for notification in claimed {
        let Some((report, incident)) = known(app, notification.report).await? else { continue };
        items.push(Item {
            id: notification.id,
            novelty: notification.novelty,
            at: notification.at,
            url: app.report_url(report.id),
            report,
            incident,
        });
    }
    Ok(items)
}

async fn send(app: &App, target: &Target, items: &[Item]) -> Result<(), Refusal> {
    let (url, Message { body, headers }) = match &target.channel {
        Channel::PullRequest(forge) => return pull_request::comment(app, forge, items).await,
        Channel::Slack(url) => (url, message::slack(items)),
        Channel::Teams(url) => (url, message::teams(items, &app.config.privacy.links)),
        Channel::Webhook { url, secret } => (url, message::webhook(items, clock::now(), secret)),
    };
    let request = app.http().post(url.expose_secret()).timeout(PATIENCE);
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let sent = request.header("content-type", "application/json").body(body).send().await;
    answered(sent).map(|_| ()).map_err(|(_, refusal)| refusal)
}

/// The answer if it is a success, or else its status and whether to try again.
fn answered(
    sent: reqwest::Result<reqwest::Response>,
) -> Result<reqwest::Response, (Option<StatusCode>, Refusal)> {
    // Without the address: whoever knows it may write there.
    let response = sent
        .map_err(|error| (None, Refusal::Retry(format!("{:#}", anyhow::Error::new(error.without_url())))))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let reason = format!("it answered {status}");
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    let refusal =
        if later || status.is_server_error() { Refusal::Retry(reason) } else { Refusal::Final(reason) };
    Err((Some(status), refusal))
}
