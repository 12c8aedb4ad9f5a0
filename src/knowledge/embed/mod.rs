//! Embedders: convert texts to normalised vectors of a fixed length. The configuration selects one of three.

mod endpoint;
mod lexical;
#[cfg(feature = "local-embeddings")]
mod local;

pub use endpoint::{Endpoint, EndpointSettings};
pub use lexical::Lexical;
#[cfg(feature = "local-embeddings")]
pub use local::Local;

use crate::budget::Ledger;
use crate::config::{Config, EmbedderChoice};
use crate::db::embeddings::Space;
use async_trait::async_trait;
use std::sync::Arc;

/// Error of an embedder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// Temporary error.
    #[error("{0}")]
    Away(String),
    /// Permanent error: a retry does not help.
    #[error("{0}")]
    Wrong(String),
}

/// Converts texts to vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// `lexical`, `endpoint` or `local`.
    fn provider(&self) -> &'static str;
    /// Name of the model. Provider and model together identify the vector space.
    fn model(&self) -> &str;
    /// Recommended number of texts per call.
    fn batch(&self) -> usize;
    /// Returns the vectors of passages, in their order, each of length 1. A text without content gives an empty vector.
    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
    /// Returns the vectors of queries, in their order.
    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// Creates the configured embedder. `ledger` records its usage.
///
/// # Errors
/// The local model cannot be loaded, or this build does not support local models.
pub fn configured(
    config: &Config,
    http: &reqwest::Client,
    ledger: Option<Arc<Ledger>>,
) -> anyhow::Result<Arc<dyn Embedder>> {
    Ok(match &config.knowledge.embedder {
        EmbedderChoice::Lexical => Arc::new(Lexical::new()),
        EmbedderChoice::Endpoint(settings) => Arc::new(Endpoint::new(settings.into(), http.clone(), ledger)),
        #[cfg(feature = "local-embeddings")]
        EmbedderChoice::Local(folder) => Arc::new(Local::load(folder)?),
        #[cfg(not(feature = "local-embeddings"))]
        EmbedderChoice::Local(_) => anyhow::bail!(
            "`knowledge.embedder` is `local`, but this program was built without it: build it with `--features local-embeddings`"
        ),
    })
}

/// Creates an embedder for an older space, if that is still possible.
#[must_use]
pub fn of_space(
    space: &Space,
    config: &Config,
    http: &reqwest::Client,
    ledger: Arc<Ledger>,
) -> Option<Arc<dyn Embedder>> {
    match space.provider.as_str() {
        "lexical" => Some(Arc::new(Lexical::new())),
        "endpoint" => {
            let EmbedderChoice::Endpoint(settings) = &config.knowledge.embedder else { return None };
            let settings = EndpointSettings { model: space.model.clone(), ..settings.into() };
            Some(Arc::new(Endpoint::new(settings, http.clone(), Some(ledger))))
        }
        #[cfg(feature = "local-embeddings")]
        "local" => {
            let loaded = Local::load(std::path::Path::new(&space.model)).ok()?;
            Some(Arc::new(loaded))
        }
        _ => None,
    }
}

/// Scales a vector to length 1. Returns an empty vector if the length is zero or a value is not finite.
fn normalise(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_finite() || length <= f32::EPSILON {
        return Vec::new();
    }
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
