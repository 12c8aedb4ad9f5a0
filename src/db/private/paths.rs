//! Paths and user of the private server. PostgreSQL refuses to run as root, so root runs it as another user.

use super::folder::{Folder, UserIds};
use super::{absolute, is_reachable, short_hash};
use anyhow::Context as _;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Maximum length of the socket folder: the kernel limits the path with the file name to 107 bytes.
const MAX_SOCKET_DIR: usize = 85;
/// Folder in which root stores files that another user must reach.
pub(super) const SHARED: &str = "/var/lib/regreen";

/// Folders of one private server.
#[derive(Debug)]
pub(super) struct DataPaths {
    /// Folder that contains the cluster; belongs to the server's user.
    pub(super) dir: PathBuf,
    /// Folder of the socket; belongs to the server's user and is usually the same as `dir`.
    pub(super) socket: PathBuf,
    /// Folder of the lock and the server's log; belongs to this process's user. Separate from the server's folder when
    /// root runs the server as another user, so that this user cannot choose what root opens.
    control: PathBuf,
    /// User that runs the server when this process is root.
    pub(super) run_as: Option<UserIds>,
}

/// The open folders.
#[derive(Debug)]
pub(super) struct Folders {
    /// Folder of the server.
    pub(super) server: Folder,
    /// Folder of the lock and the log.
    pub(super) control: Folder,
}

impl DataPaths {
    /// Creates the data folder and returns the paths. The folder must exist to check whether another user can reach it.
    pub(super) fn prepare(data_dir: &Path) -> anyhow::Result<Self> {
        make(&absolute(data_dir)?)?;
        Self::of(data_dir)
    }

    /// Returns the paths without creating anything.
    pub(super) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let mut base = absolute(data_dir)?;
        let run_as = is_root().then(other_user);
        if run_as.is_some() && !is_reachable(&base.join("postgres")) {
            // Below a closed folder such as /root, move the server's folders to where its user can reach them.
            base = Path::new(SHARED).join(format!("data-{}", short_hash(&base)));
        }
        let dir = base.join("postgres");
        let control = if run_as.is_some() { base.join("postgres-control") } else { dir.clone() };
        let socket = match run_as {
            _ if dir.as_os_str().len() <= MAX_SOCKET_DIR => dir.clone(),
            // Not in the temporary folder, where any user may claim a name.
            Some(_) => Path::new(SHARED).join(format!("socket-{}", short_hash(&dir))),
            None => std::env::temp_dir().join(format!("regreen-{}", short_hash(&dir))),
        };
        Ok(Self { dir, socket, control, run_as })
    }

    /// Creates the folders, closed to other users, and opens them.
    pub(super) fn open(&self) -> anyhow::Result<Folders> {
        for path in [&self.dir, &self.socket] {
            make(path.parent().unwrap_or(path))?;
        }
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let own = UserIds { user, group };
        let user = self.run_as.unwrap_or(own);
        if self.socket != self.dir {
            Folder::open(&self.socket, user)?;
        }
        Ok(Folders { server: Folder::open(&self.dir, user)?, control: Folder::open(&self.control, own)? })
    }

    /// Returns the folder of the cluster.
    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }
}

/// Creates a folder and its parents. Other users may traverse them but never write.
fn make(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.with_context(|| format!("cannot create the data folder {}", path.display()))
}

/// Whether this process runs as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Returns the ids of the user `postgres`, else of `nobody`, else 65534.
fn other_user() -> UserIds {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some(UserIds { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    };
    ids("postgres").or_else(|| ids("nobody")).unwrap_or(UserIds { user: 65_534, group: 65_534 })
}
