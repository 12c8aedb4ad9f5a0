//! Figures of the evidence engine on labelled logs, and what is needed to fit its ranking again.
//!
//! `evidence_figures measure DIR` prints them; `evidence_figures features DIR` writes what the ranking sees of each line to
//! standard output, for `tests/evidence/fit.py`. DIR has `labels.jsonl`, one object a line with `log`, `project` and `spans`
//! (first and last line of the failing part, from 1), and the logs in `logs/`: the form of the LogChunks data set.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a tool of ours, which fails by panicking"
)]

use regreen::evidence::clean::{Cleaned, clean};
use regreen::evidence::excerpt::{Log, of_lines};
use regreen::evidence::fingerprint::{FingerprintInput, fingerprint};
use regreen::evidence::lines::Lines;
use regreen::evidence::rank;
use regreen::evidence::redact::Redactor;
use regreen::evidence::signature::SignatureSet;
use regreen::evidence::{template, tokens};
use regreen::knowledge::Corpus;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Deserialize)]
struct Label {
    log: String,
    project: String,
    spans: Vec<(u32, u32)>,
}

struct Labelled {
    label: Label,
    raw: Vec<u8>,
}

impl Labelled {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Numbers of the lines with text, for each place of the failing part.
    fn truths(&self) -> Vec<BTreeSet<u32>> {
        let text = self.text();
        let lines: Vec<&str> = text.split('\n').collect();
        let with_text = |number: &u32| !lines[*number as usize - 1].trim().is_empty();
        self.label.spans.iter().map(|(first, last)| (*first..=*last).filter(with_text).collect()).collect()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, folder] = arguments.as_slice() else {
        eprintln!("usage: evidence_figures measure|features DIR");
        std::process::exit(2);
    };
    let labels = std::fs::read_to_string(Path::new(folder).join("labels.jsonl")).unwrap();
    let logs: Vec<Labelled> = labels
        .lines()
        .map(|line| {
            let label: Label = serde_json::from_str(line).unwrap();
            let raw = std::fs::read(Path::new(folder).join("logs").join(&label.log)).unwrap();
            Labelled { label, raw }
        })
        .collect();
    match command.as_str() {
        "measure" => {
            excerpts(&logs);
            speed(&logs);
            fingerprints(&logs);
        }
        "features" => features(&logs),
        other => panic!("{other} is neither measure nor features"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares")]
fn excerpts(logs: &[Labelled]) {
    for budget in [1_000, 2_000, 4_000, 8_000] {
        let (mut whole, mut recall, mut used, mut share) = (0usize, 0.0, 0, 0.0);
        let begun = Instant::now();
        for log in logs {
            let lines = Lines::read(log.raw.as_slice(), None, &mut Redactor::new()).unwrap();
            let excerpt = of_lines(&lines, budget);
            assert!(excerpt.tokens <= budget, "{}: {} tokens", log.label.log, excerpt.tokens);
            let kept: BTreeSet<u32> =
                excerpt.spans().into_iter().flat_map(|(first, last)| first..=last).collect();
            let truths = log.truths();
            let share_of =
                |truth: &BTreeSet<u32>| truth.intersection(&kept).count() as f64 / truth.len().max(1) as f64;
            let best = truths.iter().map(share_of).fold(0.0, f64::max);
            let failing: usize = excerpt
                .lines
                .iter()
                .filter(|(number, _)| truths.iter().any(|truth| truth.contains(number)))
                .map(|(_, line)| tokens::count(line))
                .sum();
            whole += usize::from(best >= 1.0);
            recall += best;
            used += excerpt.tokens;
            share += failing as f64 / excerpt.tokens.max(1) as f64;
        }
        let count = logs.len() as f64;
        println!(
            "{budget} tokens: full {:.3}, recall {:.3}, {:.0} tokens used, {:.1} % of them failure, {:.1} s",
            whole as f64 / count,
            recall / count,
            used as f64 / count,
            share / count * 100.0,
            begun.elapsed().as_secs_f64()
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "megabytes a second")]
fn speed(logs: &[Labelled]) {
    let bytes: usize = logs.iter().map(|log| log.raw.len()).sum();
    let (mut cleaning, mut ranking, mut redacting) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (signatures, mut recognising) = (Corpus::built_in().signatures().unwrap(), Duration::ZERO);
    for log in logs {
        let text = log.text();
        let begun = Instant::now();
        let cleaned = clean(&text);
        let lines = Lines::of(&cleaned.text, &cleaned.red, None);
        cleaning += begun.elapsed();
        let begun = Instant::now();
        std::hint::black_box(rank::rank(&lines));
        ranking += begun.elapsed();
        let begun = Instant::now();
        std::hint::black_box(Redactor::new().redact(&cleaned.text));
        redacting += begun.elapsed();
        let begun = Instant::now();
        std::hint::black_box(signatures.scan(&cleaned.text));
        recognising += begun.elapsed();
    }
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{:.0} MB on one core: cleaning and ranking {:.0} MB/s, redaction {:.0} MB/s, {} signatures {:.0} MB/s",
        bytes as f64 / 1e6,
        rate(cleaning + ranking),
        rate(redacting),
        signatures.signatures().len(),
        rate(recognising)
    );
}

/// Pairs of one project: the same failure when the failing parts have the same templates, another when hardly any.
#[expect(clippy::cast_precision_loss, reason = "shares")]
fn fingerprints(logs: &[Labelled]) {
    let none = SignatureSet::default();
    let known = Corpus::built_in().signatures().unwrap();
    for (name, signatures) in [("without signatures", &none), ("with the runbooks' signatures", &known)] {
        let mut seen = Vec::new();
        for log in logs {
            let Cleaned { text, red } = clean(&log.text());
            let (first, last) = log.label.spans[0];
            let part: BTreeSet<String> = text
                .lines()
                .skip(first as usize - 1)
                .take((last - first + 1) as usize)
                .map(template::mask)
                .filter(|line| !line.is_empty())
                .collect();
            let input = FingerprintInput {
                log: Some(Log { text: &text, red: &red, good: None }),
                events: None,
                pod: None,
                signatures,
            };
            seen.push((&log.label.project, part, fingerprint(&input)));
        }
        let (mut right, mut wrong, mut missed, mut apart) = (0, 0, 0, 0);
        for (index, (project, part, print)) in seen.iter().enumerate() {
            for (other_project, other_part, other_print) in &seen[index + 1..] {
                if project != other_project {
                    continue;
                }
                let common = part.intersection(other_part).count() as f64;
                let alike = common / part.union(other_part).count().max(1) as f64;
                match (alike >= 0.8, alike <= 0.2, print == other_print) {
                    (true, _, true) => right += 1,
                    (true, _, false) => missed += 1,
                    (_, true, true) => wrong += 1,
                    (_, true, false) => apart += 1,
                    _ => {}
                }
            }
        }
        println!(
            "fingerprints {name}: precision {:.3}, recall {:.3} ({right} pairs right, {missed} missed, {wrong} wrong, {apart} apart)",
            f64::from(right) / f64::from(right + wrong),
            f64::from(right) / f64::from(right + missed)
        );
    }
}

/// A line per line of a log: project, log, number, whether it tells why, tokens, features. Each log twice: as it is, and
/// cut off after the failure without its colours (`#cut`).
fn features(logs: &[Labelled]) {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for log in logs {
        let whole = log.text();
        let last = log.label.spans[0].1 as usize;
        let short: String = whole.split_inclusive('\n').take(last + last * 7 % 6).collect();
        for (text, suffix) in [(&whole, ""), (&short, "#cut")] {
            let mut cleaned = clean(text);
            if !suffix.is_empty() {
                cleaned.red.clear();
            }
            let lines = Lines::of(&cleaned.text, &cleaned.red, None);
            for (index, features) in rank::features(&lines) {
                let number = lines.number(index);
                let tells = log.label.spans.iter().any(|(first, last)| (*first..=*last).contains(&number));
                let cost = tokens::count(lines.text(index));
                write!(
                    out,
                    "{}\t{}{suffix}\t{number}\t{}\t{cost}",
                    log.label.project,
                    log.label.log,
                    u8::from(tells)
                )
                .unwrap();
                for value in features {
                    write!(out, "\t{value}").unwrap();
                }
                writeln!(out).unwrap();
            }
        }
    }
}
