//! Many chunks: how quick ingest, index and search are, and how much the index finds of what an exact search finds.

use async_trait::async_trait;
use regreen::db::documents::Realm;
use regreen::db::embeddings::{self, Narrow};
use regreen::knowledge::embed::{EmbedError, Embedder};
use regreen::knowledge::read::{Document, Layout};
use regreen::knowledge::{Corpus, Knowledge, Query};
use sqlx::PgPool;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Numbers of a vector.
const DIMENSIONS: usize = 384;
/// Sections of a generated document; each becomes a chunk.
const SECTIONS: usize = 5;
/// Queries that are timed, and those compared with an exact search.
const TIMED: usize = 300;
const COMPARED: usize = 100;
/// Sentences that tell how far rewording moves one.
const SAMPLE: usize = 200;

/// A sentence of a generated text: one of the runbooks', reworded.
#[derive(Clone, Copy)]
struct Reworded {
    of: usize,
    seed: u64,
}

/// Sentences of the built-in runbooks with the model's vectors, and what was made of them. The model itself would take hours
/// for a hundred thousand chunks: the vector of a text is the mean of its sentences', each moved as far towards another
/// sentence as the model moves a sentence whose words are exchanged.
struct Sentences {
    texts: Vec<String>,
    /// The sentences of each runbook.
    runbooks: Vec<Range<usize>>,
    vectors: Vec<Vec<f32>>,
    moved: f32,
    made: Mutex<HashMap<String, Reworded>>,
}

impl Sentences {
    async fn new(model: &str) -> Self {
        let http = regreen::app::http_client().unwrap();
        let embedder =
            regreen::knowledge::embed::configured(&super::config(Some(model)), &http, None).unwrap();
        let (mut texts, mut runbooks) = (Vec::new(), Vec::new());
        for document in &Corpus::built_in().documents {
            let from = texts.len();
            let plain = document.body.replace(['#', '`', '|'], "");
            let sentences = plain.split(['\n', '.', ';']).map(str::trim);
            texts.extend(sentences.filter(|text| text.split(' ').count() > 4).map(str::to_owned));
            runbooks.push(from..texts.len());
        }
        let vectors = embedder.passages(&texts).await.unwrap();
        let mut sentences = Self { texts, runbooks, vectors, moved: 0.0, made: Mutex::default() };
        let mut random = fastrand::Rng::with_seed(3);
        let sample: Vec<usize> = (0..SAMPLE).map(|_| random.usize(..sentences.texts.len())).collect();
        let words = sentences.words();
        let reworded: Vec<String> =
            sample.iter().map(|of| reworded(&mut random, &sentences.texts[*of], &words)).collect();
        let after = embedder.passages(&reworded).await.unwrap();
        let cosines = sample
            .iter()
            .zip(&after)
            .map(|(of, after)| sentences.vectors[*of].iter().zip(after).map(|(a, b)| a * b).sum::<f32>());
        let cosine = cosines.sum::<f32>() / f32::from(u8::try_from(SAMPLE).unwrap());
        println!(
            "{} sentences; a reworded one has a cosine of {cosine:.3} with itself",
            sentences.texts.len()
        );
        sentences.moved = (cosine.powi(-2) - 1.0).sqrt();
        sentences
    }

    fn words(&self) -> Vec<String> {
        let words = self.texts.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
        words.filter(|word| word.len() > 1).map(str::to_owned).collect()
    }

    /// A sentence in other words, remembered.
    fn reworded(&self, random: &mut fastrand::Rng, of: usize, words: &[String]) -> String {
        let text = reworded(random, &self.texts[of], words);
        self.made.lock().unwrap().insert(text.clone(), Reworded { of, seed: random.u64(..) });
        text
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let made = self.made.lock().unwrap();
        let mut sum = vec![0.0; DIMENSIONS];
        for Reworded { of, seed } in text.split(['\n', '.']).filter_map(|part| made.get(part.trim())) {
            let towards = fastrand::Rng::with_seed(*seed).usize(..self.vectors.len());
            let both = self.vectors[*of].iter().zip(&self.vectors[towards]);
            sum.iter_mut().zip(both).for_each(|(sum, (own, other))| *sum += own + self.moved * other);
        }
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        // Texts of no known sentence, such as those that tell how near chance comes, lie nowhere near.
        sum.iter_mut().for_each(|value| *value /= length.max(1e-6));
        sum
    }
}

#[async_trait]
impl Embedder for Sentences {
    fn provider(&self) -> &'static str {
        "bench"
    }

    fn model(&self) -> &str {
        "sentences"
    }

    fn batch(&self) -> usize {
        1_000
    }

    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| self.vector(text)).collect())
    }

    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.passages(texts).await
    }
}

/// Some words exchanged: a team writes about the same subjects in its own words.
fn reworded(random: &mut fastrand::Rng, text: &str, words: &[String]) -> String {
    let mut told = String::new();
    for word in text.split_whitespace() {
        let _ = match random.u8(..) {
            0..12 => write!(told, "svc-{} ", random.u16(..)),
            12..70 => write!(told, "{} ", words[random.usize(..words.len())]),
            _ => write!(told, "{word} "),
        };
    }
    told.trim_end().to_owned()
}

fn documents(sentences: &Sentences, count: usize) -> Vec<Document> {
    let mut random = fastrand::Rng::with_seed(7);
    let words = sentences.words();
    let built_in = &Corpus::built_in().documents;
    let document = |number: usize| {
        let (subject, other) = (number % built_in.len(), random.usize(..built_in.len()));
        let title = reworded(&mut random, &built_in[subject].title, &words);
        let mut body = String::new();
        for section in ["Symptoms", "Confirm", "Causes", "Fix", "Prevention"] {
            let _ = writeln!(body, "## {section}");
            for subject in [subject, subject, subject, other] {
                let of = random.usize(sentences.runbooks[subject].clone());
                let _ = writeln!(body, "{}.", sentences.reworded(&mut random, of, &words));
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

pub async fn measure(chunks: usize, model: &str) {
    let config = super::config(None);
    let sentences = Arc::new(Sentences::new(model).await);
    let connected = regreen::app::connect(&config).await.unwrap();
    let pool = connected.pool;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let http = regreen::app::http_client().unwrap();
    let knowledge = Knowledge::with_embedder(&config, pool.clone(), http, sentences.clone()).unwrap();
    let documents = documents(&sentences, chunks / SECTIONS);
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
    let queries = queries(&sentences);
    compare(&pool, &sentences, &queries).await;
    time(&knowledge, &queries, None, "search").await;
    time(&knowledge, &queries, Some("alert"), "search of one kind in ten").await;
}

/// What somebody would ask: a sentence in other words, or three, as of a log.
fn queries(sentences: &Sentences) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(11);
    let words = sentences.words();
    let query = |number: usize| {
        let runbook = sentences.runbooks[random.usize(..sentences.runbooks.len())].clone();
        let parts = (0..if number.is_multiple_of(2) { 1 } else { 3 }).map(|_| {
            let of = random.usize(runbook.clone());
            sentences.reworded(&mut random, of, &words)
        });
        parts.collect::<Vec<_>>().join("\n")
    };
    (0..TIMED).map(query).collect()
}

/// What the index finds of the 10 and 50 nearest.
#[expect(clippy::cast_precision_loss, reason = "shares")]
async fn compare(pool: &PgPool, sentences: &Sentences, queries: &[String]) {
    let space = embeddings::space(pool, "bench", "sentences").await.unwrap().unwrap();
    let narrow = Narrow { realm: Realm::Runbook, kind: None, applies_to: None };
    // Closed afterwards: its plans must not serve what is timed.
    let mut without_index = pool.acquire().await.unwrap();
    sqlx::raw_sql("set enable_indexscan = off").execute(&mut *without_index).await.unwrap();
    let mut found = [0_usize; 2];
    for query in &queries[..COMPARED] {
        let vector = sentences.vector(query).into();
        let by_index = embeddings::nearest(pool, &space, &vector, narrow, 50).await.unwrap();
        let exact = embeddings::nearest(&mut *without_index, &space, &vector, narrow, 50).await.unwrap();
        for (at, count) in [10, 50].into_iter().enumerate() {
            let wanted: HashSet<i64> = exact[..count].iter().map(|near| near.chunk).collect();
            found[at] += by_index[..count].iter().filter(|near| wanted.contains(&near.chunk)).count();
        }
    }
    without_index.close().await.unwrap();
    println!(
        "the index finds {:.4} of the 10 nearest and {:.4} of the 50 nearest",
        found[0] as f64 / (COMPARED * 10) as f64,
        found[1] as f64 / (COMPARED * 50) as f64
    );
}

async fn time(knowledge: &Knowledge, queries: &[String], kind: Option<&str>, what: &str) {
    let mut times = Vec::new();
    for text in queries.iter().chain(queries) {
        let query =
            Query { text, realms: &[Realm::Runbook], kind, applies_to: None, limit: 10, namespaces: None };
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
