//! Figures of the verifier on builds with a known cause: how many true claims and causes pass, and how many of other failures.
//!
//! `grounding_figures DIR` prints them. DIR has `cases.jsonl`, one object a line with `name`, `cause` and `key_lines` (from 1), and the logs
//! as `logs/NAME.log`. An analyst who tells the truth quotes the key lines and says the cause; one who does not says that of another build.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a tool of ours, which fails by panicking"
)]

use regreen::clock::Deadline;
use regreen::domain::{Claim, Confidence, Diagnosis, FailureClass, LineSpan, cited};
use regreen::evidence::clean::clean;
use regreen::evidence::signature::SignatureSet;
use regreen::evidence::verify::{Sources, check_within};
use regreen::knowledge::Corpus;
use serde::Deserialize;
use std::path::Path;
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Case {
    name: String,
    cause: String,
    key_lines: Vec<u32>,
    #[serde(skip)]
    log: String,
}

impl Sources for Case {
    fn text(&self, label: &str) -> Option<&str> {
        (label == "E1").then_some(self.log.as_str())
    }

    fn all(&self) -> Option<Vec<&str>> {
        Some(vec![&self.log])
    }

    fn meaning(&self, _label: &str, lines: LineSpan) -> String {
        RUNBOOKS.said_of(cited(&self.log, lines))
    }
}

/// What the runbooks that come with the product recognise.
static RUNBOOKS: LazyLock<SignatureSet> = LazyLock::new(|| Corpus::built_in().signatures().unwrap());

/// What came of saying a cause of a log.
#[derive(Default)]
struct Count {
    said: usize,
    claims: usize,
    claims_verified: usize,
    whole: usize,
    partly: usize,
}

fn main() {
    let folder = std::env::args().nth(1).expect("usage: grounding_figures DIR");
    let cases: Vec<Case> = std::fs::read_to_string(Path::new(&folder).join("cases.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut case: Case = serde_json::from_str(line).unwrap();
            let raw =
                std::fs::read(Path::new(&folder).join("logs").join(format!("{}.log", case.name))).unwrap();
            case.log = clean(&String::from_utf8_lossy(&raw)).text;
            case
        })
        .collect();
    let (mut honest, mut exchanged) = (Count::default(), Count::default());
    for (index, case) in cases.iter().enumerate() {
        for (other, from) in cases.iter().enumerate() {
            if index == other {
                say(&mut honest, case, &case.cause, true);
            } else if (index * 31 + other) % 5 == 0 {
                say(&mut exchanged, case, &from.cause, false);
            }
        }
    }
    for (name, count) in [("true", &honest), ("of another build", &exchanged)] {
        let share = |part: usize, whole: usize| {
            format!("{part} of {whole} ({:.3})", part as f64 / whole.max(1) as f64)
        };
        println!("{name}:");
        println!("  claims verified     {}", share(count.claims_verified, count.claims));
        println!("  causes told whole   {}", share(count.whole, count.said));
        println!("  causes told in part {}", share(count.partly, count.said));
    }
}

fn say(count: &mut Count, case: &Case, cause: &str, show: bool) {
    let lines: Vec<&str> = case.log.lines().collect();
    let claims = case.key_lines.iter().map(|&number| Claim {
        statement: cause.to_owned(),
        evidence: "E1".to_owned(),
        first_line: number,
        last_line: number,
        quote: lines.get(number as usize - 1).map(|line| line.trim().chars().take(200).collect()),
        verified: false,
        paraphrased: false,
    });
    let diagnosis = Diagnosis {
        title: cause.chars().take(120).collect(),
        cause: cause.to_owned(),
        class: FailureClass::Code,
        confidence: Confidence::High,
        claims: claims.collect(),
        next_steps: Vec::new(),
        analyst: "figures".to_owned(),
        note: None,
        not_found: Vec::new(),
        left_out: 0,
        runbooks: Vec::new(),
    };
    count.said += 1;
    count.claims += diagnosis.claims.len();
    let checked = check_within(diagnosis, case, &Deadline::never()).unwrap();
    count.claims_verified += checked.verified;
    match &checked.held {
        Some(held) if held.cause == cause => count.whole += 1,
        Some(_) => count.partly += 1,
        None => {}
    }
    if show == checked.held.as_ref().is_none_or(|held| held.cause != cause) {
        let told = checked.held.as_ref().map_or("nothing", |held| held.cause.as_str());
        println!("{} {cause:?}: {told:?} {:?}", case.name, checked.problems);
    }
}
