//! What has to hold for any bytes whatever. The fuzz targets and the short run of the tests share it.

use regreen::evidence::clean::{clean as clean_text, each_line};
use regreen::evidence::excerpt::{Log, excerpt as excerpt_of, of_lines};
use regreen::evidence::fingerprint::{FingerprintInput, fingerprint as fingerprint_of};
use regreen::evidence::lines::{Lines, Templates};
use regreen::evidence::redact::Redactor;
use regreen::evidence::signature::SignatureSet;

/// Lines stay lines, nothing of the terminal is left, and line by line it is the same as at once.
pub fn clean(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let cleaned = clean_text(&text);
    assert_eq!(cleaned.text.split('\n').count(), text.split('\n').count());
    assert!(!cleaned.text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
    assert!(cleaned.red.is_sorted());
    let mut lines = Vec::new();
    each_line(text.as_bytes(), |_, line, red| lines.push((line.to_owned(), red))).unwrap();
    // A line longer than is read at once is cut elsewhere.
    if text.split('\n').all(|line| line.len() < 200_000) {
        for (number, (line, (streamed, red))) in (1..).zip(cleaned.text.split('\n').zip(&lines)) {
            assert_eq!(line, streamed);
            assert_eq!(cleaned.red.binary_search(&number).is_ok(), *red);
        }
    }
}

/// Never over budget, never a line that is not there, never one twice.
pub fn excerpt(data: &[u8]) {
    let (budget, data) =
        data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first) * 8, rest));
    let text = clean_text(&String::from_utf8_lossy(data)).text;
    let good = Templates::of(text.split_once('\n').map_or("", |(first, _)| first));
    let excerpt = excerpt_of(&Log { text: &text, red: &[2, 3], good: Some(&good) }, budget);
    assert!(excerpt.tokens <= budget || excerpt.lines.is_empty());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(excerpt.total_lines as usize, lines.len());
    let mut last = 0;
    for (number, line) in &excerpt.lines {
        assert!(*number > last);
        last = *number;
        assert!(lines[*number as usize - 1].starts_with(line.trim_end_matches('…').trim_end()));
    }
    for number in &excerpt.repeats {
        let repeated = lines[*number as usize - 1].trim();
        // Blank lines between repetitions are counted with them.
        if repeated.is_empty() {
            continue;
        }
        assert!(
            excerpt.lines.iter().any(|(_, line)| repeated.starts_with(line.trim_end_matches('…').trim()))
        );
    }
    let streamed = Lines::read(data, None, &mut Redactor::new()).unwrap();
    assert!(of_lines(&streamed, budget).tokens <= budget.max(64));
}

/// Lines stay lines; what was replaced is not replaced again.
pub fn redact(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let redacted = Redactor::new().redact(&text);
    assert_eq!(redacted.split('\n').count(), text.split('\n').count());
    let mut second = Redactor::new();
    let again = second.redact(&redacted);
    assert_eq!(again.split('\n').count(), redacted.split('\n').count());
    // A secret put in stays out, whatever stands around it, as long as it stands on a line of its own.
    let secret = format!("gh{}_{}", "p", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8");
    if !text.contains(&secret) {
        let with = format!("{redacted}\ntoken {secret} used\n");
        assert!(!Redactor::new().redact(&with).contains(&secret));
    }
}

/// Shifting a log by lines that say nothing does not panic, and the same log gives the same fingerprint.
pub fn fingerprint(data: &[u8]) {
    let text = clean_text(&String::from_utf8_lossy(data)).text;
    let signatures = SignatureSet::default();
    let of = |text: &str| {
        fingerprint_of(&FingerprintInput {
            log: Some(Log::plain(text)),
            events: None,
            pod: None,
            signatures: &signatures,
        })
    };
    assert_eq!(of(&text), of(&text));
    assert_eq!(of(&text).0.len(), 24);
}
