//! Embedders: texts as vectors of one length, normalised. Three of them; the configuration chooses.

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

/// Why texts could not be embedded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// Another moment it may work.
    #[error("{0}")]
    Away(String),
    /// Asking again will not help.
    #[error("{0}")]
    Wrong(String),
}

/// Something that turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// `lexical`, `endpoint` or `local`.
    fn provider(&self) -> &'static str;
    /// The model; with the provider it names the space that its vectors live in.
    fn model(&self) -> &str;
    /// Texts that are best embedded at once.
    fn batch(&self) -> usize;
    /// Vectors of passages, in their order, each of length 1. A text that says nothing gives an empty vector.
    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
    /// Vectors of queries, in their order.
    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// The configured embedder; what it uses is written down in `ledger`.
///
/// # Errors
/// The local model cannot be loaded.
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

/// An embedder that can still ask an older space, if there is one.
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

/// Scales a vector to length 1. One without a direction, or with a number that is none, is left empty.
fn normalise(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_finite() || length <= f32::EPSILON {
        return Vec::new();
    }
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
