//! Many chunks: how quick ingest, index and search are, and how much the index finds of what an exact search finds.

use async_trait::async_trait;
use regreen::db::documents::Realm;
use regreen::db::embeddings::{self, Narrow};
use regreen::knowledge::embed::{EmbedError, Embedder, Lexical};
use regreen::knowledge::read::{Document, Layout};
use regreen::knowledge::{Corpus, Knowledge, Query};
use sqlx::PgPool;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of a vector.
const DIMENSIONS: usize = 384;
/// Sections of a generated document; each becomes a chunk.
const SECTIONS: usize = 5;
/// Queries that are timed, and those compared with an exact search.
const TIMED: usize = 300;
const COMPARED: usize = 100;

/// The built-in vectors, folded to the usual length of a sentence model's.
struct Folded;

#[async_trait]
impl Embedder for Folded {
    fn provider(&self) -> &'static str {
        "bench"
    }

    fn model(&self) -> &str {
        "folded"
    }

    fn batch(&self) -> usize {
        1_000
    }

    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| fold(&Lexical::vector(text))).collect())
    }

    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.passages(texts).await
    }
}

fn fold(vector: &[f32]) -> Vec<f32> {
    let mut folded = vec![0.0_f32; DIMENSIONS];
    for (at, value) in vector.iter().enumerate() {
        folded[at % DIMENSIONS] += value;
    }
    let length = folded.iter().map(|value| value * value).sum::<f32>().sqrt();
    folded.iter_mut().for_each(|value| *value /= length.max(1e-6));
    folded
}

/// Words of a text of the runbooks, some of them exchanged: a team writes about the same subjects in its own words.
fn reworded(random: &mut fastrand::Rng, text: &str, words: &[String]) -> String {
    let mut told = String::new();
    for word in text.split_whitespace() {
        match random.u8(..) {
            0..12 => {
                let _ = write!(told, "svc-{} ", random.u16(..));
            }
            12..70 => {
                let _ = write!(told, "{} ", words[random.usize(..words.len())]);
            }
            _ => {
                let _ = write!(told, "{word} ");
            }
        }
    }
    told.trim_end().to_owned()
}

fn documents(count: usize) -> Vec<Document> {
    let mut random = fastrand::Rng::with_seed(7);
    let built_in = &Corpus::built_in().documents;
    let sentences: Vec<Vec<&str>> = built_in
        .iter()
        .map(|document| {
            document.body.split(['\n', '.', ';']).filter(|text| text.split(' ').count() > 4).collect()
        })
        .collect();
    let words: Vec<String> = sentences
        .iter()
        .flatten()
        .flat_map(|sentence| sentence.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.len() > 1)
        .map(str::to_owned)
        .collect();
    let document = |number: usize| {
        let (subject, other) = (number % built_in.len(), random.usize(..built_in.len()));
        let title = reworded(&mut random, &built_in[subject].title, &words);
        let mut body = String::new();
        for section in ["Symptoms", "Confirm", "Causes", "Fix", "Prevention"] {
            let _ = writeln!(body, "## {section}");
            for subject in [subject, subject, subject, other] {
                let of = &sentences[subject];
                let sentence = of[random.usize(..of.len())];
                let sentence = reworded(&mut random, sentence, &words);
                let _ = write!(body, "{}. ", sentence.replace(['#', '`', '|'], ""));
            }
            body.push_str("\n\n");
        }
        Document {
            path: format!("team/{number}.md"),
            title,
            kind: if number.is_multiple_of(10) { "alert" } else { "runbook" }.to_owned(),
            applies_to: vec![["kubernetes", "tekton", "jenkins", "maven"][number % 4].to_owned()],
            class: Some("code"),
            signatures: Vec::new(),
            body,
            layout: Layout::Markdown,
        }
    };
    (0..count).map(document).collect()
}

#[expect(clippy::cast_precision_loss, reason = "rates")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

pub async fn measure(chunks: usize) {
    let config = super::config(None);
    let connected = regreen::app::connect(&config).await.unwrap();
    let pool = connected.pool;
    regreen::db::migrate(&pool).await.unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::with_embedder(&config, pool.clone(), http, Arc::new(Folded)).unwrap();
    let documents = documents(chunks / SECTIONS);
    let corpus = Corpus { source: "bench".to_owned(), whole: true, documents, rejected: Vec::new() };
    let begun = Instant::now();
    knowledge.ingest(&corpus, Arc::new(|_: &str| {})).await.unwrap();
    let ingesting = begun.elapsed();
    let begun = Instant::now();
    let mut embedded = Duration::ZERO;
    let done = knowledge
        .catch_up(&mut |done, all| {
            if done == all {
                embedded = begun.elapsed();
            }
        })
        .await
        .unwrap();
    let done = usize::try_from(done).unwrap();
    println!("{done} chunks of {} documents", corpus.documents.len());
    println!("cutting and storing {:.0} s, {:.0} chunks/s", ingesting.as_secs_f64(), rate(done, ingesting));
    println!(
        "counting words, embedding and storing vectors {:.0} s, {:.0} chunks/s",
        embedded.as_secs_f64(),
        rate(done, embedded)
    );
    println!("building the index {:.0} s", (begun.elapsed() - embedded).as_secs_f64());
    for (what, sql) in [
        (
            "index of vectors",
            "select pg_size_pretty(sum(pg_relation_size(indexrelid))) from pg_index where indexrelid::regclass::text like 'embeddings\\__\\_%'",
        ),
        ("table of vectors", "select pg_size_pretty(pg_table_size('embeddings'))"),
        ("index of words", "select pg_size_pretty(pg_relation_size('chunks_search_runbook'))"),
    ] {
        let size: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        println!("{what} {size}");
    }
    let queries = queries(&corpus);
    compare(&pool, &queries).await;
    time(&knowledge, &queries, None, "search").await;
    time(&knowledge, &queries, Some("alert"), "search of one kind in ten").await;
}

/// Parts of documents as somebody would ask for them: few words, or whole lines.
fn queries(corpus: &Corpus) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(11);
    (0..TIMED)
        .map(|number| {
            let document = &corpus.documents[random.usize(..corpus.documents.len())];
            let words: Vec<&str> = document.body.split_whitespace().collect();
            let length = if number % 2 == 0 { 6 } else { 40 };
            let from = random.usize(..words.len() - length);
            let words: Vec<&str> =
                words[from..from + length].iter().filter(|_| random.u8(..) > 50).copied().collect();
            words.join(" ")
        })
        .collect()
}

/// What the index finds of the 10 and 50 nearest.
#[expect(clippy::cast_precision_loss, reason = "shares")]
async fn compare(pool: &PgPool, queries: &[String]) {
    let space = embeddings::space(pool, "bench", "folded").await.unwrap().unwrap();
    let narrow = Narrow { realm: Realm::Runbook, kind: None, applies_to: None };
    let mut found = [0_usize; 2];
    for query in &queries[..COMPARED] {
        let vector = fold(&Lexical::vector(query)).into();
        let by_index = embeddings::nearest(pool, &space, &vector, narrow, 50).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        sqlx::raw_sql("set enable_indexscan = off").execute(&mut *connection).await.unwrap();
        let exact = embeddings::nearest(&mut *connection, &space, &vector, narrow, 50).await.unwrap();
        sqlx::raw_sql("reset enable_indexscan").execute(&mut *connection).await.unwrap();
        for (at, count) in [10, 50].into_iter().enumerate() {
            let wanted: HashSet<i64> = exact[..count].iter().map(|near| near.chunk).collect();
            found[at] += by_index[..count].iter().filter(|near| wanted.contains(&near.chunk)).count();
        }
    }
    println!(
        "the index finds {:.4} of the 10 nearest and {:.4} of the 50 nearest",
        found[0] as f64 / (COMPARED * 10) as f64,
        found[1] as f64 / (COMPARED * 50) as f64
    );
}

async fn time(knowledge: &Knowledge, queries: &[String], kind: Option<&str>, what: &str) {
    let mut times = Vec::new();
    for text in queries.iter().chain(queries) {
        let query = Query { text, realms: &[Realm::Runbook], kind, applies_to: None, limit: 10 };
        let begun = Instant::now();
        let found = knowledge.search(&query).await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(found.without_vectors, None, "{text}");
    }
    // The first round warms.
    let mut times = times.split_off(queries.len());
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", at(50), at(95), at(99));
}
