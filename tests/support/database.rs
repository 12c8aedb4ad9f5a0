//! Databases for tests: empty ones, and copies of one that a service has been started on before.

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

/// URL of the test server's maintenance database.
pub fn server_url() -> String {
    process_env("DATABASE_URL").expect("run the tests with `make test`, or under `.ci/with-postgres`")
}

/// A new database of that server, with nothing in it.
pub async fn fresh_database() -> String {
    let mut server = server().await;
    create(&mut server, "").await
}

/// A new database of that server with the schema, the built-in runbooks and their vectors.
pub async fn ready_database() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(template).await;
    let mut server = server().await;
    // The other strategy writes every page into the log too.
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

/// The database that others are copies of, made by the first of all processes of this build that asks.
async fn template() -> String {
    let name = name_of_template();
    let mut server = server().await;
    // Until this connection ends.
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
        // A copy is made only of what nobody is connected to, and half of one gets no such name.
        execute(&mut server, format!("alter database {filled} allow_connections false")).await;
        execute(&mut server, format!("alter database {filled} rename to {name}")).await;
    }
    name
}

/// Names this build: the migrations, the runbooks, and what stores them are parts of the program.
fn name_of_template() -> String {
    let program = std::env::current_exe().unwrap().metadata().unwrap();
    let built = program.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    format!("template_{:x}_{:x}", program.len(), built.as_nanos())
}

/// As a start with no settings does, up to the end of the background's work.
async fn fill(url: &str) {
    let pool = pool(url).await;
    Migrations::default().run(&pool).await.unwrap();
    audit::add_months(&pool, regreen::clock::now()).await.unwrap();
    let config = Config::from_layers(&toml::Table::new(), &|_| None).unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::new(&config, pool.clone(), http).unwrap();
    knowledge.ingest(Corpus::built_in(), Arc::new(|_: &str| {})).await.unwrap();
    knowledge.catch_up(&mut |_, _| {}).await.unwrap();
    // What the ingest left to be done is done.
    for statement in ["delete from graphile_worker._private_jobs", "vacuum (freeze, analyze)"] {
        sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
}
