//! A short run of the fuzz targets: the corpus, and what a seeded mutator makes of it.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// Mutations of each input of the corpus.
const MUTATIONS: usize = 60;
/// Pieces that lead somewhere.
const PIECES: [&str; 16] = [
    "\u{1b}[31m",
    "\r\u{1b}[K",
    "\r",
    "\n\n",
    "error: ",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END ",
    "data:\n  a: ",
    "password=",
    "é\u{301}",
    "2026-01-01T00:00:00.1Z stdout F ",
    "{\"log\":\"",
    "exit status 1\n",
    "\u{0}",
    "…",
    "://a:b@c",
];

fn mutated(input: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 => drop(bytes.splice(at..at, random.choice(PIECES).unwrap().bytes())),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.usize(..200)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            _ => drop(bytes.drain(at..(at + random.usize(..40)).min(bytes.len()))),
        }
    }
    bytes
}

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let mut random = fastrand::Rng::with_seed(11);
    for path in inputs {
        let input = std::fs::read(path).unwrap();
        check(&input);
        for _ in 0..MUTATIONS {
            check(&mutated(&input, &mut random));
        }
    }
}

#[test]
fn clean_holds() {
    run("clean", checks::clean);
}

#[test]
fn excerpt_holds() {
    run("excerpt", checks::excerpt);
}

#[test]
fn redact_holds() {
    run("redact", checks::redact);
}

#[test]
fn fingerprint_holds() {
    run("fingerprint", checks::fingerprint);
}
