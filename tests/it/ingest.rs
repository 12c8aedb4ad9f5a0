//! Documents into the database: twice, changed, gone, at once, and interrupted.

use crate::support::{eventually, fresh_database, pool};
use regreen::config::Config;
use regreen::knowledge::{Corpus, Knowledge};
use sqlx::{PgPool, Row as _};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

async fn knowledge(url: &str) -> (PgPool, Knowledge) {
    let pool = pool(url).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let config = Config::from_layers(&toml::Table::new(), &|_| None).unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::new(&config, pool.clone(), http).unwrap();
    (pool, knowledge)
}

async fn ingest(knowledge: &Knowledge, folder: &Path) -> (usize, usize, u64) {
    let corpus = Corpus::of_path(folder).unwrap();
    let done = knowledge.ingest(&corpus, Arc::new(|_: &str| {})).await.unwrap();
    (done.stored, done.unchanged, done.removed)
}

/// Paths with titles, and the number of chunks without a document.
async fn stored(pool: &PgPool) -> Vec<(String, String)> {
    let rows = sqlx::query("select path, title from documents where source <> 'built-in' order by path");
    let rows = rows.fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (row.get("path"), row.get("title"))).collect()
}

fn pair(path: &str, title: &str) -> (String, String) {
    (path.to_owned(), title.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn known_failures_are_recognised_before_the_runbooks_are_stored() {
    let (_, knowledge) = knowledge(&fresh_database().await).await;
    let at_start = knowledge.signatures().signatures().to_vec();
    assert!(at_start.len() > 100);
    // An incident that is stored early makes every replica take up the signatures anew.
    knowledge.reload().await.unwrap();
    assert_eq!(knowledge.signatures().signatures(), at_start);
    let folder = tempfile::tempdir().unwrap();
    let own = "---\ntitle: Ours\nkind: runbook\nclass: test\nsignatures:\n  - {id: ours, pattern: ours broke, \
               title: Ours broke, cause: It broke., next_steps: [Mend it.], priority: 60}\n---\n# Ours\n\nText.\n";
    fs::write(folder.path().join("ours.md"), own).unwrap();
    assert_eq!(ingest(&knowledge, folder.path()).await, (1, 0, 0));
    knowledge.reload().await.unwrap();
    assert_eq!(knowledge.signatures().signatures().len(), at_start.len() + 1);
    assert_eq!(knowledge.ingest(Corpus::built_in(), Arc::new(|_: &str| {})).await.unwrap().removed, 0);
    knowledge.reload().await.unwrap();
    assert_eq!(knowledge.signatures().signatures().len(), at_start.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_stored_and_what_is_gone_is_removed() {
    let (pool, knowledge) = knowledge(&fresh_database().await).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.md"), "# First\n\nOne.").unwrap();
    fs::write(at("b.txt"), "Second").unwrap();
    assert_eq!(ingest(&knowledge, folder.path()).await, (2, 0, 0));
    assert_eq!(knowledge.catch_up(&mut |_, _| {}).await.unwrap(), 2);
    assert_eq!(ingest(&knowledge, folder.path()).await, (0, 2, 0));
    assert_eq!(knowledge.catch_up(&mut |_, _| {}).await.unwrap(), 0, "nothing is embedded twice");
    fs::write(at("a.md"), "# Edited\n\nOne.").unwrap();
    fs::rename(at("b.txt"), at("c.txt")).unwrap();
    assert_eq!(ingest(&knowledge, folder.path()).await, (2, 0, 1));
    assert_eq!(stored(&pool).await, [pair("a.md", "Edited"), pair("c.txt", "c")]);
    // A file that is bad for now keeps what was stored of it.
    fs::write(at("a.md"), b"\xff\xfe").unwrap();
    assert_eq!(ingest(&knowledge, folder.path()).await, (0, 1, 0));
    assert_eq!(stored(&pool).await.len(), 2);
    let leftover =
        sqlx::query("select count(*) as n from embeddings where chunk_id not in (select id from chunks)");
    assert_eq!(leftover.fetch_one(&pool).await.unwrap().get::<i64, _>("n"), 0);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("z.md"), "# Other\n\nText.").unwrap();
    assert_eq!(ingest(&knowledge, other.path()).await, (1, 0, 0), "another folder's documents stay");
    assert_eq!(stored(&pool).await.len(), 3);
    let gone = knowledge.ingest(&Corpus::gone(other.path()), Arc::new(|_: &str| {})).await.unwrap();
    assert_eq!(gone.removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingests_at_once_leave_the_whole_of_one() {
    let url = fresh_database().await;
    let (pool, knowledge) = knowledge(&url).await;
    let knowledge = Arc::new(knowledge);
    let versions: Vec<Corpus> = (0..4)
        .map(|version| {
            let folder = tempfile::tempdir().unwrap();
            for file in 0..20 {
                fs::write(
                    folder.path().join(format!("{file}.md")),
                    format!("# Version {version}\n\nText {file}."),
                )
                .unwrap();
            }
            // All of one source.
            Corpus { source: "team".to_owned(), ..Corpus::of_path(folder.path()).unwrap() }
        })
        .collect();
    let mut running = tokio::task::JoinSet::new();
    for corpus in versions {
        let knowledge = Arc::clone(&knowledge);
        running.spawn(async move { knowledge.ingest(&corpus, Arc::new(|_: &str| {})).await.unwrap() });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let titles: Vec<String> = stored(&pool).await.into_iter().map(|(_, title)| title).collect();
    assert_eq!(titles.len(), 20);
    assert!(titles.iter().all(|title| *title == titles[0]), "{titles:?}");
}

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("DATABASE_URL", url);
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_named_and_the_rest_is_stored() {
    let url = fresh_database().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.adoc"), "= Registry\n\n== Fix\nPush again.").unwrap();
    fs::write(folder.path().join("bad.md"), "---\ntitle: x\nclass: nonsense\n---\ntext").unwrap();
    let path = folder.path().to_str().unwrap();
    let output = command(&url, &["ingest", path]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("left out: bad.md: ") && said.contains("nonsense"), "{said}");
    assert_eq!(stored(&pool(&url).await).await, [pair("good.adoc", "Registry")]);
    fs::remove_file(folder.path().join("bad.md")).unwrap();
    let again = command(&url, &["ingest", path]).output().unwrap();
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).starts_with("0 documents stored"), "{}", text(&again));
    let missing = command(&url, &["ingest", "/nowhere"]).output().unwrap();
    assert!(
        !missing.status.success() && text(&missing).contains("cannot read /nowhere"),
        "{}",
        text(&missing)
    );
    let removed = command(&url, &["ingest", "--remove", path]).output().unwrap();
    assert!(text(&removed).contains("1 removed"), "{}", text(&removed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_dies_in_the_middle_leaves_what_was_there() {
    let url = fresh_database().await;
    let (pool, knowledge) = knowledge(&url).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.md", "z.md"] {
        fs::write(folder.path().join(name), "# Old\n\nText.").unwrap();
    }
    let corpus = Corpus::of_path(folder.path()).unwrap();
    for corpus in [Corpus::built_in(), &corpus] {
        knowledge.ingest(corpus, Arc::new(|_: &str| {})).await.unwrap();
    }
    for name in ["a.md", "z.md"] {
        fs::write(folder.path().join(name), "# New\n\nText.").unwrap();
    }
    // The last document is held: the ingest stands still after the first one.
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select id from documents where path = 'z.md' for update")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    let mut child =
        command(&url, &["ingest", folder.path().to_str().unwrap()]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the ingest waits for the held document", async || {
        let waiting = sqlx::query("select from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into documents%' and datname = current_database()");
        waiting.fetch_optional(&pool).await.unwrap()
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    holder.rollback().await.unwrap();
    eventually("the server noticed", async || {
        let others = sqlx::query("select from pg_stat_activity where application_name = 'regreen' and datname = current_database()");
        others.fetch_optional(&pool).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(stored(&pool).await, [pair("a.md", "Old"), pair("z.md", "Old")]);
    let output = command(&url, &["ingest", folder.path().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(stored(&pool).await, [pair("a.md", "New"), pair("z.md", "New")]);
}
