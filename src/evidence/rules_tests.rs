//! Tests of the rules analyst with small pieces of evidence.

use super::*;

fn signatures() -> SignatureSet {
    let signature = |id: &str, pattern: &str, title: &str, priority| Signature {
        id: id.into(),
        pattern: pattern.into(),
        class: FailureClass::Infrastructure,
        title: title.into(),
        cause: "cause".into(),
        next_steps: vec!["look at {host}".into()],
        priority,
        runbook: "book.md".into(),
    };
    SignatureSet::compile(vec![
        signature("exit", "exit code (?P<code>\\d+)", "Step ended with {code}", 1),
        signature("dns", "lookup (?P<host>\\S+): no such host", "{host} has no address", 60),
        signature("slow", "took too long", "It took too long", 10),
    ])
    .unwrap()
}

fn piece(number: usize, kind: EvidenceKind, text: &str) -> Evidence {
    Evidence {
        id: uuid::Uuid::nil(),
        label: format!("E{number}"),
        kind,
        title: "a title that says nothing".into(),
        text: text.to_owned(),
        red: Vec::new(),
    }
}

fn analysis(pieces: &[Evidence]) -> Analysis {
    analyze(&pieces.iter().collect::<Vec<_>>(), &signatures(), &Deadline::never()).unwrap()
}

/// Creates a log of 900 lines that contains the given lines.
fn log(lines: &[(usize, &str)]) -> String {
    let line = |number: usize| {
        let told = lines.iter().find(|(at, _)| *at == number);
        told.map_or_else(|| format!("step {number}\n"), |(_, text)| format!("{text}\n"))
    };
    (1..=900).map(line).collect()
}

fn cited(diagnosis: &Diagnosis) -> Vec<(&str, u32)> {
    diagnosis.claims.iter().map(|claim| (claim.evidence.as_str(), claim.first_line)).collect()
}

#[test]
fn what_a_signature_recognises_is_concluded_wherever_it_stands() {
    let dns = "dial: lookup mirror.local: no such host";
    let pieces = [
        piece(1, EvidenceKind::Events, &format!("{dns}\n")),
        piece(
            2,
            EvidenceKind::Log,
            &log(&[(2, "exit code 2"), (500, dns), (501, dns), (899, "exit code 2")]),
        ),
    ];
    let Analysis { searched, read, diagnosis } = analysis(&pieces);
    assert_eq!(diagnosis.title, "mirror.local has no address");
    assert_eq!((diagnosis.class, diagnosis.confidence), (FailureClass::Infrastructure, Confidence::High));
    assert_eq!(diagnosis.next_steps, ["look at mirror.local"]);
    assert_eq!(cited(&diagnosis), [("E2", 500)], "the log before the events, and no echo beside a cause");
    assert_eq!(diagnosis.claims[0].quote.as_deref(), Some(dns));
    assert!(searched.is_empty(), "{searched:?}");
    assert_eq!(read, Some(Passage { evidence: "E2".into(), first_line: 495, last_line: 510 }));
}

#[test]
fn without_a_cause_the_echoes_are_told() {
    let pieces = [piece(1, EvidenceKind::Attached, "it took too long\nit took too long\nexit code 7\n")];
    let Analysis { diagnosis, .. } = analysis(&pieces);
    assert_eq!((diagnosis.title.as_str(), diagnosis.confidence), ("It took too long", Confidence::Medium));
    assert_eq!(cited(&diagnosis), [("E1", 1), ("E1", 3)]);
    assert_eq!(diagnosis.claims[1].statement, "Also seen: Step ended with 7");
}

#[test]
fn what_no_signature_recognises_is_not_guessed() {
    let pieces = [piece(1, EvidenceKind::Log, &log(&[(700, "fatal: the moon is full"), (900, "")]))];
    let Analysis { searched, read, diagnosis } = analysis(&pieces);
    assert_eq!((diagnosis.class, diagnosis.confidence), (FailureClass::Unknown, Confidence::Low));
    assert_eq!(diagnosis.title, "Cause not recognised: fatal: the moon is full");
    assert_eq!(cited(&diagnosis), [("E1", 700), ("E1", 899)], "the likeliest line, and where it ends");
    assert_eq!((searched, read.map(|read| read.first_line)), (vec!["E1".to_owned()], Some(695)));

    let Analysis { read, diagnosis, .. } = analysis(&[piece(1, EvidenceKind::Log, "step 1\nstep 2\n\n")]);
    assert_eq!(diagnosis.title, "Cause not recognised: the evidence shows no error");
    assert_eq!((read, cited(&diagnosis)), (None, vec![("E1", 2)]));
    let Analysis { diagnosis, .. } = analysis(&[]);
    assert!(diagnosis.claims.is_empty() && !diagnosis.title.is_empty());
}

#[test]
fn neither_the_last_good_run_nor_results_of_tools_are_cited() {
    let told = "fatal: lookup mirror.local: no such host\n";
    let pieces = [
        piece(1, EvidenceKind::GoodLog, told),
        piece(2, EvidenceKind::ToolResult, told),
        piece(3, EvidenceKind::Log, "error: x\n"),
    ];
    let Analysis { searched, diagnosis, .. } = analysis(&pieces);
    assert_eq!(diagnosis.class, FailureClass::Unknown);
    assert_eq!(searched, ["E3"]);
    let labels: Vec<&str> = diagnosis.claims.iter().map(|claim| claim.evidence.as_str()).collect();
    assert_eq!(labels, ["E3", "E3"]);
}

#[test]
fn it_ends_when_its_time_is_over() {
    let pieces = [piece(1, EvidenceKind::Log, "exit code 2\n")];
    let over = Deadline::within(std::time::Duration::ZERO);
    assert_eq!(analyze(&[&pieces[0]], &signatures(), &over), Err(DeadlinePassed));
}
