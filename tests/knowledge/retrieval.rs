//! Recall and mean reciprocal rank over labelled queries.

use regreen::config::process_env;
use regreen::db::documents::Realm;
use regreen::db::embeddings::{self, Narrow, Space};
use regreen::db::{full_text, search_results};
use regreen::knowledge::embed::{self, Embedder};
use regreen::knowledge::{Knowledge, Query};
use serde::Deserialize;
use sqlx::PgPool;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Deserialize)]
struct Asked {
    query: String,
    kind: String,
    answers: Vec<String>,
}

#[derive(Default)]
struct Figures {
    asked: f64,
    at_1: f64,
    at_5: f64,
    reciprocal: f64,
}

impl Figures {
    fn add(&mut self, asked: &Asked, found: &[String]) {
        let rank = found.iter().position(|path| asked.answers.contains(path));
        self.asked += 1.0;
        self.at_1 += f64::from(u8::from(rank == Some(0)));
        self.at_5 += f64::from(u8::from(rank.is_some_and(|rank| rank < 5)));
        self.reciprocal += rank.map_or(0.0, |rank| 1.0 / f64::from(u32::try_from(rank + 1).unwrap()));
    }

    fn print(&self, half: &str, what: &str) {
        let share = |value: f64| value / self.asked;
        println!(
            "{half:<8} {what:<30} {:>4.0} queries   recall@1 {:.3}   recall@5 {:.3}   MRR {:.3}",
            self.asked,
            share(self.at_1),
            share(self.at_5),
            share(self.reciprocal)
        );
    }
}

fn read(folder: &str, half: &str) -> Vec<Asked> {
    let text = std::fs::read_to_string(format!("{folder}/{half}.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const NARROW: Narrow<'static> = Narrow { realm: Realm::Runbook, kind: None, applies_to: None };

/// Paths of documents in the order of their best chunk.
async fn paths(pool: &PgPool, documents: Vec<Uuid>) -> Vec<String> {
    let mut unique: Vec<Uuid> = Vec::new();
    documents.into_iter().for_each(|id| {
        if !unique.contains(&id) {
            unique.push(id);
        }
    });
    unique.truncate(10);
    let details = search_results::details(pool, &unique, &[]).await.unwrap();
    let path = |id: &Uuid| details.iter().find(|d| d.document_id == *id).unwrap().path.clone();
    unique.iter().map(path).collect()
}

async fn by_words(pool: &PgPool, query: &str) -> Vec<String> {
    let found = full_text::search(pool, query, NARROW, 60).await.unwrap();
    paths(pool, found.chunks.iter().map(|chunk| chunk.document).collect()).await
}

async fn by_vectors(pool: &PgPool, space: &Space, embedder: &dyn Embedder, query: &str) -> Vec<String> {
    let vector = embedder.queries(&[query.to_owned()]).await.unwrap().pop().unwrap();
    if vector.is_empty() {
        return Vec::new();
    }
    let near = embeddings::nearest(pool, space, &vector.into(), NARROW, 60).await.unwrap();
    paths(pool, near.iter().map(|near| near.document).collect()).await
}

async fn hybrid(knowledge: &Knowledge, query: &str) -> Vec<String> {
    let query = Query {
        text: query,
        realms: &[Realm::Runbook],
        kind: None,
        applies_to: None,
        limit: 10,
        namespaces: None,
    };
    let found = knowledge.search(&query).await.unwrap();
    assert_eq!(found.without_vectors, None);
    found.hits.into_iter().map(|hit| hit.path).collect()
}

pub async fn measure(folder: &str) {
    let model = process_env(super::MODEL);
    for model in [None].into_iter().chain(model.as_deref().map(Some)) {
        let (pool, knowledge) = super::knowledge(model).await;
        let config = super::config(model);
        let embedder: Arc<dyn Embedder> =
            embed::configured(&config, &regreen::app::http_client().unwrap(), None).unwrap();
        let space = embeddings::space(&pool, embedder.provider(), embedder.model()).await.unwrap().unwrap();
        let name = if model.is_some() { "local model" } else { "lexical" };
        for half in ["tuning", "unseen"] {
            let all = read(folder, half);
            let mut parts: [Figures; 3] = Default::default();
            let mut kinds: [Figures; 2] = Default::default();
            let (mut off_topic, mut noise) = (0, 0);
            for asked in &all {
                let found = hybrid(&knowledge, &asked.query).await;
                if asked.answers.is_empty() {
                    off_topic += 1;
                    noise += usize::from(!found.is_empty());
                    continue;
                }
                parts[2].add(asked, &found);
                kinds[usize::from(asked.kind == "log")].add(asked, &found);
                parts[0].add(asked, &by_words(&pool, &asked.query).await);
                parts[1].add(asked, &by_vectors(&pool, &space, embedder.as_ref(), &asked.query).await);
            }
            parts[0].print(half, "full text only");
            parts[1].print(half, &format!("{name} vectors only"));
            parts[2].print(half, &format!("hybrid, {name}"));
            kinds[0].print(half, "  of these in words");
            kinds[1].print(half, "  of these lines of logs");
            println!("{half:<8} {noise} of {off_topic} off-topic queries found something");
        }
        pool.close().await;
    }
}

/// What the tuning half misses.
pub async fn misses(folder: &str) {
    let model = process_env(super::MODEL);
    let (_, knowledge) = super::knowledge(model.as_deref()).await;
    for asked in read(folder, "tuning") {
        let found = hybrid(&knowledge, &asked.query).await;
        let hit = found.iter().take(5).any(|path| asked.answers.contains(path));
        if hit != asked.answers.is_empty() && (hit || found.is_empty()) {
            continue;
        }
        let query: String = asked.query.chars().take(300).collect();
        println!(
            "{} {query:?}\n   wanted {:?}\n   found  {:?}",
            asked.kind,
            asked.answers,
            &found[..found.len().min(5)]
        );
    }
}
