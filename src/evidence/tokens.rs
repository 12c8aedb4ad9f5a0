//! Token counts: exact where a budget is guaranteed, estimated inside loops.

use std::sync::LazyLock;
use tiktoken_rs::CoreBPE;

static O200K: LazyLock<Option<CoreBPE>> = LazyLock::new(|| tiktoken_rs::o200k_base().ok());

/// Number of tokens in the `o200k_base` encoding. The tokenizer is loaded on the first call.
#[must_use]
pub fn count(text: &str) -> usize {
    O200K.as_ref().map_or_else(|| estimate(text), |bpe| bpe.encode_ordinary(text).len())
}

/// Estimates the tokens of a log as bytes / 2.3; the estimate is deliberately high.
#[must_use]
pub fn estimate(text: &str) -> usize {
    text.len() * 10 / 23 + usize::from(!text.is_empty())
}
