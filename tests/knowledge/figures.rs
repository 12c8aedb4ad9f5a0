//! Figures of the search: `retrieval DIR` over labelled queries, `scale CHUNKS` over generated chunks. Needs DATABASE_URL of
//! an empty database; `make bench-knowledge` gives it one. REGREEN_BENCH_MODEL names a sentence-transformers folder.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench fails by panicking")]

mod retrieval;
mod scale;

use regreen::config::{Config, process_env};
use regreen::knowledge::{Corpus, Knowledge};
use sqlx::PgPool;
use std::sync::Arc;

/// Names the folder of a sentence-transformers model.
const MODEL: &str = "REGREEN_BENCH_MODEL";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["retrieval", folder] => Box::pin(retrieval::measure(folder)).await,
        ["retrieval", folder, "misses"] => Box::pin(retrieval::misses(folder)).await,
        ["scale", chunks] => {
            Box::pin(scale::measure(chunks.parse().unwrap(), &process_env(MODEL).expect(MODEL))).await;
        }
        _ => panic!("usage: knowledge_figures retrieval DIR [misses] | scale CHUNKS"),
    }
}

/// The configuration with an embedder.
fn config(model: Option<&str>) -> Config {
    let env = |name: &str| match (name, model) {
        ("REGREEN_EMBEDDER", Some(_)) => Some("local".to_owned()),
        ("REGREEN_EMBEDDING_FOLDER", Some(folder)) => Some(folder.to_owned()),
        ("DATABASE_URL", _) => process_env("DATABASE_URL"),
        _ => None,
    };
    Config::from_layers(&toml::Table::new(), &env).unwrap()
}

async fn knowledge(model: Option<&str>) -> (PgPool, Knowledge) {
    let config = config(model);
    let connected = regreen::app::connect(&config).await.unwrap();
    regreen::db::migrations::Migrations::default().run(&connected.pool).await.unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::new(&config, connected.pool.clone(), http).unwrap();
    knowledge.ingest(Corpus::built_in(), Arc::new(|_: &str| {})).await.unwrap();
    knowledge.catch_up(&mut |_, _| {}).await.unwrap();
    knowledge.reload().await.unwrap();
    (connected.pool, knowledge)
}
