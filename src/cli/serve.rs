//! `serve` and `work`: start all components in order and stop them in reverse order.

use crate::app::{self, App};
use crate::config::Config;
use crate::db::{audit, queue};
use crate::domain::{Actor, AuditAction, AuditEvent};
use crate::knowledge::Knowledge;
use crate::shutdown::Shutdown;
use crate::web::Templates;
use crate::{chat, clock, db, jobs, server, telemetry};
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Time for the rest of a shutdown after the grace period.
const LAST: Duration = Duration::from_secs(10);

/// Time limit for writing the last audit rows.
const CLOSING: Duration = Duration::from_secs(3);

/// Pause before a worker that ended is restarted.
const WORK_AGAIN: Duration = Duration::from_secs(1);

/// Roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// HTTP server and worker.
    Both,
    /// HTTP server only.
    Http,
    /// Worker only.
    Work,
}

/// A running service.
pub struct Service {
    /// Shared state.
    pub app: Arc<App>,
    /// Address of the HTTP server, if it runs.
    pub address: Option<SocketAddr>,
    /// Separate address of metrics and probes, if configured.
    pub metrics: Option<SocketAddr>,
    private: Option<db::private::PrivatePostgres>,
    /// Id of this process in the audit log.
    id: String,
}

/// Runs until a signal arrives.
pub(super) async fn run(config: Config, roles: Roles) -> anyhow::Result<ExitCode> {
    let exports = telemetry::init_exporting(&config.log, &config.telemetry, app::http_client()?)?;
    let shutdown = Shutdown::new();
    // A worker receives no requests, so it needs no delay.
    let delay = if roles == Roles::Work { Duration::ZERO } else { config.server.stop_delay };
    shutdown.on_signals(delay).context("cannot listen for signals")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let service = start(config, roles, shutdown.clone()).await?;
    if let Some(address) = service.address {
        tracing::info!(%address, "serving: the pages are at /, the API is described at /docs");
    }
    if let Some(address) = service.metrics {
        tracing::info!(%address, "metrics at /metrics, probes at /health/live and /health/ready");
    }
    shutdown.token().cancelled().await;
    let stopped = service.stop().await;
    exports.end().await;
    stopped.map(|()| ExitCode::SUCCESS)
}

/// Starts the database, schema, shared state, worker and listener in this order.
///
/// # Errors
/// Fails when the port is in use, the database is unavailable, or a component cannot be built.
pub fn start(
    config: Config,
    roles: Roles,
    shutdown: Shutdown,
) -> BoxFuture<'static, anyhow::Result<Service>> {
    // Boxed, so that the future is compiled once with the library and not in each program and test.
    Box::pin(start_parts(config, roles, shutdown))
}

async fn start_parts(config: Config, roles: Roles, shutdown: Shutdown) -> anyhow::Result<Service> {
    // Bind the port first, so that a port conflict is reported before the database starts.
    let listener = if roles == Roles::Work { None } else { Some(listen(&config).await?) };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let beside = listen_beside(&config).await?;
    let metrics = beside.as_ref().map(TcpListener::local_addr).transpose()?;
    let templates = Templates::load(config.pages.as_deref())?;
    let connected = app::connect(&config).await?;
    if let Some(private) = &connected.private {
        shutdown.spawn(private.keep(shutdown.token().clone()));
    }
    let there = Box::pin(db::wait_until_ready(&connected.pool, config.database.wait));
    unless_stopped(&shutdown, "the database did not answer", there).await?;
    // Another process may be migrating, which can take long.
    unless_stopped(&shutdown, "the schema was being brought up to date", Box::pin(connected.migrate()))
        .await?;
    let app = App::build(config, connected.pool, shutdown.clone())?;
    let id = Uuid::now_v7().to_string();
    unless_stopped(&shutdown, "the start was being put on record", Box::pin(begin(&app, &id, roles))).await?;
    shutdown.spawn(jobs::audit_sealer::keep(Arc::clone(&app)));
    shutdown.spawn(ingest(Arc::clone(&app)));
    shutdown.spawn(jobs::announce(Arc::clone(&app)));
    if roles != Roles::Work {
        shutdown.spawn(keep(Arc::clone(&app)));
        shutdown.spawn(chat::take_up(Arc::clone(&app)));
    }
    if roles != Roles::Http {
        shutdown.spawn(work(Arc::clone(&app)));
        shutdown.spawn(jobs::reclaim(Arc::clone(&app)));
    }
    if let Some(listener) = listener {
        let (router, limits) =
            (server::router(Arc::clone(&app), templates), server::Limits::of(&app.config.server));
        shutdown.spawn(server::serve(listener, router, limits, shutdown.token().clone()));
    }
    if let Some(listener) = beside {
        let (router, limits) =
            (server::metrics_router(Arc::clone(&app)), server::Limits::of(&app.config.server));
        shutdown.spawn(server::serve(listener, router, limits, shutdown.token().clone()));
    }
    Ok(Service { app, address, metrics, private: connected.private, id })
}

/// Waits for a startup step, unless a shutdown begins.
async fn unless_stopped<T>(
    shutdown: &Shutdown,
    meanwhile: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = shutdown.token().cancelled() => anyhow::bail!("stopped while {meanwhile}"),
    }
}

/// Runs the first reads and writes of a process.
async fn begin(app: &App, id: &str, roles: Roles) -> anyhow::Result<()> {
    app.sync_servers().await?;
    // Before the first row: a row that arrives in a month without a partition prevents creation of that partition.
    if let Err(error) = audit::add_months(&app.pool, clock::now()).await {
        tracing::warn!(%error, "the months of the audit record cannot be made ready now");
    }
    let began = audit::add(&app.pool, &started(&app.config.digest, id, roles)).await;
    began.context("what is done here cannot be put on record")?;
    if roles != Roles::Work {
        chat::seed_builtin_agents(&app.pool).await?;
    }
    Ok(())
}

/// Creates the event of a process start. Its settings digest makes configuration changes visible.
fn started(digest: &str, id: &str, roles: Roles) -> AuditEvent {
    let does = match roles {
        Roles::Both => "serves and works",
        Roles::Http => "serves",
        Roles::Work => "works",
    };
    let version = env!("CARGO_PKG_VERSION");
    AuditEvent::new(&Actor::service(""), AuditAction::ServerStart, clock::now())
        .on("process", id)
        .detail(format!("version {version}, {does}"))
        .data(json!({ "version": version, "settings": digest }))
}

/// Stores answer events for clients that reconnect.
async fn keep(app: Arc<App>) {
    app.live.keep(&app.pool, app.shutdown.token()).await;
}

/// Runs the worker until shutdown.
async fn work(app: Arc<App>) {
    let stop = app.shutdown.token().clone();
    again(&stop, || jobs::work(Arc::clone(&app))).await;
}

/// Restarts the worker after any end until shutdown: a database outage ends it with an error, and a panic in one of its
/// loops ends it without one.
async fn again<F: Future<Output = anyhow::Result<()>>>(stop: &CancellationToken, worker: impl Fn() -> F) {
    loop {
        let ended = AssertUnwindSafe(worker()).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        let reason = match ended {
            Ok(Err(error)) => format!("{error:#}"),
            Ok(Ok(())) => "it stopped although nobody stopped it".to_owned(),
            Err(_) => "it panicked".to_owned(),
        };
        tracing::error!(error = reason, "the worker ended; beginning anew");
        tokio::select! {
            () = tokio::time::sleep(WORK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn listen_beside(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.server.metrics_bind else { return Ok(None) };
    bind(address, "address with `server.metrics_bind` (REGREEN_METRICS_BIND)").await.map(Some)
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(config.server.bind, config.server.port);
    bind(address, "port with `server.port` (REGREEN_PORT)").await
}

async fn bind(address: SocketAddr, another: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; choose another {another}"))
}

/// Ingests runbooks in the background while reports are accepted.
async fn ingest(app: Arc<App>) {
    let corpora = match Knowledge::corpora(&app.config) {
        Ok(corpora) => corpora,
        Err(error) => return tracing::error!(error = format!("{error:#}"), "the documents cannot be read"),
    };
    for corpus in &corpora {
        for (path, reason) in &corpus.rejected {
            tracing::warn!(source = corpus.source, path, reason, "a document cannot be read and is left out");
        }
        match app.knowledge.ingest(corpus, Arc::new(|_: &str| {})).await {
            Ok(done) => tracing::info!(
                source = corpus.source,
                stored = done.stored,
                unchanged = done.unchanged,
                removed = done.removed,
                "documents are in"
            ),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the documents cannot be stored"),
        }
    }
    // The model may have changed, or a process may have died before all chunks had embeddings.
    let settled = async {
        queue::add_index(&app.pool).await?;
        app.knowledge.reload().await
    };
    if let Err(error) = settled.await {
        tracing::warn!(error = format!("{error:#}"), "the stored documents cannot be taken up");
    }
}

impl Service {
    /// Stops in order: no new work is accepted, running work ends or is returned to the queue, then connections and the
    /// database are closed.
    ///
    /// # Errors
    /// Fails when the private database does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        if !self.app.shutdown.finish(self.app.config.server.shutdown_grace).await {
            self.app.drain.cancel();
            if !self.app.shutdown.finish(LAST).await {
                tracing::warn!("some work did not stop in time; another worker takes it up");
            }
        }
        self.app.connections.finish(LAST).await;
        let closing = async {
            let stopped = AuditEvent::new(&Actor::service(""), AuditAction::ServerStop, clock::now());
            if let Err(error) = audit::add(&self.app.pool, &stopped.on("process", &self.id)).await {
                tracing::warn!(%error, "that this process stopped cannot be put on record");
            }
            jobs::audit_sealer::close(&self.app.pool, &self.app.auth.refusals).await;
        };
        // An unavailable database must not delay the shutdown.
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::warn!("the record could not be closed in time; the next process seals it");
        }
        self.app.pool.close().await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_worker_begins_anew_however_it_ends() {
        let (stop, tries) = (CancellationToken::new(), AtomicU32::new(0));
        again(&stop, async || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(()),
            1 => anyhow::bail!("the database is away"),
            2 => panic!("of the test"),
            _ => {
                stop.cancel();
                Ok(())
            }
        })
        .await;
        assert_eq!(tries.into_inner(), 4);
    }
}
