//! Where the private server lives and as whom it runs: PostgreSQL refuses root, so root lends it another user.

use super::folder::{Folder, UserIds};
use super::{absolute, is_reachable, short_hash};
use anyhow::Context as _;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Longest socket folder: the kernel takes 107 bytes with the file name.
const MAX_SOCKET_DIR: usize = 85;
/// Where root keeps what another user has to reach.
pub(super) const SHARED: &str = "/var/lib/regreen";

/// Folders of one private server.
#[derive(Debug)]
pub(super) struct DataPaths {
    /// Of the server's user: the cluster is in it.
    pub(super) dir: PathBuf,
    /// Of the server's user too, and often the same.
    pub(super) socket: PathBuf,
    /// Of this process' user: the lock and the server's log. Where root lends the server another user, that user must not
    /// choose what root opens, so it is another folder than the server's.
    control: PathBuf,
    /// The server's user, when we are root.
    pub(super) run_as: Option<UserIds>,
}

/// The folders, open.
#[derive(Debug)]
pub(super) struct Folders {
    /// The server's.
    pub(super) server: Folder,
    /// Ours.
    pub(super) control: Folder,
}

impl DataPaths {
    /// Where they are, with the data folder made: whether another user can reach it shows then.
    pub(super) fn prepare(data_dir: &Path) -> anyhow::Result<Self> {
        make(&absolute(data_dir)?)?;
        Self::of(data_dir)
    }

    /// Where they are, whether or not they are there.
    pub(super) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let mut base = absolute(data_dir)?;
        let run_as = is_root().then(other_user);
        if run_as.is_some() && !is_reachable(&base.join("postgres")) {
            // Below a closed folder such as /root: the server's part goes where its user can reach it.
            base = Path::new(SHARED).join(format!("data-{}", short_hash(&base)));
        }
        let dir = base.join("postgres");
        let control = if run_as.is_some() { base.join("postgres-control") } else { dir.clone() };
        let socket = match run_as {
            _ if dir.as_os_str().len() <= MAX_SOCKET_DIR => dir.clone(),
            // Anybody may take a name in the folder for temporary files.
            Some(_) => Path::new(SHARED).join(format!("socket-{}", short_hash(&dir))),
            None => std::env::temp_dir().join(format!("regreen-{}", short_hash(&dir))),
        };
        Ok(Self { dir, socket, control, run_as })
    }

    /// Makes the folders, closed to everybody else, and opens them.
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

    /// The cluster's folder.
    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }
}

/// Makes a folder and those above it. Others pass through, and no mask lets them write.
fn make(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.with_context(|| format!("cannot create the data folder {}", path.display()))
}

/// Whether this process runs as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// `postgres` where there is one, else `nobody`.
fn other_user() -> UserIds {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some(UserIds { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    };
    ids("postgres").or_else(|| ids("nobody")).unwrap_or(UserIds { user: 65_534, group: 65_534 })
}
