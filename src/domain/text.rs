//! Texts and their digests.

use sha2::{Digest as _, Sha256};

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hash(text: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(text.as_ref()))
}

/// The trimmed text, cut at a character before `bytes`; says how much was left out.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(bytes);
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}… ({} bytes left out)", &text[..end], text.len() - end)
    }
}
