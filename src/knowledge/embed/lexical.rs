//! The built-in embedder: hashes words, parts of identifiers and character n-grams into one vector, weighted by their rarity
//! in the built-in runbooks. Needs no model and no network, and takes microseconds.
//!
//! Feature hashing with signs follows Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009).
//! Character n-grams with word boundaries follow Bojanowski et al., "Enriching Word Vectors with Subword Information" (2017).

use super::{EmbedError, Embedder, normalise};
use crate::knowledge::Corpus;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Number of dimensions of a vector.
const DIMENSIONS: usize = 768;
/// Name of the model. Change it whenever the vectors change.
const MODEL: &str = "hashed-1";
/// Total weight of a word's n-grams relative to the word.
const NGRAMS: f32 = 0.6;
/// Weight of a pair of consecutive words.
const PAIRS: f32 = 0.5;
/// Maximum number of bytes used of a text.
const MAX_TEXT: usize = 16_384;

/// Number of paragraphs of the built-in runbooks that contain a feature.
static RARITY: LazyLock<Rarity> = LazyLock::new(|| {
    let mut rarity = Rarity::default();
    for document in &Corpus::built_in().documents {
        for paragraph in document.body.split("\n\n") {
            rarity.total += 1.0;
            for feature in features(paragraph).keys() {
                *rarity.held.entry(*feature).or_default() += 1.0;
            }
        }
    }
    rarity
});

#[derive(Default)]
struct Rarity {
    held: HashMap<u64, f32>,
    total: f32,
}

impl Rarity {
    fn of(&self, feature: u64) -> f32 {
        let held = self.held.get(&feature).copied().unwrap_or(0.5);
        (1.0 + self.total / (held + 0.5)).ln()
    }
}

/// The built-in embedder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lexical;

impl Lexical {
    /// Creates the embedder, which has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Returns the vector of a text. It is empty if the text contains no word.
    #[must_use]
    pub fn vector(text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; DIMENSIONS];
        for (feature, weight) in features(text) {
            let value = weight.sqrt() * RARITY.of(feature);
            // Each feature has two positions, so that a collision in one is resolved by the other.
            for turn in [0, 32] {
                let bits = (feature >> turn) as usize;
                let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
                vector[(bits >> 1) % DIMENSIONS] += sign * value;
            }
        }
        normalise(vector)
    }
}

#[async_trait]
impl Embedder for Lexical {
    fn provider(&self) -> &'static str {
        "lexical"
    }

    fn model(&self) -> &str {
        MODEL
    }

    fn batch(&self) -> usize {
        256
    }

    async fn passages(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| Self::vector(text)).collect())
    }

    async fn queries(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.passages(texts).await
    }
}

/// Returns the features of a text with their weights.
fn features(text: &str) -> HashMap<u64, f32> {
    let end = text.floor_char_boundary(MAX_TEXT);
    let mut found: HashMap<u64, f32> = HashMap::new();
    let mut before: Option<String> = None;
    for word in words(&text[..end]) {
        let stem = stem(&word);
        *found.entry(hash("w", stem)).or_default() += 1.0;
        if let Some(before) = &before {
            *found.entry(hash(before, stem)).or_default() += PAIRS;
        }
        let framed: Vec<char> = format!("<{word}>").chars().collect();
        if framed.len() > 5 {
            let grams: Vec<u64> = (3..=5)
                .flat_map(|size| framed.windows(size))
                .map(|gram| hash("g", &gram.iter().collect::<String>()))
                .collect();
            #[expect(clippy::cast_precision_loss, reason = "a word has few n-grams")]
            let share = NGRAMS / (grams.len() as f32).sqrt();
            for gram in grams {
                *found.entry(gram).or_default() += share;
            }
        }
        before = Some(stem.to_owned());
    }
    found
}

/// Returns the words in lower case: runs of letters, and identifiers as a whole and in parts. Drops numbers and hashes, but
/// keeps short codes such as `137` or `e0308`.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for token in text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()) {
        if is_noise(token) {
            continue;
        }
        let parts = parts(token);
        if parts.len() > 1 {
            found.extend(parts.iter().filter(|part| part.len() > 1).cloned());
        }
        found.push(token.to_lowercase());
    }
    found.retain(|word| !STOP.contains(&word.as_str()));
    found
}

/// Whether a token is noise: numbers other than codes and ports, hashes, random suffixes of pod names, times.
fn is_noise(token: &str) -> bool {
    let digits = token.chars().filter(char::is_ascii_digit).count();
    let letters = token.chars().filter(|c| c.is_alphabetic()).count();
    let begins = token.starts_with(|c: char| c.is_ascii_digit());
    match (digits, letters) {
        (0, _) => token.len() > 60,
        (digits, 0) => !(3..=5).contains(&digits),
        (1, 1..=4) => false,
        _ if begins => true,
        // `x509`, `e0308` and `cve2024` are codes, `x7k2p` is not.
        (digits, letters) => {
            letters > 3 && digits * 4 >= token.len() || letters <= 3 && !ends_in_digits(token, digits)
        }
    }
}

fn ends_in_digits(token: &str, digits: usize) -> bool {
    token.chars().rev().take(digits).all(|c| c.is_ascii_digit())
}

/// Stop words.
const STOP: &[&str] = &[
    "the", "a", "an", "and", "or", "of", "to", "in", "on", "is", "it", "its", "for", "with", "that", "this",
    "be", "as", "at", "by", "from", "are", "was", "has", "have", "i", "we", "my", "our", "me", "you", "your",
    "do", "does", "how", "what", "why", "when", "where", "which", "but", "if", "so", "then", "than", "there",
    "can", "will", "would", "should", "into", "about", "any", "all", "some", "just", "get", "gets", "got",
];

/// Splits an identifier: `ErrImagePull` gives err, image, pull.
fn parts(token: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    let chars: Vec<char> = token.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let begins = at > 0
            && c.is_uppercase()
            && (chars[at - 1].is_lowercase() || chars.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if begins {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Removes the most common English endings.
fn stem(word: &str) -> &str {
    for ending in ["ing", "ed", "es", "s"] {
        if let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() >= 4 && stem.is_ascii()) {
            return stem;
        }
    }
    word
}

/// Hashes two texts with FNV-1a and the finaliser of SplitMix64.
fn hash(kind: &str, text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in kind.bytes().chain([0xff]).chain(text.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(a: &str, b: &str) -> f32 {
        Lexical::vector(a).iter().zip(Lexical::vector(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn what_reads_alike_lies_near() {
        let query = "cannot pull the image, back off";
        let near = likeness(query, "Events say ImagePullBackOff: pulling image failed");
        let far = likeness(query, "The quota of the namespace is used up by other pods");
        assert!(near > far + 0.15, "{near} and {far}");
        assert!(
            likeness("certificat", "certificates expired") > likeness("certificat", "quota exceeded") + 0.1
        );
    }

    #[test]
    fn vectors_have_length_one_or_none() {
        let length = likeness("OOMKilled", "OOMKilled");
        assert!((length - 1.0).abs() < 1e-4, "{length}");
        assert!(Lexical::vector("  --- 1234567890 ").is_empty());
        assert_eq!(Lexical::vector(&"été ".repeat(9_000)).len(), DIMENSIONS);
    }

    #[test]
    fn identifiers_are_read_in_parts() {
        assert_eq!(
            words("ErrImagePull x509 exit 137 E0308"),
            ["err", "image", "pull", "errimagepull", "x509", "exit", "137", "e0308"]
        );
        assert_eq!(words("7f9c2d1e8a4b build-x7k2p 2026-11-21T10:00:00Z"), ["build", "2026"]);
    }
}
