//! Test databases: empty ones, and copies of a template with the initial data of a service.

use super::pool;
use regreen::config::{Config, process_env};
use regreen::db::audit;
use regreen::db::migrations::Migrations;
use regreen::knowledge::{Corpus, Knowledge};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Returns the URL of the test server's maintenance database.
pub fn server_url() -> String {
    process_env("DATABASE_URL").expect("run the tests with `make test`, or under `.ci/with-postgres`")
}

/// Creates an empty database.
pub async fn fresh_database() -> String {
    let mut server = server().await;
    create(&mut server, "").await
}

/// Creates a database with the schema, the built-in runbooks and their embeddings.
pub async fn ready_database() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(template).await;
    let mut server = server().await;
    // The default strategy also writes every page to the WAL.
    create(&mut server, &format!("template {template} strategy file_copy")).await
}

async fn server() -> PgConnection {
    let options: PgConnectOptions = server_url().parse().unwrap();
    options.connect().await.unwrap()
}

async fn execute(server: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(server).await.unwrap();
}

async fn create(server: &mut PgConnection, like: &str) -> String {
    let name = format!("t{}", Uuid::new_v4().simple());
    execute(server, format!("create database {name} {like}")).await;
    let url = server_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// Returns the name of the template database, created by the first process of this build that needs it.
async fn template() -> String {
    let name = name_of_template();
    let mut server = server().await;
    // Held until this connection closes.
    sqlx::query("select pg_advisory_lock(hashtext($1))").bind(&name).execute(&mut server).await.unwrap();
    let made: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .unwrap();
    if !made {
        let url = create(&mut server, "").await;
        fill(&url).await;
        let (_, filled) = url.rsplit_once('/').unwrap();
        // Copying requires that nobody is connected. The rename at the end ensures that the template is complete.
        execute(&mut server, format!("alter database {filled} allow_connections false")).await;
        execute(&mut server, format!("alter database {filled} rename to {name}")).await;
    }
    name
}

/// Returns a name unique to this build, because migrations, runbooks and the code that stores them are compiled in.
fn name_of_template() -> String {
    let program = std::env::current_exe().unwrap().metadata().unwrap();
    let built = program.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    format!("template_{:x}_{:x}", program.len(), built.as_nanos())
}

/// Initialises a database like a start without settings, including background work.
async fn fill(url: &str) {
    let pool = pool(url).await;
    Migrations::default().run(&pool).await.unwrap();
    audit::add_months(&pool, regreen::clock::now()).await.unwrap();
    let config = Config::from_layers(&toml::Table::new(), &|_| None).unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::new(&config, pool.clone(), http).unwrap();
    knowledge.ingest(Corpus::built_in(), Arc::new(|_: &str| {})).await.unwrap();
    knowledge.catch_up(&mut |_, _| {}).await.unwrap();
    // Removes jobs of the ingest, whose work is done.
    for statement in ["delete from graphile_worker._private_jobs", "vacuum (freeze, analyze)"] {
        sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
}
