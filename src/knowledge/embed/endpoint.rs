//! Embedder for an OpenAI-compatible embeddings endpoint, with batches and retries.

use super::{EmbedError, Embedder, normalise};
use crate::budget::Ledger;
use crate::config::EmbeddingEndpoint;
use crate::evidence::redact::Redactor;
use crate::llm::{EmbeddingClient, ModelError};
use async_trait::async_trait;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// Timeout of a query: a search without vectors is better than one that hangs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of the endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    /// Base URL, with or without a trailing `/v1`.
    pub url: String,
    /// API key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// Name of the model.
    pub model: String,
    /// Number of texts per request.
    pub batch: usize,
    /// Prefix of each query, which some models require.
    pub query_prefix: String,
    /// Prefix of each passage.
    pub passage_prefix: String,
}

impl From<&EmbeddingEndpoint> for EndpointSettings {
    fn from(config: &EmbeddingEndpoint) -> Self {
        Self {
            url: config.url.clone(),
            api_key: config.api_key.clone(),
            model: config.model.clone(),
            batch: config.batch,
            query_prefix: config.query_prefix.clone(),
            passage_prefix: config.passage_prefix.clone(),
        }
    }
}

/// An embeddings endpoint.
pub struct Endpoint {
    settings: EndpointSettings,
    client: EmbeddingClient,
}

impl Endpoint {
    /// Creates the embedder without sending a request.
    #[must_use]
    pub fn new(settings: EndpointSettings, http: reqwest::Client, ledger: Option<Arc<Ledger>>) -> Self {
        let client = EmbeddingClient::new(&settings.url, settings.api_key.as_ref(), &settings.model, http);
        let client = client.noted(ledger);
        Self { settings, client }
    }

    async fn ask(&self, texts: Vec<String>, attempts: u32) -> Result<Vec<Vec<f32>>, EmbedError> {
        let model = &self.settings.model;
        let asked = texts.len();
        let vectors = self.client.embed(texts, attempts).await.map_err(|error| match error {
            ModelError::Unavailable { .. } => {
                EmbedError::Away(format!("the embedding model {model}: {error}"))
            }
            _ => EmbedError::Wrong(format!("the embedding model {model}: {error}")),
        })?;
        if vectors.len() != asked {
            let got = vectors.len();
            return Err(EmbedError::Wrong(format!(
                "the embedding model {model} answered {got} vectors for {asked} texts"
            )));
        }
        Ok(vectors.into_iter().map(normalise).collect())
    }
}

#[async_trait]
impl Embedder for Endpoint {
    fn provider(&self) -> &'static str {
        "endpoint"
    }

    fn model(&self) -> &str {
        &self.settings.model
    }

    fn batch(&self) -> usize {
        self.settings.batch
    }

    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let texts = texts.iter().map(|text| format!("{}{text}", self.settings.passage_prefix));
        self.ask(texts.collect(), 5).await
    }

    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        // A user's query may contain a secret, so it is redacted as for any other model.
        let clean = |text: &String| format!("{}{}", self.settings.query_prefix, Redactor::new().redact(text));
        let asked = self.ask(texts.iter().map(clean).collect(), 1);
        tokio::time::timeout(QUERY_TIMEOUT, asked).await.unwrap_or_else(|_| {
            let model = &self.settings.model;
            let limit = QUERY_TIMEOUT.as_secs();
            Err(EmbedError::Away(format!("the embedding model {model} did not answer in {limit} s")))
        })
    }
}
