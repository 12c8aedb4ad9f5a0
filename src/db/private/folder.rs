//! A folder that is opened once and then accessed through its descriptor. Other users with write access cannot redirect
//! this process: links are not followed, and files and folders of other users are not used.

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Opens the folder itself and does not follow a symbolic link.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opens the file itself, without following links and without blocking on a pipe.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Ids of a user and its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserIds {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// An open folder that belongs to one user and is closed to all others.
#[derive(Debug)]
pub(super) struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder of a user and creates it when missing. Root hands over an empty folder of its own to that user.
    pub(super) fn open(path: &Path, UserIds { user, group }: UserIds) -> anyhow::Result<Self> {
        let shown = path.display();
        match fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make the folder {shown}")),
        }
        let descriptor = match fs::open(path, FOLDER, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                bail!(
                    "{shown} is a link or a file, and has to be a folder; move it away, or set `database.data_dir` to another place"
                )
            }
            Err(error) => return Err(error).with_context(|| format!("cannot open the folder {shown}")),
        };
        let folder = Self { descriptor, path: path.to_owned() };
        let owner = fs::fstat(&folder.descriptor)?.st_uid;
        if owner != user {
            ensure!(
                owner == 0 && rustix::process::geteuid().is_root() && folder.is_empty()?,
                "the folder {shown} belongs to user {owner}, not to user {user} as it has to; if its content is \
                 yours, `chown -R {user}:{group} {shown}`"
            );
            fs::fchown(&folder.descriptor, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .with_context(|| format!("cannot give the folder {shown} to user {user}"))?;
        }
        fs::fchmod(&folder.descriptor, Mode::RWXU)
            .with_context(|| format!("cannot close the folder {shown} to others"))?;
        Ok(folder)
    }

    fn is_empty(&self) -> anyhow::Result<bool> {
        for entry in Dir::read_from(&self.descriptor)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether an entry of that name exists, including a dangling link.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a file for writing and creates it when missing, without truncation.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<File> {
        let flags = FILE | OFlags::RDWR | OFlags::CREATE;
        self.open_file(name, flags)
            .with_context(|| format!("cannot open {} to write", self.path.join(name).display()))
    }

    /// Opens a regular file.
    fn open_file(&self, name: &str, flags: OFlags) -> anyhow::Result<File> {
        let descriptor = fs::openat(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR)?;
        let kind = FileType::from_raw_mode(fs::fstat(&descriptor)?.st_mode);
        ensure!(kind == FileType::RegularFile, "it is no regular file");
        Ok(File::from(descriptor))
    }

    /// Returns at most `most` bytes from the start of a file; `None` if there is no regular file.
    pub(super) fn head(&self, name: &str, most: u64) -> Option<String> {
        let file = self.open_file(name, FILE | OFlags::RDONLY).ok()?;
        read(&file, most)
    }

    /// Returns at most `most` bytes from the end of a file; `None` if there is no regular file.
    pub(super) fn tail(&self, name: &str, most: u64) -> Option<String> {
        let mut file = self.open_file(name, FILE | OFlags::RDONLY).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most))).ok()?;
        read(&file, most)
    }

    /// Renames an entry within the folder.
    pub(super) fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        fs::renameat(&self.descriptor, from, &self.descriptor, to)
    }
}

fn read(file: &File, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn own() -> UserIds {
        UserIds { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn a_folder_is_made_closed_and_neither_a_link_nor_somebody_elses_is_taken() {
        let above = tempfile::tempdir().unwrap();
        let (made, link, file) =
            (above.path().join("made"), above.path().join("link"), above.path().join("file"));
        Folder::open(&made, own()).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(made.join("content"), "x").unwrap();
        symlink(&made, &link).unwrap();
        std::fs::write(&file, "x").unwrap();
        for path in [&link, &file] {
            let refused = Folder::open(path, own()).unwrap_err().to_string();
            assert!(refused.contains("is a link or a file"), "{refused}");
        }
        let refused = Folder::open(&made, UserIds { user: own().user + 1, ..own() }).unwrap_err().to_string();
        assert!(refused.contains("belongs to user"), "{refused}");
        let left = made.metadata().unwrap();
        assert_eq!((left.permissions().mode() & 0o777, left.uid()), (0o755, own().user), "it is as it was");
    }

    #[test]
    fn files_are_opened_themselves_and_pipes_are_not_waited_for() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("folder");
        let folder = Folder::open(&path, own()).unwrap();
        let victim = above.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, path.join("link")).unwrap();
        symlink(above.path().join("nowhere"), path.join("dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path.join("pipe")).status().unwrap().success());
        for name in ["link", "dangling", "pipe"] {
            assert!(folder.has(name));
            assert!(folder.file(name).is_err(), "{name}");
            assert_eq!((folder.head(name, 9), folder.tail(name, 9)), (None, None), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!above.path().join("nowhere").exists());
        std::fs::write(path.join("log"), "first line\nlast line\n").unwrap();
        drop(folder.file("log").unwrap());
        assert_eq!(folder.head("log", 5).unwrap(), "first");
        assert_eq!(folder.tail("log", 10).unwrap(), "last line\n");
    }
}
