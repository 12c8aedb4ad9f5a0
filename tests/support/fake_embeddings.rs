//! An OpenAI-compatible embeddings endpoint on loopback.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use regreen::knowledge::embed::Lexical;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

#[derive(Default)]
struct Journal {
    dimensions: AtomicUsize,
    /// Error statuses to return first.
    failures: Mutex<VecDeque<u16>>,
    asked: Mutex<Vec<Value>>,
    /// Model whose requests each wait for a permit.
    held: Mutex<Option<String>>,
}

/// The running endpoint.
pub struct FakeEmbeddings {
    pub url: String,
    journal: Arc<Journal>,
    gate: Arc<Semaphore>,
    server: JoinHandle<()>,
}

impl Drop for FakeEmbeddings {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeEmbeddings {
    pub async fn start(dimensions: usize) -> Self {
        let journal = Arc::new(Journal { dimensions: AtomicUsize::new(dimensions), ..Journal::default() });
        let gate = Arc::new(Semaphore::new(0));
        let state = (Arc::clone(&journal), Arc::clone(&gate));
        let router = Router::new().route("/v1/embeddings", post(embeddings)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, journal, gate, server }
    }

    pub fn set_dimensions(&self, dimensions: usize) {
        self.journal.dimensions.store(dimensions, Ordering::SeqCst);
    }

    pub fn fail_with(&self, statuses: &[u16]) {
        self.journal.failures.lock().unwrap().extend(statuses);
    }

    /// Blocks requests for this model until [`Self::release`].
    pub fn hold(&self, model: &str) {
        *self.journal.held.lock().unwrap() = Some(model.to_owned());
    }

    pub fn release(&self) {
        self.gate.add_permits(10_000);
    }

    pub fn asked(&self) -> Vec<Value> {
        self.journal.asked.lock().unwrap().clone()
    }
}

async fn embeddings(
    State((journal, gate)): State<(Arc<Journal>, Arc<Semaphore>)>,
    Json(body): Json<Value>,
) -> Response {
    journal.asked.lock().unwrap().push(body.clone());
    let failure = journal.failures.lock().unwrap().pop_front();
    if let Some(status) = failure {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, Json(json!({"error": {"message": "not now", "code": 1}}))).into_response();
    }
    let held = journal.held.lock().unwrap().clone();
    if held.as_deref() == body["model"].as_str() {
        gate.acquire().await.unwrap().forget();
    }
    let dimensions = journal.dimensions.load(Ordering::SeqCst);
    let data: Vec<Value> = body["input"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let mut vector = vec![0.001_f32; dimensions];
            for (at, value) in Lexical::vector(text.as_str().unwrap()).iter().enumerate() {
                vector[at % dimensions] += value;
            }
            json!({"index": index, "embedding": vector})
        })
        .collect();
    Json(json!({"object": "list", "data": data, "model": body["model"]})).into_response()
}
