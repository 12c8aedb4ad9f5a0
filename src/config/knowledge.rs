//! Knowledge search settings.

use super::reader::SettingsReader;
use secrecy::SecretString;
use std::path::PathBuf;

/// Knowledge search settings.
#[derive(Debug, Clone)]
pub struct Knowledge {
    /// Folder of additional documents.
    pub corpus: Option<PathBuf>,
    /// Embedding provider.
    pub embedder: EmbedderChoice,
    /// Maximum chunk size in tokens.
    pub chunk_tokens: usize,
    /// Maximum tokens of runbooks and past incidents in the brief.
    pub brief_tokens: usize,
}

/// Embedding provider.
#[derive(Debug, Clone)]
pub enum EmbedderChoice {
    /// The built-in lexical embedder.
    Lexical,
    /// An OpenAI-compatible endpoint.
    Endpoint(EmbeddingEndpoint),
    /// A folder with a sentence-transformers model.
    Local(PathBuf),
}

/// Embedding endpoint.
#[derive(Debug, Clone)]
pub struct EmbeddingEndpoint {
    /// Base URL.
    pub url: String,
    /// API key.
    pub api_key: Option<SecretString>,
    /// Model name.
    pub model: String,
    /// Maximum number of texts per request.
    pub batch: usize,
    /// Prefix of queries.
    pub query_prefix: String,
    /// Prefix of passages.
    pub passage_prefix: String,
}

pub(super) fn read(r: &mut SettingsReader<'_>) -> Knowledge {
    let embedder = match r.one_of("knowledge.embedder", &["lexical", "endpoint", "local"]).as_str() {
        "endpoint" => EmbedderChoice::Endpoint(endpoint(r)),
        "local" => {
            let folder = r.text("knowledge.embedding_folder");
            if folder.is_none() {
                r.mistake("`knowledge.embedding_folder`", "is not set, but `knowledge.embedder` is `local`");
            }
            EmbedderChoice::Local(folder.map(PathBuf::from).unwrap_or_default())
        }
        _ => EmbedderChoice::Lexical,
    };
    Knowledge {
        corpus: r.text("knowledge.corpus").map(PathBuf::from),
        embedder,
        chunk_tokens: r.bounded("knowledge.chunk_tokens", 64, 2_000),
        brief_tokens: r.bounded("knowledge.brief_tokens", 0, 100_000),
    }
}

fn endpoint(r: &mut SettingsReader<'_>) -> EmbeddingEndpoint {
    let own = r.url("knowledge.embedding_url");
    let model = r.text("knowledge.embedding_model");
    let url = own.clone().or_else(|| r.text("model.url"));
    if url.is_none() {
        r.mistake(
            "`knowledge.embedding_url`",
            "is not set, nor is `model.url`, but `knowledge.embedder` is `endpoint`",
        );
    }
    if model.is_none() {
        r.mistake("`knowledge.embedding_model`", "is not set, but `knowledge.embedder` is `endpoint`");
    }
    // The model's API key is only sent to the model's own URL.
    let shared = own.is_none() || own == r.text("model.url");
    let prefix = |text: Option<String>| text.map(|text| format!("{text} ")).unwrap_or_default();
    EmbeddingEndpoint {
        url: url.unwrap_or_default(),
        api_key: r
            .secret("knowledge.embedding_api_key")
            .or_else(|| if shared { r.secret("model.api_key") } else { None }),
        model: model.unwrap_or_default(),
        batch: r.bounded("knowledge.embedding_batch", 1, 2_048),
        query_prefix: prefix(r.text("knowledge.embedding_query_prefix")),
        passage_prefix: prefix(r.text("knowledge.embedding_passage_prefix")),
    }
}
