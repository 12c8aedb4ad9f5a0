//! Selects the lines that explain a failure, within a token budget, with line numbers and marks for omitted lines.

use super::lexicon::kind;
use super::line_features::{LineFeatures, mark};
use super::lines::{Lines, Templates};
use super::rank::rank;
use super::tokens;
use crate::clock::{Deadline, DeadlinePassed};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// Maximum length in bytes of a line in an excerpt.
const MAX_LINE: usize = 260;
/// Interval of printed line numbers; the first line of each block also has its number.
const NUMBER_EVERY: u32 = 10;
/// Decay per line and maximum distance of a likely line's influence on lines near it.
const NEARNESS: (f32, usize) = (0.88, 8);
/// Estimated tokens of a mark for omitted lines, and of the line number at the start of a block.
const MARK: usize = 10;
/// Maximum length in lines of a gap that is shown instead of marked.
const SMALL_GAP: usize = 3;
/// Maximum bytes per token for which a complete rendering is attempted.
const ESTIMATE: usize = 4;

/// A log and its metadata.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// Cleaned text.
    pub text: &'a str,
    /// Numbers of red lines, ascending.
    pub red: &'a [u32],
    /// Line templates of the last successful run of the same job.
    pub good: Option<&'a Templates>,
}

impl<'a> Log<'a> {
    /// Creates a log without metadata.
    #[must_use]
    pub fn plain(text: &'a str) -> Self {
        Self { text, red: &[], good: None }
    }
}

/// A selected part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Number, from 1, and displayed text of each line.
    pub lines: Vec<(u32, String)>,
    /// Numbers of omitted lines that are identical to a line shown before.
    pub repeats: Vec<u32>,
    /// Number of lines in the whole log.
    pub total_lines: u32,
    /// Number of tokens in [`Excerpt::text`].
    pub tokens: usize,
    /// Rendered text: `4207: text`, subsequent lines indented by one space, and `… 1,204 lines …` for omitted lines.
    pub text: String,
}

impl Excerpt {
    /// Returns the first and last line of each contiguous block, including repeated lines.
    #[must_use]
    pub fn spans(&self) -> Vec<(u32, u32)> {
        let mut numbers: Vec<u32> = self.lines.iter().map(|(number, _)| *number).collect();
        numbers.extend(&self.repeats);
        numbers.sort_unstable();
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => spans.push((number, number)),
            }
        }
        spans
    }

    /// Returns [`Excerpt::text`] with a number on every line: `4207: text`.
    #[must_use]
    pub fn numbered(&self) -> String {
        let mut shown = self.lines.iter();
        let mut text = String::with_capacity(self.text.len() + self.lines.len() * 6);
        for line in self.text.lines() {
            // A displayed line starts with its number or a space.
            match shown.as_slice().first() {
                Some((number, line_shown)) if !line.starts_with('…') => {
                    let _ = writeln!(text, "{number}: {line_shown}");
                    shown.next();
                }
                _ => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }
}

/// Excerpts a log into at most `max_tokens` tokens.
#[must_use]
pub fn excerpt(log: &Log<'_>, max_tokens: usize) -> Excerpt {
    of_lines(&Lines::of(log.text, log.red, log.good), max_tokens)
}

/// Like [`excerpt`], but stops when the deadline has passed.
///
/// # Errors
/// The deadline has passed.
pub fn excerpt_within(
    log: &Log<'_>,
    max_tokens: usize,
    deadline: &Deadline,
) -> Result<Excerpt, DeadlinePassed> {
    let lines = Lines::within(log.text, log.red, log.good, deadline)?;
    deadline.check()?;
    Ok(of_lines(&lines, max_tokens))
}

/// Like [`excerpt`], for lines that are already parsed.
#[must_use]
pub fn of_lines(lines: &Lines, max_tokens: usize) -> Excerpt {
    let bytes: usize = (0..lines.len()).map(|index| lines.text(index).len().min(MAX_LINE) + 1).sum();
    if lines.is_whole() && bytes <= max_tokens * ESTIMATE {
        let whole = render(lines, &Kept { shown: vec![true; lines.len()], repeat: vec![false; lines.len()] });
        if whole.tokens <= max_tokens {
            return whole;
        }
    }
    let order = order(&rank(lines));
    let mut chosen = Chooser { lines, picked: Vec::new() };
    chosen.choose(&order, max_tokens);
    let mut excerpt = render(lines, &chosen.kept());
    // Cost estimates are high, so spend the remaining budget in a second pass.
    if excerpt.tokens * 33 < max_tokens * 32 {
        chosen.choose(&order, max_tokens + (max_tokens - excerpt.tokens));
        excerpt = render(lines, &chosen.kept());
    }
    while excerpt.tokens > max_tokens && !chosen.picked.is_empty() {
        // Drop the lines chosen last.
        let over = (excerpt.tokens - max_tokens) * chosen.picked.len() / excerpt.tokens;
        chosen.picked.truncate(chosen.picked.len() - (over + 1).min(chosen.picked.len()));
        excerpt = render(lines, &chosen.kept());
    }
    excerpt
}

/// Orders lines by value. Each line gains from likely lines near it, because an explanation often spans several lines.
fn order(chances: &[f32]) -> Vec<usize> {
    let mut near = chances.to_vec();
    for distance in 1..=NEARNESS.1.min(chances.len().saturating_sub(1)) {
        let decay = NEARNESS.0.powi(i32::try_from(distance).unwrap_or(i32::MAX));
        for index in distance..chances.len() {
            near[index] = near[index].max(chances[index - distance] * decay);
            near[index - distance] = near[index - distance].max(chances[index] * decay);
        }
    }
    let worth: Vec<f32> = chances.iter().zip(&near).map(|(own, near)| own + near).collect();
    let mut order: Vec<usize> = (0..chances.len()).collect();
    // Prefer the later of equal lines, because the end of a log shows how the run ended.
    order.sort_by(|&a, &b| worth[b].total_cmp(&worth[a]).then(b.cmp(&a)));
    order
}

/// Lines to show, and lines to count as repetitions of a line shown before.
struct Kept {
    shown: Vec<bool>,
    repeat: Vec<bool>,
}

struct Chooser<'a> {
    lines: &'a Lines,
    /// Chosen lines, most valuable first.
    picked: Vec<usize>,
}

impl Chooser<'_> {
    fn choose(&mut self, order: &[usize], max_tokens: usize) {
        self.picked.clear();
        let count = self.lines.len();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut taken = vec![false; count];
        let mut used = MARK;
        let mut misses = 0;
        for &index in order {
            let text = self.lines.text(index);
            if text.trim().is_empty() {
                continue;
            }
            // A repetition costs nothing: it shares a mark with its neighbors.
            let own = if seen.contains(text.trim()) { 0 } else { cost(text) };
            let before = index > 0 && taken[index - 1];
            let after = index + 1 < count && taken[index + 1];
            let joins = usize::from(before) + usize::from(after);
            // A line without chosen neighbors starts a new block.
            let marks = if joins == 0 { MARK } else { 0 };
            if used + own + marks > max_tokens {
                misses += 1;
                // Later lines may be shorter, but after many misses their value is low.
                if misses > 40 {
                    break;
                }
                continue;
            }
            used += own + marks;
            if joins == 2 {
                used = used.saturating_sub(MARK);
            }
            taken[index] = true;
            seen.insert(text.trim());
            self.picked.push(index);
        }
    }

    fn kept(&self) -> Kept {
        let count = self.lines.len();
        let mut shown = vec![false; count];
        for &index in &self.picked {
            shown[index] = true;
        }
        self.fill(&mut shown);
        let mut repeat = vec![false; count];
        let mut first: HashMap<&str, usize> = HashMap::new();
        for index in (0..count).filter(|&index| shown[index]) {
            let text = self.lines.text(index).trim();
            if text.is_empty() {
                continue;
            }
            repeat[index] = *first.entry(text).or_insert(index) != index;
        }
        // A single short repetition costs less than a mark.
        for index in 0..count {
            let alone = |at: usize| at >= count || !repeat[at];
            let lonely = repeat[index] && alone(index + 1) && (index == 0 || alone(index - 1));
            if lonely && cost(self.lines.text(index)) <= MARK {
                repeat[index] = false;
            }
        }
        // Blank lines between repetitions count as repetitions.
        for index in 1..count {
            let blank = |at: usize| self.lines.text(at).trim().is_empty();
            if shown[index] && repeat[index - 1] && blank(index) {
                repeat[index] = (index + 1..count).find(|&at| !blank(at)).is_some_and(|next| repeat[next]);
            }
        }
        for index in 0..count {
            shown[index] = shown[index] && !repeat[index];
        }
        Kept { shown, repeat }
    }

    /// Shows gaps that cost less than a mark.
    fn fill(&self, shown: &mut [bool]) {
        let kept: Vec<usize> = (0..shown.len()).filter(|&index| shown[index]).collect();
        for pair in kept.windows(2) {
            let gap = pair[0] + 1..pair[1];
            let whole = self.lines.number(pair[1]) - self.lines.number(pair[0]) == gap.len() as u32 + 1;
            let cost: usize = gap.clone().map(|index| cost(self.lines.text(index))).sum();
            if whole && gap.len() <= SMALL_GAP && cost <= MARK {
                shown[gap].fill(true);
            }
        }
    }
}

/// Estimates the tokens of a displayed line without its number.
fn cost(text: &str) -> usize {
    tokens::count(shorten(text)) + 1
}

fn shorten(line: &str) -> &str {
    &line[..line.floor_char_boundary(MAX_LINE)]
}

fn render(lines: &Lines, kept: &Kept) -> Excerpt {
    let mut text = String::new();
    let mut shown = Vec::new();
    let mut repeats = Vec::new();
    // First line number not yet rendered, its index, and whether the previous line was shown.
    let (mut next, mut from, mut running) = (1, 0, false);
    let mut index = 0;
    while index < lines.len() {
        if !kept.shown[index] && !kept.repeat[index] {
            index += 1;
            continue;
        }
        let number = lines.number(index);
        if number > next {
            gap(&mut text, lines, from..index, number - next);
            running = false;
        }
        if kept.repeat[index] {
            let mut end = index + 1;
            while end < lines.len() && kept.repeat[end] && lines.number(end) == lines.number(end - 1) + 1 {
                end += 1;
            }
            repeats.extend((index..end).map(|at| lines.number(at)));
            let verb = if end - index == 1 { "repeats" } else { "repeat" };
            let _ = writeln!(text, "… {} that {verb} lines above …", plural(end - index));
            (next, from, index, running) = (lines.number(end - 1) + 1, end, end, false);
            continue;
        }
        let line = lines.text(index);
        let cut = shorten(line);
        let mark = if cut.len() < line.len() { "…" } else { "" };
        if !running || number.is_multiple_of(NUMBER_EVERY) {
            let _ = writeln!(text, "{number}: {cut}{mark}");
        } else {
            let _ = writeln!(text, " {cut}{mark}");
        }
        shown.push((number, format!("{cut}{mark}")));
        (next, from, index, running) = (number + 1, index + 1, index + 1, true);
    }
    if lines.total() >= next {
        gap(&mut text, lines, from..lines.len(), lines.total() + 1 - next);
    }
    let tokens = tokens::count(&text);
    Excerpt { lines: shown, repeats, total_lines: lines.total(), tokens, text }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{} lines", thousands(count)) }
}

fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `… 1,204 lines (downloads) …`
fn gap(text: &mut String, lines: &Lines, left_out: std::ops::Range<usize>, count: u32) {
    let what = about(lines, left_out).map_or(String::new(), |what| format!(" ({what})"));
    let _ = writeln!(text, "… {}{what} …", plural(count as usize));
}

/// Describes the majority of the omitted lines, if possible.
fn about(lines: &Lines, range: std::ops::Range<usize>) -> Option<&'static str> {
    let looks = lines.looks().get(range)?;
    let texts = looks.iter().filter(|look| !look.is(mark::BLANK));
    let count = texts.clone().count();
    if count < 8 {
        return None;
    }
    type Test = fn(&LineFeatures) -> bool;
    let most = |is: Test| texts.clone().filter(|look| is(look)).count() * 10 > count * 6;
    let kinds: [(&'static str, Test); 5] = [
        ("as in the last good run", |look| look.is(mark::GOOD_LOG)),
        ("stack frames", |look| look.is(mark::FRAME)),
        ("warnings", |look| look.has(kind::WARNING)),
        ("what went well", |look| look.has(kind::GOOD) || look.is(mark::TICK)),
        ("progress", |look| look.has(kind::PROGRESS) || look.is(mark::PERCENT)),
    ];
    kinds.into_iter().find(|(_, is)| most(*is)).map(|(what, _)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cause_in_the_middle_survives_noise_after_it() {
        let mut log = String::new();
        for n in 0..4_000 {
            log.push_str(&format!("Downloading package {n} of many from the mirror\n"));
        }
        log.push_str("error[E0308]: mismatched types\n  --> src/main.rs:10:5\n");
        for n in 0..4_000 {
            log.push_str(&format!("cleanup of layer {n} done\n"));
        }
        let excerpt = excerpt(&Log::plain(&log), 500);
        assert!(excerpt.tokens <= 500);
        assert!(excerpt.text.contains("error[E0308]"), "{}", excerpt.text);
        assert!(
            excerpt.lines.iter().any(|(number, line)| *number == 4_001 && line.starts_with("error[E0308]"))
        );
        assert!(excerpt.text.contains(" lines (progress) …"), "{}", excerpt.text);
    }

    #[test]
    fn the_cause_survives_a_hundred_thousand_lines_after_it() {
        let mut log = String::new();
        for n in 0..150_000 {
            log.push_str(&format!("worker-{} copied the object {n:x} in {} ms\n", n % 90, n % 700));
            if n == 40_000 {
                log.push_str("error: cannot write /data/out: No space left on device (os error 28)\n");
            }
        }
        let excerpt = excerpt(&Log::plain(&log), 600);
        assert!(excerpt.tokens <= 600 && excerpt.total_lines == 150_001);
        let kept =
            |(number, line): &(u32, String)| *number == 40_002 && line.starts_with("error: cannot write");
        assert!(excerpt.lines.iter().any(kept), "{}", excerpt.text);
    }

    #[test]
    fn repeated_lines_are_counted_not_shown() {
        let line = "fatal: the connection to the broker was refused by its host";
        let log = format!("start\n{}done\n", format!("{line}\n").repeat(400));
        let excerpt = excerpt(&Log::plain(&log), 200);
        assert!(excerpt.tokens <= 200);
        assert_eq!(excerpt.text.matches(line).count(), 1, "{}", excerpt.text);
        assert!(excerpt.text.contains("… 399 lines that repeat lines above …"), "{}", excerpt.text);
        assert_eq!(excerpt.spans(), [(1, 402)]);
    }

    #[test]
    fn a_short_log_is_shown_whole_with_numbers() {
        let log: String = (1..=12).map(|n| format!("line {n}\n")).collect();
        let excerpt = excerpt(&Log::plain(&log), 1_000);
        assert_eq!(excerpt.lines.len(), 12);
        assert!(excerpt.text.starts_with("1: line 1\n line 2\n"), "{}", excerpt.text);
        assert!(excerpt.text.contains("\n10: line 10\n line 11\n"), "{}", excerpt.text);
        let numbered: String = (1..=12).map(|n| format!("{n}: line {n}\n")).collect();
        assert_eq!(excerpt.numbered(), numbered);
    }

    proptest! {
        #[test]
        fn never_over_budget_and_never_invented(text in "([a-z é:/]{0,40}(error|0|x)?\n){0,120}", budget in 20usize..400) {
            let excerpt = excerpt(&Log::plain(&text), budget);
            prop_assert!(excerpt.tokens <= budget || excerpt.lines.is_empty());
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in &excerpt.lines {
                prop_assert_eq!(lines[*number as usize - 1].trim_end(), line.as_str());
            }
            prop_assert_eq!(excerpt.total_lines as usize, lines.len());
            let (plain, numbered) = (excerpt.text.clone(), excerpt.numbered());
            prop_assert_eq!(plain.lines().count(), numbered.lines().count());
            for (number, line) in &excerpt.lines {
                let shown = format!("{number}: {line}");
                prop_assert!(numbered.lines().any(|told| told == shown));
            }
        }
    }
}
