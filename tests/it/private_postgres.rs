//! The private PostgreSQL: second starts, crashes, and a clear word when it is missing.

use crate::support::{Setup, eventually};
use regreen::db::private::PrivatePostgres;
use sqlx::ConnectOptions as _;
use std::path::Path;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_the_first_start_leaves_nothing_half_made() {
    let folder = folder();
    std::fs::create_dir_all(folder.path().join("postgres/cluster.new/base")).unwrap();
    let server = PrivatePostgres::start(folder.path(), None).await.unwrap();
    assert!(answers(&server).await);
    server.stop().await.unwrap();
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
