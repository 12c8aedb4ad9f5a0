//! Checks what an analyst cites against the evidence. Nothing unverified is filed as fact.

use crate::domain::Diagnosis;

/// Lines one claim may cite; more proves nothing.
const MAX_SPAN: u32 = 200;

/// Marks each claim verified or not. A quote that stands elsewhere in the same evidence corrects the lines.
pub fn verify(diagnosis: &mut Diagnosis, lookup: impl Fn(&str) -> Option<String>) {
    for claim in &mut diagnosis.claims {
        claim.verified = false;
        let Some(text) = lookup(&claim.evidence) else {
            continue;
        };
        let lines: Vec<&str> = text.lines().collect();
        let total = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        if claim.last_line < claim.first_line {
            std::mem::swap(&mut claim.first_line, &mut claim.last_line);
        }
        let in_range = claim.first_line >= 1
            && claim.last_line <= total
            && claim.last_line - claim.first_line < MAX_SPAN;
        let quote = claim.quote.as_deref().map(squeeze).filter(|quote| !quote.is_empty());
        let Some(quote) = quote else {
            let cited = lines.get(claim.first_line.saturating_sub(1) as usize..claim.last_line as usize);
            // Blank lines prove nothing.
            claim.verified =
                in_range && cited.is_some_and(|cited| cited.iter().any(|line| !line.trim().is_empty()));
            continue;
        };
        let cited = in_range.then(|| &lines[claim.first_line as usize - 1..claim.last_line as usize]);
        if cited.is_some_and(|cited| squeeze(&cited.join("\n")).contains(&quote)) {
            claim.verified = true;
        } else if let Some(found) = lines.iter().position(|line| squeeze(line).contains(&quote)) {
            let number = u32::try_from(found + 1).unwrap_or(u32::MAX);
            (claim.first_line, claim.last_line, claim.verified) = (number, number, true);
        }
    }
}

/// One space for any white space; models re-wrap what they quote.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Confidence, FailureClass};

    fn check(first: u32, last: u32, quote: Option<&str>) -> (bool, u32, u32) {
        let claim = Claim {
            statement: "s".into(),
            evidence: "E1".into(),
            first_line: first,
            last_line: last,
            quote: quote.map(Into::into),
            verified: true,
        };
        let mut diagnosis = Diagnosis {
            title: "t".into(),
            cause: "c".into(),
            class: FailureClass::Code,
            confidence: Confidence::High,
            claims: vec![claim],
            next_steps: Vec::new(),
            analyst: "m".into(),
            note: None,
        };
        verify(&mut diagnosis, |label| {
            (label == "E1").then(|| "one\n\nerror:  disk full\nfour\n".to_owned())
        });
        let claim = &diagnosis.claims[0];
        (claim.verified, claim.first_line, claim.last_line)
    }

    #[test]
    fn only_what_stands_there_is_verified() {
        assert_eq!(check(3, 3, Some("disk full")), (true, 3, 3));
        assert_eq!(check(1, 1, Some("error: disk full")), (true, 3, 3), "the lines are corrected");
        assert!(!check(3, 3, Some("disk empty")).0);
        assert!(!check(3, 9, None).0, "past the end");
        assert!(!check(0, 1, None).0);
        assert!(!check(2, 2, None).0, "blank");
        assert_eq!(check(4, 3, None), (true, 3, 4), "swapped ends");
    }
}
