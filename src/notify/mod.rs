//! Notifications to external targets: stored with the end of a report and sent by a job, so that neither a crash nor an
//! unavailable service loses them. Notifications that exceed a target's rate are combined into one message.

mod message;
mod pull_request;

use crate::app::App;
use crate::clock;
use crate::config::{Channel, Target};
use crate::db::audit;
use crate::db::notifications::{self, Notification};
use crate::db::{incidents, queue, reports};
use crate::domain::{Actor, AuditAction, AuditEvent, AuditOutcome, FailureClass, Incident, Novelty, Report};
use crate::metrics::metrics;
use message::{Item, Message};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::ExposeSecret as _;
use sqlx::{PgConnection, PgExecutor, PgPool};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of items in one message. The others follow in the next one.
const MOST: i64 = 50;
/// Maximum number of items for channels that show only some and count the others.
const MOST_COUNTED: i64 = 1_000;
/// Timeout of a request to a target.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// Lease of notifications that are being sent.
const LEASE: Duration = Duration::from_mins(2);
/// Maximum delay that a target may request.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Retention of sent notifications.
const KEPT: chrono::TimeDelta = chrono::TimeDelta::days(7);

/// Stores notifications about finished reports, given with their namespaces, for all interested targets. Runs in the
/// transaction that finishes the reports.
///
/// # Errors
/// The database is unavailable.
pub async fn note(
    transaction: &mut PgConnection,
    targets: &[Target],
    novelty: Novelty,
    class: Option<FailureClass>,
    reports: &[(Uuid, &str)],
) -> sqlx::Result<()> {
    for target in targets {
        let fits = reports.iter().filter(|(_, namespace)| target.wanted.fits(novelty, namespace, class));
        let ids: Vec<Uuid> = fits.map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            notifications::add(&mut *transaction, &target.name, novelty, &ids, clock::now()).await?;
            let rest = rests(&mut *transaction, target).await?;
            queue::add_notify(&mut *transaction, &target.name, rest.unwrap_or_default()).await?;
        }
    }
    Ok(())
}

/// Queues a job for pending notifications that have none. A job is lost when a process that does not know its target takes
/// it, or when it exceeds its retries.
///
/// # Errors
/// The database is unavailable.
pub async fn reclaim(pool: &PgPool, targets: &[Target]) -> sqlx::Result<()> {
    for target in targets {
        if !queue::has_notify(pool, &target.name).await? {
            follow(pool, target).await?;
        }
    }
    Ok(())
}

async fn rests(db: impl PgExecutor<'_>, target: &Target) -> sqlx::Result<Option<Duration>> {
    notifications::rests(db, &target.name, target.wanted.every, target.channel.is_one()).await
}

/// Queues a job for pending notifications.
async fn follow(pool: &PgPool, target: &Target) -> sqlx::Result<()> {
    match rests(pool, target).await? {
        Some(rest) => queue::add_notify(pool, &target.name, rest).await,
        None => Ok(()),
    }
}

/// Error of a delivery.
enum DeliveryError {
    /// Temporary error: retry after at least this delay.
    Retry(String, Duration),
    /// Permanent error.
    Final(String),
}

impl DeliveryError {
    fn away(error: sqlx::Error) -> Self {
        Self::Retry(format!("the database is away: {error}"), Duration::ZERO)
    }
}

/// Notifications that were sent together, and the result.
struct Part {
    ids: Vec<Uuid>,
    sent: Result<(), DeliveryError>,
}

/// Sends the pending notifications of a target. Skips a target that is no longer configured.
///
/// # Errors
/// The database is unavailable. The queue retries.
pub async fn deliver(app: &App, name: &str) -> Result<(), String> {
    let Some(target) = app.config.notify.iter().find(|target| target.name == name) else {
        tracing::warn!(
            target = name,
            "what was to be told to it is not: there is no such `[[notify]]` table"
        );
        return Ok(());
    };
    tell_known(app, target).await.map_err(|error| format!("the database is away: {error}"))
}

async fn tell_known(app: &App, target: &Target) -> sqlx::Result<()> {
    let name = &target.name;
    match rests(&app.pool, target).await? {
        None => return Ok(()),
        Some(Duration::ZERO) => {}
        Some(rest) => return queue::add_notify(&app.pool, name, rest).await,
    }
    let counts = matches!(target.channel, Channel::Slack(_) | Channel::Teams(_));
    let most = if counts { MOST_COUNTED } else { MOST };
    let claimed = notifications::claim(&app.pool, name, most, LEASE).await?;
    if claimed.is_empty() {
        // After a crash, another process can send the notifications once the lease expires.
        return queue::add_notify(&app.pool, name, LEASE).await;
    }
    let parts = match items(app, &claimed).await {
        Ok(items) => send(app, target, &items).await,
        Err(error) => {
            let ids = claimed.iter().map(|notification| notification.id).collect();
            vec![Part { ids, sent: Err(DeliveryError::away(error)) }]
        }
    };
    let (mut told, mut untold) = (0, 0);
    for part in parts {
        match part.sent {
            Ok(()) => told += part.ids.len(),
            Err(_) => untold += part.ids.len(),
        }
        conclude(&app.pool, name, part).await?;
    }
    settle(&app.pool, target, told, untold).await
}

/// Stores the result of a delivery.
async fn conclude(pool: &PgPool, target: &str, Part { ids, sent }: Part) -> sqlx::Result<()> {
    let outcome = if sent.is_ok() { "done" } else { "failed" };
    metrics().notifications.with_label_values(&[target, outcome]).inc();
    match sent {
        Ok(()) => notifications::close(pool, &ids, None).await,
        Err(DeliveryError::Retry(reason, pause)) => {
            tracing::warn!(target, reason, "a target could not be told; it is tried again");
            notifications::give_back(pool, &ids, pause.min(LONGEST_PAUSE)).await
        }
        Err(DeliveryError::Final(reason)) => {
            tracing::error!(target, reason, "a target does not take what it is told; it is not told again");
            notifications::close(pool, &ids, Some(&reason)).await
        }
    }
}

/// Adds an audit event with the number of notifications, prunes old ones, and queues a job for pending ones.
async fn settle(pool: &PgPool, target: &Target, told: usize, untold: usize) -> sqlx::Result<()> {
    let now = clock::now();
    let not = if untold == 0 { String::new() } else { format!(", {untold} not told") };
    let detail = format!("{told} told{not}");
    let event = AuditEvent::new(&Actor::service(""), AuditAction::Notify, now).on("target", &target.name);
    let outcome = if untold == 0 { AuditOutcome::Done } else { AuditOutcome::Failed };
    audit::add(pool, &event.outcome(outcome).detail(detail)).await?;
    notifications::prune(pool, now - KEPT).await?;
    follow(pool, target).await
}

/// Returns a report and its incident, limited to the content that the report's namespace may read.
async fn known(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<(Report, Option<Incident>)>> {
    let Some(report) = reports::get(pool, id).await? else { return Ok(None) };
    let incident = match report.incident_id {
        Some(id) => incidents::get(pool, id).await?,
        None => None,
    };
    let incident = incident.map(|incident| incident.told_in(&report.failure.namespace));
    Ok(Some((report, incident)))
}

async fn items(app: &App, claimed: &[Notification]) -> sqlx::Result<Vec<Item>> {
    let mut items = Vec::new();
    for notification in claimed {
        let Some((report, incident)) = known(&app.pool, notification.report).await? else { continue };
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

async fn send(app: &App, target: &Target, items: &[Item]) -> Vec<Part> {
    let (url, Message { body, headers }) = match &target.channel {
        Channel::PullRequest(forge) => return pull_request::comment(app, target, forge, items).await,
        Channel::Slack(url) => (url, message::slack(items)),
        Channel::Teams(url) => (url, message::teams(items, &app.config.privacy.links)),
        Channel::Webhook { url, secret } => (url, message::webhook(items, clock::now(), secret)),
    };
    let request = app.http().post(url.expose_secret()).timeout(SEND_TIMEOUT);
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let answer = request.header("content-type", "application/json").body(body).send().await;
    let sent = answered(answer).await.map(|_| ()).map_err(|(_, refusal)| refusal);
    vec![Part { ids: items.iter().map(|item| item.id).collect(), sent }]
}

/// Returns a successful response, otherwise the status and whether to retry.
async fn answered(
    sent: reqwest::Result<reqwest::Response>,
) -> Result<reqwest::Response, (Option<StatusCode>, DeliveryError)> {
    // Removes the URL from the error: it grants write access.
    let failed = |error: reqwest::Error| format!("{:#}", anyhow::Error::new(error.without_url()));
    let response = sent.map_err(|error| (None, DeliveryError::Retry(failed(error), Duration::ZERO)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let reason = format!("it answered {status}");
    let pause = pause(response.headers());
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        || status.is_server_error()
        || (status == StatusCode::FORBIDDEN && (pause.is_some() || is_rate_limit(response).await));
    let refusal = if later {
        DeliveryError::Retry(reason, pause.unwrap_or_default())
    } else {
        DeliveryError::Final(reason)
    };
    Err((Some(status), refusal))
}

/// Returns the delay that a response requests: `Retry-After` in seconds, or the reset time of GitHub's rate limit.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let anew = || {
        let left = number("x-ratelimit-reset")?.saturating_sub(clock::now().timestamp().unsigned_abs());
        (number("x-ratelimit-remaining")? == 0).then_some(left)
    };
    number("retry-after").or_else(anew).map(Duration::from_secs)
}

/// GitHub reports some limits only in the response text.
async fn is_rate_limit(mut response: reqwest::Response) -> bool {
    let begin = response.chunk().await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&begin).to_lowercase().contains("rate limit")
}
