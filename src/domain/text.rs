//! Helpers for hashing and truncating text.

use sha2::{Digest as _, Sha256};

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hash(text: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(text.as_ref()))
}

/// Trims the text and cuts it at a character boundary, at most after `bytes` bytes. Notes how many bytes were left out.
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
