//! Tests of accepted and removed parts of a diagnosis.

use super::*;
use crate::domain::FailureClass;

struct One(&'static str, bool);

impl Sources for One {
    fn text(&self, label: &str) -> Option<&str> {
        (label == "E1").then_some(self.0)
    }

    fn all(&self) -> Option<Vec<&str>> {
        self.1.then(|| vec![self.0])
    }
}

const LOG: &str = "one\n\nerror:  disk full\nfour\n";

fn diagnosis(cause: &str, statement: &str, span: (u32, u32), quote: Option<&str>) -> Diagnosis {
    let claim = Claim {
        statement: statement.into(),
        evidence: "E1".into(),
        first_line: span.0,
        last_line: span.1,
        quote: quote.map(Into::into),
        verified: true,
        paraphrased: false,
    };
    Diagnosis {
        title: "The disk is full".into(),
        cause: cause.into(),
        class: FailureClass::Code,
        confidence: Confidence::High,
        claims: vec![claim],
        next_steps: Vec::new(),
        analyst: "m".into(),
        note: None,
        not_found: Vec::new(),
        left_out: 0,
        runbooks: Vec::new(),
    }
}

fn check_of(diagnosis: Diagnosis, is_of_people: bool) -> Checked {
    check_within(diagnosis, &One(LOG, !is_of_people), &Deadline::never()).unwrap()
}

fn claim(first: u32, last: u32, quote: Option<&str>) -> (bool, u32, u32) {
    let mut diagnosis = diagnosis("The disk is full.", "the disk is full", (first, last), quote);
    let problems = verify_within(&mut diagnosis, &One(LOG, true), &Deadline::never()).unwrap();
    let claim = &diagnosis.claims[0];
    assert_eq!(claim.verified, problems.is_empty(), "{problems:?}");
    (claim.verified, claim.first_line, claim.last_line)
}

#[test]
fn only_what_stands_there_is_verified() {
    assert_eq!(claim(3, 3, Some("disk full")), (true, 3, 3));
    assert_eq!(claim(1, 1, Some("error: disk full")), (true, 3, 3), "the lines are corrected");
    assert!(!claim(3, 3, Some("disk empty")).0);
    assert!(!claim(3, 9, None).0, "past the end");
    assert!(!claim(0, 1, None).0);
    assert_eq!(claim(4, 3, None), (true, 3, 4), "swapped ends");
}

#[test]
fn a_claim_without_a_quote_is_a_paraphrase() {
    let checked = check_of(diagnosis("The disk is full.", "the disk is full", (3, 3), None), false);
    let held = checked.held.unwrap();
    assert!(held.claims[0].paraphrased);
    assert_eq!(held.confidence, Confidence::Low, "nothing was quoted");
}

#[test]
fn what_holds_is_told_as_it_is() {
    let told = diagnosis("The disk is full.", "the disk is full", (3, 3), Some("disk full"));
    let checked = check_of(told.clone(), false);
    assert_eq!((checked.problems.len(), checked.verified), (0, 1), "{:?}", checked.problems);
    let held = checked.held.unwrap();
    assert_eq!((held.cause, held.confidence), (told.cause, Confidence::High));
}

#[test]
fn what_does_not_hold_is_left_out() {
    let told = diagnosis(
        "The disk is full. Aliens of the moon did it to `db.rs`.",
        "the disk is full",
        (3, 3),
        Some("disk full"),
    );
    let checked = check_of(told, false);
    assert_eq!(checked.problems.len(), 1, "{:?}", checked.problems);
    let held = checked.held.unwrap();
    assert_eq!((held.cause.as_str(), held.confidence), ("The disk is full.", Confidence::Medium));
}

#[test]
fn a_sentence_that_names_what_nobody_told_is_not_told_without_the_name() {
    const LOG: &str = "Error: Cannot find module './lib/pricing'\nRequire stack:\n- /srv/meter/index.js\n";
    let first = "Cannot find module ./lib/pricing.";
    let cause =
        format!("{first} The require stack of /srv/meter/index.js cannot find the module `left-pad`.");
    let mut told = diagnosis(&cause, first, (1, 3), Some("Cannot find module './lib/pricing'"));
    told.title = "The require stack of ./lib/pricing cannot find the module `left-pad`".into();
    let checked = check_within(told, &One(LOG, true), &Deadline::never()).unwrap();
    let held = checked.held.unwrap();
    assert_eq!((held.title.as_str(), held.cause.as_str()), (first, first), "{:?}", checked.problems);
}

#[test]
fn nothing_is_told_when_no_claim_holds() {
    let invented =
        diagnosis("`db.rs` did it", "the disk of host.example.com is full", (3, 3), Some("disk full"));
    let checked = check_of(invented.clone(), false);
    assert_eq!((checked.held, checked.verified), (None, 0));
    assert!(
        checked.problems.iter().any(|problem| problem.contains("host.example.com")),
        "{:?}",
        checked.problems
    );
    // The built-in analyst uses texts of runbooks, which people wrote.
    assert!(check_of(invented, true).held.is_some());
}

#[test]
fn sentences_end_where_they_end() {
    let text = "It fails, e.g. in a.b.c of v1.2. The disk is full; nothing else.\nSo it ends";
    let found = grounds::sentences(text);
    assert_eq!(found.concat(), text);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn what_is_said_twice_is_told_once() {
    let said = "The disk is full. The disk is full. The disk is fu";
    let told = check_of(diagnosis(said, "the disk is full", (3, 3), Some("disk full")), false).held.unwrap();
    assert_eq!(told.cause.trim(), "The disk is full.");
}

/// Evidence with a line that a runbook recognizes.
struct Recognised;

impl Sources for Recognised {
    fn text(&self, label: &str) -> Option<&str> {
        (label == "E1").then_some(LOG)
    }

    fn all(&self) -> Option<Vec<&str>> {
        Some(vec![LOG])
    }

    fn meaning(&self, _label: &str, lines: LineSpan) -> String {
        if lines.first == 3 {
            "The volume of the node has no room. A quota limits the namespace.".to_owned()
        } else {
            String::new()
        }
    }
}

#[test]
fn what_a_runbook_says_of_a_cited_line_may_be_told() {
    let said = "The volume of the node has no room.";
    let cited = |line: u32, quote: &str| {
        let told = diagnosis(said, "the disk is full", (line, line), Some(quote));
        check_within(told, &Recognised, &Deadline::never()).unwrap().held
    };
    assert_eq!(cited(3, "disk full").unwrap().cause, said);
    let without =
        check_of(diagnosis(said, "the disk is full", (3, 3), Some("disk full")), false).held.unwrap();
    assert_ne!(without.cause, said, "nobody says so of this line");
    assert!(cited(4, "four").is_none_or(|held| held.cause != said), "nor of that one");
}

#[test]
fn a_true_half_proves_nothing_of_the_other() {
    let told = |cause: &str| {
        let told = diagnosis(cause, "the disk is full", (3, 3), Some("disk full"));
        check_of(told, false).held.unwrap().cause
    };
    assert_eq!(told("The disk is full, and the pod waits for a volume to be mounted."), "The disk is full.");
    assert_eq!(told("The disk is full and FailedMount."), "The disk is full.");
    assert_eq!(told("The certificate has expired, and the disk is full."), "The disk is full.");
    assert_eq!(told("The disk is full, so it is an error."), "The disk is full, so it is an error.");
}
