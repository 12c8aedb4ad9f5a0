//! The private PostgreSQL: second starts, crashes, and a clear word when it is missing.

use crate::support::postgres::{NOBODY, is_root};
use crate::support::{Setup, eventually};
use regreen::db::private::PrivatePostgres;
use sha2::{Digest as _, Sha256};
use sqlx::ConnectOptions as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

async fn answers(server: &PrivatePostgres) -> bool {
    match server.connect_options().connect().await {
        Ok(mut connection) => {
            sqlx::query("create extension if not exists vector").execute(&mut connection).await.is_ok()
        }
        Err(_) => false,
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Root lends the server another user, who has to come through here.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_joins_and_the_owner_stops_it() {
    let folder = folder();
    let owner = PrivatePostgres::start(folder.path(), None).await.unwrap();
    assert!(owner.is_owner() && answers(&owner).await);
    let guest = PrivatePostgres::start(folder.path(), None).await.unwrap();
    assert!(!guest.is_owner() && answers(&guest).await);
    guest.stop().await.unwrap();
    assert!(answers(&owner).await, "a guest stops nothing");
    let options = owner.connect_options();
    owner.stop().await.unwrap();
    assert!(options.connect().await.is_err(), "it is gone with its owner");
    let again = PrivatePostgres::start(folder.path(), None).await.unwrap();
    assert!(again.is_owner() && answers(&again).await, "and comes again");
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_next_start_recovers() {
    let folder = folder();
    let setup = Setup::bare().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command
        .arg("work")
        .env_clear()
        .envs(setup.env())
        .env_remove("DATABASE_URL")
        .env("REGREEN_DATA_DIR", folder.path());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let guest = eventually("the server of the other process answers", async || {
        if !folder.path().join("postgres/cluster/postmaster.pid").exists() {
            return None;
        }
        PrivatePostgres::start(folder.path(), None).await.ok().filter(|server| !server.is_owner())
    })
    .await;
    drop(guest);
    process.kill().unwrap();
    process.wait().unwrap();
    let heir = PrivatePostgres::start(folder.path(), None).await.unwrap();
    assert!(heir.is_owner() && answers(&heir).await, "the orphan is adopted");
    let options = heir.connect_options();
    heir.stop().await.unwrap();
    assert!(options.connect().await.is_err(), "and stopped by its heir");
}

/// Starts a server and stops it again; returns its folder's owner.
async fn start_and_stop(data: &Path) -> u32 {
    let server = PrivatePostgres::start(data, None).await.unwrap();
    assert!(server.is_owner() && answers(&server).await);
    server.stop().await.unwrap();
    data.join("postgres").metadata().unwrap().uid()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_the_first_start_leaves_nothing_half_made() {
    let folder = folder();
    let user = start_and_stop(folder.path()).await;
    let server = folder.path().join("postgres");
    std::fs::remove_dir_all(server.join("cluster")).unwrap();
    for path in [server.join("cluster.new"), server.join("cluster.new/base")] {
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(user), None).unwrap();
    }
    start_and_stop(folder.path()).await;
    assert!(!server.join("cluster.new").exists());
}

/// What somebody wants overwritten, given away or removed.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Self {
        let folder = folder();
        std::fs::write(folder.path().join("file"), "precious").unwrap();
        std::fs::set_permissions(folder.path().join("file"), PermissionsExt::from_mode(0o640)).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("file")
    }

    fn is_untouched(&self) {
        let own = std::fs::metadata("/proc/self").unwrap().uid();
        for (path, mode) in [(self.0.path(), 0o755), (&self.file(), 0o640)] {
            let now = path.metadata().unwrap();
            assert_eq!((now.uid(), now.permissions().mode() & 0o777), (own, mode), "{}", path.display());
        }
        assert_eq!(std::fs::read_to_string(self.file()).unwrap(), "precious");
        assert_eq!(self.0.path().read_dir().unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_the_servers_user_lead_root_nowhere() {
    let (folder, victim) = (folder(), Victim::new());
    let user = start_and_stop(folder.path()).await;
    let server = folder.path().join("postgres");
    // Its user may do in its folder what it likes. Where that is our own user, there is nobody to guard against, but nothing is followed.
    std::fs::remove_dir_all(server.join("cluster")).unwrap();
    let file = victim.file();
    for (name, to) in [("owner.lock", &*file), ("postgres.log", &*file), ("cluster.new", victim.0.path())] {
        let _ = std::fs::remove_file(server.join(name));
        symlink(to, server.join(name)).unwrap();
        lchown(server.join(name), Some(user), None).unwrap();
    }
    match PrivatePostgres::start(folder.path(), None).await {
        Ok(started) => {
            assert!(is_root() && answers(&started).await);
            started.stop().await.unwrap();
        }
        Err(refused) => assert!(!is_root() && format!("{refused:#}").contains("owner.lock"), "{refused:#}"),
    }
    victim.is_untouched();
    if is_root() {
        let control = folder.path().join("postgres-control");
        for path in [control.clone(), control.join("owner.lock"), control.join("postgres.log")] {
            let made = path.symlink_metadata().unwrap();
            assert_eq!((made.uid(), made.mode() & 0o077), (0, 0), "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_links_or_somebody_elses_are_refused() {
    let names: &[&str] = if is_root() { &["postgres", "postgres-control"] } else { &["postgres"] };
    for name in names {
        let (folder, victim) = (folder(), Victim::new());
        symlink(victim.0.path(), folder.path().join(name)).unwrap();
        let refused = PrivatePostgres::start(folder.path(), None).await.err().unwrap();
        assert!(format!("{refused:#}").contains("is a link or a file"), "{refused:#}");
        victim.is_untouched();
    }
    if is_root() {
        for (name, owner) in [("postgres-control", NOBODY), ("postgres", 0)] {
            let folder = folder();
            let theirs = folder.path().join(name);
            std::fs::create_dir(&theirs).unwrap();
            std::fs::write(theirs.join("content"), "x").unwrap();
            chown(&theirs, Some(owner), None).unwrap();
            let refused = PrivatePostgres::start(folder.path(), None).await.err().unwrap();
            assert!(format!("{refused:#}").contains(&format!("belongs to user {owner}")), "{refused:#}");
            assert_eq!(theirs.metadata().unwrap().uid(), owner);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_folder_that_somebody_prepared_is_not_taken() {
    let (folder, victim) = (folder(), Victim::new());
    let data = folder.path().join("a-path-too-long-for-a-socket".repeat(4));
    let hash = hex::encode(&Sha256::digest(data.join("postgres").as_os_str().as_encoded_bytes())[..6]);
    let planted = std::env::temp_dir().join(format!("regreen-{hash}"));
    symlink(victim.0.path(), &planted).unwrap();
    let started = PrivatePostgres::start(&data, None).await;
    std::fs::remove_file(&planted).unwrap();
    match started {
        // Root has a place where nobody else prepares anything.
        Ok(started) => {
            assert!(is_root() && answers(&started).await);
            started.stop().await.unwrap();
            assert!(data.join("postgres/cluster/PG_VERSION").exists(), "its data is where it was to be");
            std::fs::remove_dir_all(format!("/var/lib/regreen/socket-{hash}")).unwrap();
        }
        Err(refused) => assert!(!is_root() && format!("{refused:#}").contains("is a link"), "{refused:#}"),
    }
    victim.is_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_owner_that_ends_takes_its_place() {
    let folder = folder();
    start_and_stop(folder.path()).await;
    // Root keeps it where the server's user cannot go.
    let places = ["postgres-control", "postgres"].map(|place| folder.path().join(place).join("owner.lock"));
    let lock = std::fs::File::open(places.iter().find(|place| place.exists()).unwrap()).unwrap();
    // A process that another test is just starting can have it for a moment.
    lock.lock().unwrap();
    let mut starts = Box::pin(PrivatePostgres::start(folder.path(), None));
    assert!(futures::poll!(&mut starts).is_pending(), "somebody else has the folder");
    drop(lock);
    let started = starts.await.unwrap();
    assert!(started.is_owner());
    started.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_major_version_is_left_alone_and_said_what_to_do_with() {
    let folder = folder();
    start_and_stop(folder.path()).await;
    let file = folder.path().join("postgres/cluster/PG_VERSION");
    let own = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "9\n").unwrap();
    let refused = PrivatePostgres::start(folder.path(), None).await.err().unwrap().to_string();
    for said in [
        "was made by PostgreSQL 9,",
        &format!("are of PostgreSQL {};", own.trim()),
        "`database.programs`",
        "docs/operate.md",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "9\n");
    std::fs::write(&file, own).unwrap();
    start_and_stop(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_programs_are_said_with_what_to_run() {
    let folder = folder();
    let error = PrivatePostgres::start(folder.path(), Some(Path::new("/nowhere"))).await.err().unwrap();
    assert!(error.to_string().contains("`database.programs`"), "{error}");
    let output = Command::new(env!("CARGO_BIN_EXE_regreen"))
        .args(["migrate"])
        .env_clear()
        .env("REGREEN_POSTGRES_PROGRAMS", "/nowhere")
        .env("REGREEN_DATA_DIR", folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
}
