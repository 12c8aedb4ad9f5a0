//! A new major version of the private PostgreSQL: data of an older one, moved by the very commands of the documentation.

use crate::support::chaos::{accepted, failed, recovered};
use crate::support::postgres::open_folder;
use crate::support::replica::Replica;
use crate::support::{Setup, postgres};
use regreen::db::private::PrivatePostgres;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The heading of the section, and what its variables are set to there.
const SECTION: &str = "## A new major version of the private PostgreSQL";
const VARIABLES: [&str; 3] = ["data=", "old=", "new="];

/// PostgreSQL 16 with pgvector, which comes with the package of 18.
fn older() -> PathBuf {
    let package = postgres::programs().ancestors().nth(2).unwrap().to_owned();
    package.join("pginstall/bin")
}

/// The commands of the documentation, for these folders.
fn documented(data: &Path, old: &Path, new: &Path) -> String {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    let section = page.split_once(SECTION).unwrap().1;
    let block = section.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0;
    let (variables, commands): (Vec<&str>, Vec<&str>) =
        block.lines().partition(|line| VARIABLES.iter().any(|name| line.starts_with(name)));
    assert_eq!(variables.len(), VARIABLES.len(), "each is set in a line of its own: {variables:?}");
    let (data, old, new) = (data.display(), old.display(), new.display());
    format!("set -eu\ndata='{data}'\nold='{old}'\nnew='{new}'\n{}", commands.join("\n"))
}

async fn pool(server: &PrivatePostgres) -> PgPool {
    PgPoolOptions::new().max_connections(1).connect_with(server.connect_options()).await.unwrap()
}

/// Every table with its number of rows and a hash of them, but for what each version makes of the words by itself.
async fn content(pool: &PgPool) -> Vec<(String, i64, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema') and tablename not in ('lexemes', 'lexeme_totals') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut content = Vec::new();
    for table in tables {
        let sql = format!(
            "select count(*), coalesce(md5(string_agg(t.line, E'\\n' order by t.line collate \"C\")), '')
             from (select (to_jsonb(t) - 'search')::text as line from {table} t) t"
        );
        let (rows, hash) = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
        content.push((table, rows, hash));
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_an_older_major_version_is_moved_as_the_documentation_says() {
    let (folder, old) = (open_folder(), older());
    let setup = Setup::whole().await;
    let env = [
        ("DATABASE_URL", ""),
        ("REGREEN_DATA_DIR", folder.path().to_str().unwrap()),
        ("REGREEN_POSTGRES_PROGRAMS", old.to_str().unwrap()),
    ];
    // Regreen works on the older one.
    let replica = Replica::start(&setup, "serve", &env).ready().await;
    let reports = [
        accepted(&replica, &failed("dns"), "first").await,
        accepted(&replica, &failed("oom"), "second").await,
    ];
    let guest = PrivatePostgres::start(folder.path(), Some(&old)).await.unwrap();
    recovered(&setup, &pool(&guest).await, &reports, ("nothing yet", Instant::now())).await;
    drop(guest);
    let (status, log) = replica.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");

    let server = PrivatePostgres::start(folder.path(), Some(&old)).await.unwrap();
    let before = content(&pool(&server).await).await;
    server.stop().await.unwrap();
    let rows = |table: &str| before.iter().find(|(name, ..)| name == table).map_or(0, |(_, rows, _)| *rows);
    assert!(
        rows("public.reports") == 2 && rows("public.incidents") == 2 && rows("public.audit") > 0,
        "{before:?}"
    );

    // The newer one says what to do, and changes nothing.
    let refused = PrivatePostgres::start(folder.path(), None).await.err().unwrap().to_string();
    assert!(refused.contains("was made by PostgreSQL 16") && refused.contains(&SECTION[3..]), "{refused}");

    let script = documented(&folder.path().join("postgres"), &old, &postgres::programs());
    let output = tokio::task::spawn_blocking(move || Command::new("sh").arg("-c").arg(script).output()).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let server = PrivatePostgres::start(folder.path(), None).await.unwrap();
    let pool = pool(&server).await;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(version / 10_000 > 16, "{version}");
    assert_eq!(content(&pool).await, before, "every row of every table is there");
    pool.close().await;
    server.stop().await.unwrap();

    // And Regreen goes on with it: what it knew is known, and what it learns is kept.
    let replica = Replica::start(&setup, "serve", &env[..2]).ready().await;
    let again = accepted(&replica, &failed("dns"), "third").await;
    let guest = PrivatePostgres::start(folder.path(), None).await.unwrap();
    recovered(&setup, &self::pool(&guest).await, &[again], ("the data was moved", Instant::now())).await;
    let seen = replica.get("/api/incidents").await.unwrap();
    assert_eq!(seen.body["incidents"].as_array().map(Vec::len), Some(2), "a known cause: {}", seen.body);
    let (status, log) = replica.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
