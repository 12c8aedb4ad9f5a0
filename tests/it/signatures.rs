//! The runbooks' signatures on lines as they stand in logs.

use regreen::knowledge::Corpus;

#[test]
fn each_line_is_recognised_by_its_signature() {
    let signatures = Corpus::built_in().signatures().unwrap();
    let all = signatures.signatures();
    let placeholder = regex::Regex::new(r"\{\w+\}").unwrap();
    let mut wrong = Vec::new();
    for line in include_str!("../data/signature_lines.txt").lines().filter(|line| !line.starts_with("# ")) {
        let (id, line) = line.split_once('\t').unwrap();
        assert!(all.iter().any(|signature| signature.id == id), "no runbook has the signature {id}");
        let hits = signatures.matches(line);
        let best = hits.iter().max_by_key(|hit| all[hit.index].priority);
        let found = best.map_or("none", |hit| all[hit.index].id.as_str());
        if found != id {
            wrong.push(format!("{found} instead of {id}: {line}"));
        }
        for hit in &hits {
            let signature = &all[hit.index];
            let told = format!("{} {}", hit.fill(&signature.title), hit.fill(&signature.cause));
            // A captured text may have braces of its own.
            let braces = hit.captures.values().any(|value| value.contains('{'));
            let left = |text: &str| placeholder.is_match(&hit.fill(text));
            assert!(
                braces || !left(&signature.title) && !left(&signature.cause),
                "{}: a placeholder is not filled: {told}",
                signature.id
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
