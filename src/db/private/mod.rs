//! The private PostgreSQL server for hosts without a database. It listens on a Unix socket in the data folder and is
//! owned by the process that holds the folder's lock. A second process joins as a guest; after a crash, the next owner
//! adopts or restarts the server.

mod folder;
mod paths;
mod programs;

use anyhow::{Context as _, bail};
use paths::{DataPaths, Folders};
use programs::Programs;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Longest wait for the server to accept connections.
const START: Duration = Duration::from_secs(60);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(15);
/// Name of the database and of its owner.
const NAME: &str = "regreen";
/// Lock file held by the owning process.
const LOCK: &str = "owner.lock";
/// Log file of the server.
const LOG: &str = "postgres.log";
/// Number of bytes read from the end of the log.
const LAST_WORDS: u64 = 16 * 1024;
/// Folder in which a new cluster is initialised.
const HALF_MADE: &str = "cluster.new";

/// Interval at which the owner checks its server, and the longest pause between restarts.
const REVIVE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A running private server.
pub struct PrivatePostgres(Arc<Server>);

struct Server {
    place: DataPaths,
    folders: Folders,
    programs: Programs,
    owned: Mutex<Owned>,
}

#[derive(Default)]
struct Owned {
    /// Lock held by the owner; a guest has none.
    lock: Option<File>,
    /// Lock file not yet acquired. A guest takes it when the owner ends before the server accepts connections.
    awaited: Option<File>,
    /// Server process; `None` when the server was adopted.
    child: Option<Child>,
    /// Whether this process created the data.
    new: bool,
}

impl PrivatePostgres {
    /// Starts the server of a data folder, joins the running one, or adopts the one left behind by a crash.
    ///
    /// # Errors
    /// Fails when no PostgreSQL with pgvector is found (the error names the remedy), or when the server does not start.
    pub async fn start(data_dir: &Path, programs: Option<&Path>) -> anyhow::Result<Self> {
        let place = DataPaths::prepare(data_dir)?;
        let programs = Programs::find(programs, &place).await?;
        let folders = place.open()?;
        let lock = folders.control.file(LOCK)?;
        let held = Owned { awaited: Some(lock), ..Owned::default() };
        // Dropping it stops the server on every error path.
        let server = Self(Arc::new(Server { place, folders, programs, owned: Mutex::new(held) }));
        server.0.wait_ready().await?;
        Ok(server)
    }

    /// Returns the connection options of the running server of a data folder, if any. Starts and creates nothing.
    ///
    /// # Errors
    /// Fails when no server runs and none could be started, because no PostgreSQL with pgvector is found.
    pub async fn running(
        data_dir: &Path,
        programs: Option<&Path>,
    ) -> anyhow::Result<Option<PgConnectOptions>> {
        let place = DataPaths::of(data_dir)?;
        if place.socket.join(".s.PGSQL.5432").exists() {
            return Ok(Some(options(&place, NAME)));
        }
        programs::folder(programs).await.map(|_| None)
    }

    /// Returns the connection options of the application database.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.0.options(NAME)
    }

    /// Returns the folder of the server's data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.place.dir
    }

    /// Returns whether this process created the data, so that the database is empty.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.owned().new
    }

    /// Returns whether this process started or adopted the server and therefore stops it.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.0.owned().lock.is_some()
    }

    /// Restarts the server whenever it ends, for example because of an out-of-memory kill or a full disk, until `stop`
    /// fires. A guest leaves that to the owner.
    pub fn keep(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let server = Arc::clone(&self.0);
        async move {
            let mut pause = REVIVE.0;
            while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                pause = match server.revive().await {
                    Ok(false) => REVIVE.0,
                    Ok(true) => pause.saturating_mul(2).min(REVIVE.1),
                    Err(error) => {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "the private PostgreSQL cannot be started again"
                        );
                        pause.saturating_mul(2).min(REVIVE.1)
                    }
                };
            }
        }
    }

    /// Stops the server if this process owns it, and waits until it has ended.
    ///
    /// # Errors
    /// Fails when the server does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let server = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || server.stop_now()).await?
    }
}

impl Server {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts an owned server that has ended. Returns whether it had ended.
    async fn revive(&self) -> anyhow::Result<bool> {
        let ended = {
            let mut owned = self.owned();
            let owned = &mut *owned;
            match (&owned.lock, &mut owned.child) {
                (None, _) => return Ok(false),
                (_, Some(child)) => match child.try_wait()? {
                    None => return Ok(false),
                    Some(status) => Some(status.to_string()),
                },
                (_, None) => None,
            }
        };
        if ended.is_none() && (self.answers().await || self.runs().await?) {
            return Ok(false);
        }
        let (status, last_words) = (ended.unwrap_or_default(), self.last_words());
        tracing::error!(status, last_words, "the private PostgreSQL has ended; starting it again");
        let child = self.spawn()?;
        self.owned().child = Some(child);
        Ok(true)
    }

    /// Returns whether an adopted server runs, even if it does not accept connections yet.
    async fn runs(&self) -> anyhow::Result<bool> {
        let mut status = self.command("pg_ctl");
        status.args(["status", "--silent", "--pgdata"]).arg(self.place.cluster());
        Ok(status.output().await.context("cannot run pg_ctl")?.status.success())
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        options(&self.place, database)
    }

    async fn answers(&self) -> bool {
        match PgConnection::connect_with(&self.options("postgres")).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        }
    }

    /// Initialises the cluster in a temporary folder, so that a crash leaves no partial cluster. Returns whether a
    /// cluster was created.
    async fn initialise(&self) -> anyhow::Result<bool> {
        let server = &self.folders.server;
        if let Some(version) = server.head("cluster/PG_VERSION", 16) {
            return self.check_version(version.trim()).await.map(|()| false);
        }
        let fresh = self.place.dir.join(HALF_MADE);
        if server.has(HALF_MADE) {
            // Run as the server's user, so that only files of that user can be removed.
            let removed = self.as_server("rm").arg("-rf").arg("--").arg(&fresh).output().await;
            let removed = removed.is_ok_and(|output| output.status.success());
            anyhow::ensure!(removed, "cannot remove the half-made cluster {}", fresh.display());
        }
        let output = self
            .command("initdb")
            .arg("--pgdata")
            .arg(&fresh)
            .args([
                "--username",
                NAME,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--no-sync",
            ])
            .output()
            .await
            .context("cannot run initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        server.rename(HALF_MADE, "cluster").context("cannot move the new cluster to its place")?;
        Ok(true)
    }

    /// Checks the data version, because a server reads only data of its own major version. The error names the remedy.
    async fn check_version(&self, made_by: &str) -> anyhow::Result<()> {
        let output =
            self.command("postgres").arg("--version").output().await.context("cannot run postgres")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let is_version = made_by.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if let Some(programs) = programs::major(&said).filter(|programs| is_version && *programs != made_by) {
            let (dir, bin) = (self.place.dir.display(), self.programs.bin.display());
            bail!(
                "the private database in {dir} was made by PostgreSQL {made_by}, and the programs in {bin} are of \
                 PostgreSQL {programs}; nothing was changed. Either set `database.programs` to the folder of a PostgreSQL \
                 {made_by} with pgvector, or move the data to PostgreSQL {programs}: docs/operate.md, \
                 \"A new major version of the private PostgreSQL\""
            );
        }
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = self.folders.control.file(LOG)?;
        log.set_len(0).context("cannot empty the server's log")?;
        self.command("postgres")
            .arg("-D")
            .arg(self.place.cluster())
            .arg("-k")
            .arg(&self.place.socket)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "port=5432",
                "-c",
                "shared_buffers=64MB",
                "-c",
                "max_connections=200",
            ])
            .args(["-c", "unix_socket_permissions=0777", "-c", "log_min_messages=warning"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A separate process group, so that Ctrl-C reaches only this process, which then stops the server in order.
            .process_group(0)
            .spawn()
            .context("cannot start postgres")
    }

    fn command(&self, program: &str) -> Command {
        self.as_server(self.programs.bin.join(program))
    }

    /// Builds a command that runs as the server's user.
    fn as_server(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        if let Some(ids) = self.place.run_as {
            command.uid(ids.user).gid(ids.group);
        }
        command
    }

    /// Acquires the data folder lock if it is free. Returns whether this process holds it.
    fn take(&self) -> anyhow::Result<bool> {
        let mut owned = self.owned();
        let Some(lock) = owned.awaited.take() else { return Ok(false) };
        match lock.try_lock() {
            Ok(()) => owned.lock = Some(lock),
            Err(TryLockError::WouldBlock) => owned.awaited = Some(lock),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data folder"),
        }
        Ok(owned.lock.is_some())
    }

    /// Starts the server, unless one left behind by a crash accepts connections.
    async fn begin(&self) -> anyhow::Result<()> {
        if !self.answers().await {
            let new = self.initialise().await?;
            let child = self.spawn()?;
            let mut owned = self.owned();
            (owned.child, owned.new) = (Some(child), new);
        }
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            // Repeated, because an owner may end before its server accepts connections.
            if self.take()? {
                self.begin().await?;
            }
            if self.answers().await {
                self.owned().awaited = None;
                return self.ensure_database().await;
            }
            if let Some(child) = &mut self.owned().child
                && let Some(status) = child.try_wait()?
            {
                bail!("the private PostgreSQL ended at once ({status}): {}", self.last_words());
            }
            if Instant::now() > deadline {
                bail!("the private PostgreSQL did not answer within 60 s: {}", self.last_words());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ensure_database(&self) -> anyhow::Result<()> {
        if let Ok(connection) = PgConnection::connect_with(&self.options(NAME)).await {
            return connection.close().await.context("the private PostgreSQL closed the connection");
        }
        let mut connection = self.options("postgres").connect().await?;
        let made = sqlx::raw_sql("create database regreen").execute(&mut connection).await;
        // Two processes may create the database concurrently; one of them gets an error that it exists.
        if let Err(error) = made
            && PgConnection::connect_with(&self.options(NAME)).await.is_err()
        {
            return Err(error).context("cannot create the database in the private PostgreSQL");
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = self.folders.control.tail(LOG, LAST_WORDS).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn stop_now(&self) -> anyhow::Result<()> {
        let mut owned = self.owned();
        if owned.lock.is_none() {
            return Ok(());
        }
        if let Some(child) = &mut owned.child
            && child.try_wait()?.is_some()
        {
            *owned = Owned::default();
            return Ok(());
        }
        // A blocking command, because drop cannot await.
        let stopped = self
            .command("pg_ctl")
            .into_std()
            .args(["stop", "--mode", "fast", "--wait", "--timeout", "20", "--silent", "--pgdata"])
            .arg(self.place.cluster())
            .output()
            .context("cannot run pg_ctl")?;
        // pg_ctl reports success shortly before the process has exited.
        while stopped.status.success()
            && let Some(child) = &mut owned.child
            && child.try_wait()?.is_none()
        {
            std::thread::sleep(LOOK);
        }
        // Release the lock only after the server has ended.
        *owned = Owned::default();
        if !stopped.status.success() {
            bail!("the private PostgreSQL did not stop: {}", String::from_utf8_lossy(&stopped.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // Handles an early return before `stop`; the error cannot be reported.
        let _ = self.0.stop_now();
    }
}

fn options(place: &DataPaths, database: &str) -> PgConnectOptions {
    // Set every field: the defaults come from `PG…` environment variables.
    PgConnectOptions::new_without_pgpass()
        .socket(&place.socket)
        .port(5432)
        .username(NAME)
        .password(NAME)
        .database(database)
        .log_statements(tracing::log::LevelFilter::Debug)
}

/// Returns whether other users can traverse every folder above the path.
fn is_reachable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |folder: &Path| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).all(open)
}

/// Returns a short hash of a path, for names of folders that stand for it.
fn short_hash(path: &Path) -> String {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hex::encode(&hash[..6])
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a usable path", path.display()))
}
