//! The private PostgreSQL of a machine without one: on a Unix socket in the data folder, owned by whoever holds the
//! folder's lock. A second process joins as a guest; after a crash the next owner adopts or restarts the server.

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

/// Longest wait for the server to answer.
const START: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(15);
/// Name of the database and of its owner.
const NAME: &str = "regreen";
/// Held by the process that started the server.
const LOCK: &str = "owner.lock";
/// The server's log.
const LOG: &str = "postgres.log";
/// How much of the end of the log is read, in bytes.
const LAST_WORDS: u64 = 16 * 1024;
/// A cluster in the making.
const HALF_MADE: &str = "cluster.new";

/// How often the owner looks whether its server runs, and the longest pause when it does not stay up.
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
    /// Held by the owner until the end; a guest has none.
    lock: Option<File>,
    /// What a guest takes when the owner is gone before its server answered.
    awaited: Option<File>,
    /// None when the server was adopted.
    child: Option<Child>,
    /// Whether its data were made by this process.
    new: bool,
}

impl PrivatePostgres {
    /// Starts the server of a data folder, joins the running one, or adopts the one a crash left behind.
    ///
    /// # Errors
    /// No PostgreSQL with pgvector is found (the error says what to run), or it does not start.
    pub async fn start(data_dir: &Path, programs: Option<&Path>) -> anyhow::Result<Self> {
        let place = DataPaths::prepare(data_dir)?;
        let programs = Programs::find(programs, &place).await?;
        let folders = place.open()?;
        let lock = folders.control.file(LOCK)?;
        let held = Owned { awaited: Some(lock), ..Owned::default() };
        // Stopped by whatever way this is left.
        let server = Self(Arc::new(Server { place, folders, programs, owned: Mutex::new(held) }));
        server.0.wait_ready().await?;
        Ok(server)
    }

    /// How to connect to the one of a data folder that runs, if one does. Nothing is started or made.
    ///
    /// # Errors
    /// None runs, and none could be started: there is no PostgreSQL with pgvector.
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

    /// How to connect to the product's database.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.0.options(NAME)
    }

    /// Where its data are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.place.dir
    }

    /// Whether there were no data before: this process made an empty database.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.owned().new
    }

    /// Whether this process started or adopted the server, and stops it.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.0.owned().lock.is_some()
    }

    /// Starts the server again whenever it has ended, until `stop` fires: out of memory, a full disk, somebody's mistake.
    /// A guest leaves that to the owner.
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

    /// Stops the server if this process owns it, and waits for its end.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let server = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || server.stop_now()).await?
    }
}

impl Server {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it if it is ours and has ended. Returns whether it had.
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

    /// Whether one that we did not start runs, though it may not answer yet.
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

    /// Makes the cluster beside its final place, so that a crash in the middle leaves nothing half-made. Returns whether there was
    /// none.
    async fn initialise(&self) -> anyhow::Result<bool> {
        let server = &self.folders.server;
        if let Some(version) = server.head("cluster/PG_VERSION", 16) {
            return self.check_version(version.trim()).await.map(|()| false);
        }
        let fresh = self.place.dir.join(HALF_MADE);
        if server.has(HALF_MADE) {
            // As the server's user: whatever lies there, nothing goes that is not this user's own.
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

    /// A server reads data of its own major version alone: says what to do instead of leaving it to its log.
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
            // Its own group: a Ctrl-C at the terminal is for us, who then stop it in order.
            .process_group(0)
            .spawn()
            .context("cannot start postgres")
    }

    fn command(&self, program: &str) -> Command {
        self.as_server(self.programs.bin.join(program))
    }

    /// A program that runs as the server does.
    fn as_server(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        if let Some(ids) = self.place.run_as {
            command.uid(ids.user).gid(ids.group);
        }
        command
    }

    /// Takes the data folder, if nobody has it. Returns whether it was taken.
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

    /// Starts the server, unless a crash left one behind.
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
            // Also later: an owner may end before its server answers.
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
        // Two processes may come here at once; one of them is told that it exists.
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
        // As it stands, for a drop cannot await.
        let stopped = self
            .command("pg_ctl")
            .into_std()
            .args(["stop", "--mode", "fast", "--wait", "--timeout", "20", "--silent", "--pgdata"])
            .arg(self.place.cluster())
            .output()
            .context("cannot run pg_ctl")?;
        // pg_ctl says so a moment before the process is gone.
        while stopped.status.success()
            && let Some(child) = &mut owned.child
            && child.try_wait()?.is_none()
        {
            std::thread::sleep(LOOK);
        }
        // Free for the next owner only when the server is gone.
        *owned = Owned::default();
        if !stopped.status.success() {
            bail!("the private PostgreSQL did not stop: {}", String::from_utf8_lossy(&stopped.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // An early return before `stop`; nobody is left to tell about a failure.
        let _ = self.0.stop_now();
    }
}

fn options(place: &DataPaths, database: &str) -> PgConnectOptions {
    // Every field set: the defaults come from `PG…` variables of the environment.
    PgConnectOptions::new_without_pgpass()
        .socket(&place.socket)
        .port(5432)
        .username(NAME)
        .password(NAME)
        .database(database)
        .log_statements(tracing::log::LevelFilter::Debug)
}

/// A path that other users can go to: every folder above it lets them through.
fn is_reachable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |folder: &Path| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).all(open)
}

/// A short name for a path, for folders that stand for it elsewhere.
fn short_hash(path: &Path) -> String {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hex::encode(&hash[..6])
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a usable path", path.display()))
}
