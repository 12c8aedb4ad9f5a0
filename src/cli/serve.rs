//! `serve` and `work`: wires everything in order, runs it, and stops it in the opposite order.

use crate::app::{self, App};
use crate::config::Config;
use crate::db::queue;
use crate::knowledge::Knowledge;
use crate::shutdown::Shutdown;
use crate::{chat, db, http, jobs, telemetry};
use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Time the rest of a stop gets after the grace.
const LAST: Duration = Duration::from_secs(10);

/// Pause before a worker that ended begins anew.
const WORK_AGAIN: Duration = Duration::from_secs(1);

/// What one process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Serves and works.
    Both,
    /// Serves.
    Http,
    /// Works.
    Work,
}

/// A service that runs.
pub struct Service {
    /// The shared parts.
    pub app: Arc<App>,
    /// Where it listens, when it does.
    pub address: Option<SocketAddr>,
    private: Option<db::private::PrivatePostgres>,
}

/// Runs until a signal.
pub(super) async fn run(config: Config, roles: Roles) -> anyhow::Result<ExitCode> {
    telemetry::init(&config.log)?;
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot listen for signals")?;
    let service = start(config, roles, shutdown.clone()).await?;
    if let Some(address) = service.address {
        tracing::info!(%address, "serving: the pages are at /, the API is described at /docs");
    }
    shutdown.token().cancelled().await;
    service.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// Database, schema, shared parts, worker, listener: in this order.
///
/// # Errors
/// The port is taken, the database is away, or a part cannot be built.
pub async fn start(config: Config, roles: Roles, shutdown: Shutdown) -> anyhow::Result<Service> {
    // The port first: a taken one should not cost the start of a database.
    let listener = if roles == Roles::Work { None } else { Some(listen(&config).await?) };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let connected = app::connect(&config).await?;
    db::migrate(&connected.pool).await?;
    let app = App::build(config, connected.pool, shutdown.clone())?;
    app.sync_servers().await?;
    shutdown.spawn(ingest(Arc::clone(&app)));
    shutdown.spawn(jobs::announce(Arc::clone(&app)));
    if roles != Roles::Work {
        chat::ship(&app.pool).await?;
        shutdown.spawn(keep(Arc::clone(&app)));
        shutdown.spawn(chat::take_up(Arc::clone(&app)));
    }
    if roles != Roles::Http {
        shutdown.spawn(work(Arc::clone(&app)));
    }
    if let Some(listener) = listener {
        // Without it small answers wait for an acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (router, stop) = (http::router(Arc::clone(&app)), shutdown.token().clone());
        shutdown.spawn(async move {
            // Made once: a router itself is copied for each connection, with all its routes.
            let make = router.into_make_service();
            if let Err(error) =
                axum::serve(listener, make).with_graceful_shutdown(stop.cancelled_owned()).await
            {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    Ok(Service { app, address, private: connected.private })
}

/// Keeps what happens in answers, for readers that come back.
async fn keep(app: Arc<App>) {
    app.live.keep(&app.pool, app.shutdown.token()).await;
}

/// Works until the stop; a database that goes away ends the worker, which then begins anew.
async fn work(app: Arc<App>) {
    let stop = app.shutdown.token().clone();
    while let Err(error) = jobs::work(Arc::clone(&app)).await {
        if stop.is_cancelled() {
            return;
        }
        tracing::error!(error = format!("{error:#}"), "the worker ended; beginning anew");
        tokio::select! {
            () = tokio::time::sleep(WORK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(config.server.bind, config.server.port);
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another port with `server.port` (REGREEN_PORT)")
    })
}

/// The runbooks, beside everything else: reports can be taken meanwhile.
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
    // A model may have changed, or a process may have died before all had their vectors.
    let settled = async {
        queue::add_index(&app.pool).await?;
        app.knowledge.reload().await
    };
    if let Err(error) = settled.await {
        tracing::warn!(error = format!("{error:#}"), "the stored documents cannot be taken up");
    }
}

impl Service {
    /// Stops in order: no new work; what runs ends or is handed back; connections; the database.
    ///
    /// # Errors
    /// The private database does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let grace = self.app.config.server.shutdown_grace + LAST;
        if !self.app.shutdown.finish(grace).await {
            tracing::warn!("some work did not stop in time; another worker takes it up");
        }
        self.app.connections.finish(LAST).await;
        self.app.pool.close().await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        tracing::info!("stopped");
        Ok(())
    }
}
