//! The private PostgreSQL's disk is full, and the server itself dies: what is said, and that it goes on by itself.

use crate::support::chaos::{accepted, failed, recovered};
use crate::support::postgres::{is_root, open_folder, signal_to};
use crate::support::replica::Replica;
use crate::support::{Setup, eventually};
use regreen::db::private::PrivatePostgres;
use serde_json::json;
use sqlx::PgPool;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A small file system that is gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, with the reason printed, where nothing can be mounted.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"])
            .arg(at)
            .output();
        let mounted = mounted.unwrap();
        if mounted.status.success() {
            return Some(Self(at.to_owned()));
        }
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        assert!(!is_root() || why.contains("permission") || why.contains("not permitted"), "{why}");
        println!("SKIPPED: this machine mounts no file system for a test: {why}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.0).status();
    }
}

fn on_private(setup: &Setup, data: &Path) -> Replica {
    Replica::start(setup, "serve", &[("DATABASE_URL", ""), ("REGREEN_DATA_DIR", data.to_str().unwrap())])
}

/// A pool on the private server of a data folder.
async fn pool(data: &Path) -> PgPool {
    let guest = PrivatePostgres::start(data, None).await.unwrap();
    assert!(!guest.is_owner());
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .connect_with(guest.connect_options())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_reports_in_words_and_goes_on_when_there_is_room() {
    let folder = open_folder();
    let data = folder.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data, "320m") else { return };
    let setup = Setup::whole().await;
    let replica = on_private(&setup, &data).ready().await;
    let first = accepted(&replica, &failed("dns"), "first").await;
    let pool = pool(&data).await;
    recovered(&setup, &pool, &[first], ("nothing yet", Instant::now())).await;
    let filler = data.join("filler");
    // It copies until nothing more fits.
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", filler.display()))
        .output()
        .unwrap();
    assert!(!filled.status.success(), "the disk is full");
    let large = "error: it is full\n".repeat(400_000);
    let mut refused = 0;
    for number in 0..6 {
        let body =
            json!({"namespace": "ci", "pod_name": format!("p{number}"), "log": format!("{number} {large}")});
        let answer = replica.report(&body, &format!("full-{number}")).await.expect("an answer");
        assert!(matches!(answer.status, 202 | 503), "{:?}", answer.body);
        if answer.status == 503 {
            assert!(answer.body["detail"].as_str().unwrap().contains("database"), "{:?}", answer.body);
            refused += 1;
        }
    }
    assert!(refused > 0, "six logs of 7 MB did not fit");
    std::fs::remove_file(&filler).unwrap();
    let room = Instant::now();
    let last = accepted(&replica, &failed("oom"), "last").await;
    let pool = eventually("the server answers", async || {
        let asked: Result<i64, _> = sqlx::query_scalar("select count(*) from reports").fetch_one(&pool).await;
        asked.ok().map(|_| pool.clone())
    })
    .await;
    recovered(&setup, &pool, &[first, last], ("the disk was full", room)).await;
    let (status, log) = replica.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_that_dies_is_started_again() {
    let folder = open_folder();
    let setup = Setup::whole().await;
    let replica = on_private(&setup, folder.path()).ready().await;
    let first = accepted(&replica, &failed("dns"), "first").await;
    let pid = folder.path().join("postgres/cluster/postmaster.pid");
    let server: u32 = std::fs::read_to_string(&pid).unwrap().lines().next().unwrap().parse().unwrap();
    let died = Instant::now();
    signal_to(server, "-KILL");
    let second = accepted(&replica, &failed("oom"), "second").await;
    let pool = eventually("the server answers", async || {
        let guest = PrivatePostgres::start(folder.path(), None).await.ok()?;
        let options = guest.connect_options();
        sqlx::postgres::PgPoolOptions::new().max_connections(2).connect_with(options).await.ok()
    })
    .await;
    recovered(&setup, &pool, &[first, second], ("the private server was killed", died)).await;
    assert!(replica.log().contains("the private PostgreSQL has ended; starting it again"));
    assert!(pid.metadata().unwrap().size() > 0);
    let (status, log) = replica.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
