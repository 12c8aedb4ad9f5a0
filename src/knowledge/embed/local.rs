//! Runs a sentence-transformers model (BERT family) from a folder in this process: `config.json`, `model.safetensors`,
//! `tokenizer.json` and the pooling configuration. For clusters without network access: nothing is downloaded.

use super::{EmbedError, Embedder, normalise};
use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use candle_core::{DType, Device, IndexOp as _, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config as BertConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;
use tokenizers::{Tokenizer, TruncationParams};

/// Token limit if the folder does not define one.
const DEFAULT_TOKENS: usize = 256;
/// Maximum number of tokens per forward pass, including padding. More tokens need more memory and are not faster.
const AT_ONCE: usize = 2_048;

#[derive(Deserialize)]
struct ModelType {
    #[serde(default)]
    model_type: String,
}

#[derive(Deserialize, Default)]
struct Sequence {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize, Default)]
struct Pooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// The loaded model.
pub struct Local {
    folder: String,
    parts: Arc<Parts>,
}

struct Parts {
    model: BertModel,
    tokenizer: Tokenizer,
    /// Whether to use the first token's vector instead of the mean.
    first: bool,
}

impl Local {
    /// Loads a model from a folder.
    ///
    /// # Errors
    /// A file is missing or damaged, or the model family or pooling is not supported.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| folder.join(name);
        let ModelType { model_type } = read(&at("config.json"))?;
        ensure!(
            model_type == "bert",
            "{} is a model of type `{model_type}`; only `bert` can be run here, others behind an embeddings endpoint",
            folder.display()
        );
        let config: BertConfig = read(&at("config.json"))?;
        let Sequence { max_seq_length } = optional(&at("sentence_bert_config.json"))?;
        let pooling: Pooling = optional(&at("1_Pooling/config.json"))?;
        ensure!(
            pooling.pooling_mode_cls_token
                || pooling.pooling_mode_mean_tokens
                || !at("1_Pooling/config.json").exists(),
            "{} pools in another way than by mean or first token",
            folder.display()
        );
        let longest = max_seq_length.unwrap_or(DEFAULT_TOKENS).min(config.max_position_embeddings);
        let mut tokenizer = Tokenizer::from_file(at("tokenizer.json"))
            .map_err(|error| anyhow::anyhow!("{}: {error}", at("tokenizer.json").display()))?;
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| anyhow::anyhow!("{error}"))?;
        tokenizer.with_padding(None);
        let weights = std::fs::read(at("model.safetensors"))
            .with_context(|| format!("cannot read {}", at("model.safetensors").display()))?;
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .with_context(|| format!("{} is damaged", at("model.safetensors").display()))?;
        let model = BertModel::load(weights, &config)
            .with_context(|| format!("{} does not fit its config.json", at("model.safetensors").display()))?;
        let parts = Parts { model, tokenizer, first: pooling.pooling_mode_cls_token };
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display().to_string();
        Ok(Self { folder, parts: Arc::new(parts) })
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let parts = Arc::clone(&self.parts);
        let embedded = tokio::task::spawn_blocking(move || parts.embed(texts)).await;
        match embedded {
            Ok(Ok(vectors)) => Ok(vectors),
            Ok(Err(error)) => Err(EmbedError::Wrong(format!("the local embedding model: {error:#}"))),
            Err(_) => Err(EmbedError::Wrong("the local embedding model broke off".to_owned())),
        }
    }
}

impl Parts {
    /// Embeds texts. Batches texts of similar length to reduce padding.
    fn embed(&self, texts: Vec<String>) -> anyhow::Result<Vec<Vec<f32>>> {
        let encoded = self.tokenizer.encode_batch(texts, true).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut rest: Vec<usize> = (0..encoded.len()).collect();
        rest.sort_by_key(|at| encoded[*at].len());
        let mut vectors = vec![Vec::new(); encoded.len()];
        while let Some(longest) = rest.last().map(|at| encoded[*at].len().max(1)) {
            let batch = rest.split_off(rest.len().saturating_sub((AT_ONCE / longest).max(1)));
            let rows: Vec<&[u32]> = batch.iter().map(|at| encoded[*at].get_ids()).collect();
            for (at, vector) in batch.iter().zip(self.forward(&rows, longest)?) {
                vectors[*at] = normalise(vector);
            }
        }
        Ok(vectors)
    }

    /// Runs one forward pass over rows of tokens, padded to `longest`.
    fn forward(&self, rows: &[&[u32]], longest: usize) -> anyhow::Result<Vec<Vec<f32>>> {
        let filled = |of: fn(u32) -> u32| -> Vec<u32> {
            let padding = |row: &&[u32]| std::iter::repeat_n(0, longest - row.len());
            rows.iter().flat_map(|row| row.iter().map(|id| of(*id)).chain(padding(row))).collect()
        };
        let shape = (rows.len(), longest);
        let ids = Tensor::from_vec(filled(|id| id), shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(filled(|_| 1), shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let pooled = if self.first {
            hidden.i((.., 0))?
        } else {
            let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
            let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
            sum.broadcast_div(&mask.sum(1)?)?
        };
        Ok(pooled.to_vec2::<f32>()?)
    }
}

#[async_trait]
impl Embedder for Local {
    fn provider(&self) -> &'static str {
        "local"
    }

    fn model(&self) -> &str {
        &self.folder
    }

    fn batch(&self) -> usize {
        64
    }

    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embed(texts.to_vec()).await
    }

    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embed(texts.to_vec()).await
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; a sentence-transformers folder is needed", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
}

fn optional<T: DeserializeOwned + Default>(path: &Path) -> anyhow::Result<T> {
    if path.exists() { read(path) } else { Ok(T::default()) }
}
