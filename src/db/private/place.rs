//! Where the private server lives and as whom it runs: PostgreSQL refuses root, so root lends it another user.

use super::{absolute, is_reachable, short_hash};
use anyhow::Context as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Longest socket folder: the kernel takes 107 bytes with the file name.
const MAX_SOCKET_DIR: usize = 85;
/// Where root keeps what another user has to reach.
pub(super) const SHARED: &str = "/var/lib/regreen";

/// Folders of one private server.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) socket: PathBuf,
    /// User and group, when we are root.
    pub(super) run_as: Option<(u32, u32)>,
}

impl Place {
    /// Makes the folders, closed to everybody else.
    pub(super) fn prepare(data_dir: &Path) -> anyhow::Result<Self> {
        let data_dir = absolute(data_dir)?;
        std::fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot create the data folder {}", data_dir.display()))?;
        let place = Self::of(&data_dir)?;
        own(&place.dir, place.run_as)?;
        if place.socket != place.dir {
            own(&place.socket, place.run_as)?;
        }
        Ok(place)
    }

    /// Where they are, whether or not they are there.
    pub(super) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let mut dir = absolute(data_dir)?;
        let run_as = is_root().then(other_user);
        if run_as.is_some() && !is_reachable(&dir.join("postgres")) {
            // Below a closed folder such as /root: the server's part goes where its user can reach it.
            dir = Path::new(SHARED).join(format!("data-{}", short_hash(&dir)));
        }
        let dir = dir.join("postgres");
        let socket = if dir.as_os_str().len() <= MAX_SOCKET_DIR {
            dir.clone()
        } else {
            std::env::temp_dir().join(format!("regreen-{}", short_hash(&dir)))
        };
        Ok(Self { dir, socket, run_as })
    }

    /// The cluster's folder.
    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }
}

/// A folder of our own, or of the user we lend it to, closed to others.
fn own(dir: &Path, run_as: Option<(u32, u32)>) -> anyhow::Result<()> {
    let context = || format!("cannot prepare the folder {}", dir.display());
    std::fs::create_dir_all(dir).with_context(context)?;
    if let Some((user, group)) = run_as {
        chown(dir, Some(user), Some(group)).with_context(context)?;
    } else {
        let foreign = std::fs::metadata(dir)?.uid() != std::fs::metadata("/proc/self")?.uid();
        anyhow::ensure!(!foreign, "the folder {} belongs to somebody else", dir.display());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).with_context(context)
}

/// Whether this process runs as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// `postgres` where there is one, else `nobody`.
fn other_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).unwrap_or((65_534, 65_534))
}
