//! Workers of the durable queue. A job is a name, a payload of ids and a short `run`.

pub mod audit_sealer;
mod index;
mod notify;
mod timeout_driver;
mod triage;

use crate::app::App;
use crate::db::queue::SCHEMA;
use crate::db::{self, events};
use crate::knowledge::Knowledge;
use anyhow::Context as _;
use graphile_worker::WorkerOptions;
use graphile_worker::recovery::WorkerRecoveryConfig;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Additional time for running jobs to be released after the grace period of a shutdown.
const HAND_BACK: Duration = Duration::from_secs(5);

/// Idle time after which the notification connection is probed.
const PROBE_AFTER: Duration = Duration::from_secs(10);
/// Timeout of the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Context shared with all jobs.
#[derive(Clone)]
struct Shared(Arc<App>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// Processes jobs until the shutdown token is cancelled, then finishes or releases the running ones.
///
/// # Errors
/// The database is unavailable at startup, or the worker's main loop failed.
pub async fn work(app: Arc<App>) -> anyhow::Result<()> {
    let queue = &app.config.queue;
    let stop = app.shutdown.token().clone();
    let recovery = WorkerRecoveryConfig::default()
        .heartbeat_interval(queue.heartbeat)
        .sweep_interval(queue.heartbeat)
        .sweep_threshold(queue.lease)
        .recovery_delay(Duration::ZERO);
    let worker = WorkerOptions::default()
        .schema(SCHEMA)
        .database(timeout_driver::TimeoutDriver::with(&app.pool))
        .concurrency(queue.concurrency)
        // New jobs are announced by notifications. Polling only finds retries that are due.
        .poll_interval(Duration::from_secs(1))
        .listen_os_shutdown_signals(false)
        .shutdown_signal(stop.cancelled_owned())
        .shutdown_grace_period(app.config.server.shutdown_grace + HAND_BACK)
        .worker_recovery(recovery)
        .add_extension(Shared(Arc::clone(&app)))
        .define_job::<triage::Triage>()
        .define_job::<index::Index>()
        .define_job::<notify::Notify>()
        .init()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("cannot start the worker")?;
    worker.run().await.map_err(|error| anyhow::anyhow!("the worker stopped: {error}"))
}

/// Queues a new job for unfinished reports that have none, until the shutdown token is cancelled. A job may be lost: a worker
/// wrongly considered dead completes a job that another has taken over and that then dies itself, or a job exceeds its
/// retries. Does the same for pending notifications.
pub async fn reclaim(app: Arc<App>) {
    let stop = app.shutdown.token();
    let look = async {
        loop {
            tokio::time::sleep(app.config.queue.lease).await;
            if let Err(error) = crate::notify::reclaim(&app.pool, &app.config.notify).await {
                tracing::warn!(%error, "what is left to be told cannot be looked for");
            }
            match db::queue::reclaim(&app.pool).await {
                Ok(0) => {}
                Ok(reports) => tracing::warn!(reports, "reports without a job got a new one"),
                Err(error) => tracing::warn!(%error, "reports without a job cannot be looked for"),
            }
        }
    };
    tokio::select! {
        () = look => {}
        () = stop.cancelled() => {}
    }
}

/// Forwards notifications from all replicas to waiting tasks of this process, until the shutdown token is cancelled.
pub async fn announce(app: Arc<App>) {
    let stop = app.shutdown.token().clone();
    let listen = async {
        loop {
            match listen(&app).await {
                Ok(()) => return,
                Err(error) => {
                    // Nothing is lost: most tasks also poll, and all are woken after reconnecting.
                    tracing::warn!(%error, "cannot listen for what happens on other replicas; trying again");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
        }
    };
    tokio::select! {
        () = listen => {}
        () = stop.cancelled() => {}
    }
}

async fn listen(app: &App) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(&app.pool).await?;
    listener.listen_all([events::CHANNEL, "regreen_knowledge", "regreen_stop", "regreen_servers"]).await?;
    // Notifications sent while disconnected are not repeated.
    app.sync_servers().await?;
    reload(&app.knowledge).await;
    app.notifier.wake_all();
    loop {
        let Ok(notification) = timeout(PROBE_AFTER, listener.try_recv()).await else {
            // There may have been no notifications, or the connection may be dead.
            let probed = timeout(PROBE_LIMIT, db::ping(&mut listener)).await;
            probed.map_err(|_| sqlx::Error::PoolTimedOut)??;
            continue;
        };
        let broken = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let notification = notification?.ok_or_else(broken)?;
        if notification.channel() == "regreen_knowledge" {
            reload(&app.knowledge).await;
        } else if notification.channel() == "regreen_servers" {
            app.sync_servers().await?;
        } else if notification.channel() == "regreen_stop" {
            let turn = notification.payload().parse().ok();
            if let Some(answer) = turn.and_then(|turn| app.live.get(turn)) {
                answer.stop.cancel();
            }
        } else {
            app.notifier.on_notify(notification.payload());
        }
    }
}

/// Reloads the signatures of runbooks.
async fn reload(knowledge: &Knowledge) {
    if let Err(error) = knowledge.reload().await {
        tracing::warn!(error = format!("{error:#}"), "the signatures of changed runbooks cannot be read");
    }
}
