//! Tokens of a text: exact where a budget is promised, estimated inside loops.

use std::sync::LazyLock;
use tiktoken_rs::CoreBPE;

static O200K: LazyLock<Option<CoreBPE>> = LazyLock::new(|| tiktoken_rs::o200k_base().ok());

/// Tokens in the `o200k_base` encoding. The tokenizer is loaded at the first call.
#[must_use]
pub fn count(text: &str) -> usize {
    O200K.as_ref().map_or_else(|| estimate(text), |bpe| bpe.encode_ordinary(text).len())
}

/// An estimate on the large side for logs: bytes / 2.3.
#[must_use]
pub fn estimate(text: &str) -> usize {
    text.len() * 10 / 23 + usize::from(!text.is_empty())
}
