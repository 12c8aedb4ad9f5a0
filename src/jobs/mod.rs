//! The durable queue's workers. A job is a name, a payload of ids, and a short `run`.

mod index;
mod triage;

use crate::app::App;
use crate::db::queue::SCHEMA;
use anyhow::Context as _;
use graphile_worker::WorkerOptions;
use graphile_worker::recovery::WorkerRecoveryConfig;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;

/// Time that what runs gets to hand itself back after the grace of a stop.
const HAND_BACK: Duration = Duration::from_secs(5);

/// What jobs find in their context.
#[derive(Clone)]
struct Shared(Arc<App>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// Works on jobs until the shutdown token fires; then finishes or hands back what runs.
///
/// # Errors
/// The database is away at start, or the worker's own loop broke.
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
        .pg_pool(app.pool.clone())
        .concurrency(queue.concurrency)
        // New jobs are announced; polling only catches retries that fall due.
        .poll_interval(Duration::from_secs(1))
        .listen_os_shutdown_signals(false)
        .shutdown_signal(stop.clone().cancelled_owned())
        .shutdown_grace_period(app.config.server.shutdown_grace + HAND_BACK)
        .worker_recovery(recovery)
        .add_extension(Shared(Arc::clone(&app)))
        .define_job::<triage::Triage>()
        .define_job::<index::Index>()
        .init()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("cannot start the worker")?;
    let grace = app.config.server.shutdown_grace;
    let drain = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
        app.drain.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = worker.run() => ended.map_err(|error| anyhow::anyhow!("the worker stopped: {error}")),
        () = drain => Ok(()),
    }
}

/// Tells whoever waits in this process about reports that ended on any replica, until the shutdown token fires.
pub async fn announce(app: Arc<App>) {
    let stop = app.shutdown.token().clone();
    let listen = async {
        loop {
            match listen(&app).await {
                Ok(()) => return,
                Err(error) => {
                    // Waiters look by themselves now and then, so nothing is lost meanwhile.
                    tracing::warn!(%error, "cannot listen for ended reports; trying again");
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
    listener.listen_all(["regreen_report", "regreen_knowledge", "regreen_stop", "regreen_servers"]).await?;
    loop {
        let notification = listener.recv().await?;
        if notification.channel() == "regreen_knowledge" {
            if let Err(error) = app.knowledge.reload().await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the signatures of changed runbooks cannot be read"
                );
            }
        } else if notification.channel() == "regreen_servers" {
            app.sync_servers().await?;
        } else if notification.channel() == "regreen_stop" {
            let turn = notification.payload().parse().ok();
            if let Some(answer) = turn.and_then(|turn| app.live.get(turn)) {
                answer.stop.cancel();
            }
        } else if let Ok(id) = notification.payload().parse() {
            // Nobody waiting is fine.
            let _ = app.outcomes.send(id);
        }
    }
}
