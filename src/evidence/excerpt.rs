//! Keeps the lines that tell why, within a token budget, with line numbers and marks for what was left out.

use super::template;
use super::tokens;
use super::weight::{self, NOTABLE};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines of context kept with a notable line: before, after.
const CONTEXT: (usize, usize) = (2, 6);
/// Characters of a line that an excerpt shows.
const MAX_LINE: usize = 400;

/// How to excerpt.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Share of the budget for the end of the log, in percent.
    pub tail_percent: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { tail_percent: 60 }
    }
}

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Line numbers from 1, and the lines.
    pub lines: Vec<(u32, String)>,
    /// Lines of the whole text.
    pub total_lines: u32,
    /// Tokens of [`Excerpt::render`].
    pub tokens: usize,
}

impl Excerpt {
    /// First and last line of each run of kept lines.
    #[must_use]
    pub fn spans(&self) -> Vec<(u32, u32)> {
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for (number, _) in &self.lines {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => spans.push((*number, *number)),
            }
        }
        spans
    }

    /// `4207: text`, with `… 1204 lines left out …` where something is missing.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut next = 1;
        for (number, line) in &self.lines {
            gap(&mut text, next, *number);
            let _ = writeln!(text, "{number}: {line}");
            next = number + 1;
        }
        gap(&mut text, next, self.total_lines + 1);
        text
    }
}

fn gap(text: &mut String, from: u32, to: u32) {
    match to - from {
        0 => {}
        1 => text.push_str("… 1 line left out …\n"),
        count => {
            let _ = writeln!(text, "… {count} lines left out …");
        }
    }
}

/// Excerpts a text into at most `max_tokens` tokens of its rendered form.
#[must_use]
pub fn excerpt(text: &str, max_tokens: usize, options: &Options) -> Excerpt {
    let lines: Vec<&str> = text.lines().collect();
    let total_lines = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let whole = |kept: &[usize]| Excerpt {
        lines: kept
            .iter()
            .map(|&index| (u32::try_from(index + 1).unwrap_or(u32::MAX), shorten(lines[index])))
            .collect(),
        total_lines,
        tokens: 0,
    };
    let all: Vec<usize> = (0..lines.len()).collect();
    if tokens::estimate(text) + lines.len() * 4 <= max_tokens {
        let excerpt = counted(whole(&all));
        if excerpt.tokens <= max_tokens {
            return excerpt;
        }
    }
    let order = ranked(&lines, max_tokens, options);
    let mut kept = choose(&lines, &order, max_tokens);
    loop {
        let mut sorted = kept.clone();
        sorted.sort_unstable();
        let excerpt = counted(whole(&sorted));
        if excerpt.tokens <= max_tokens || kept.is_empty() {
            return excerpt;
        }
        // The estimate was too small here: give up the least of what was chosen.
        let over = (excerpt.tokens - max_tokens) * kept.len() / excerpt.tokens.max(1);
        kept.truncate(kept.len().saturating_sub(over.max(1)));
    }
}

fn counted(mut excerpt: Excerpt) -> Excerpt {
    excerpt.tokens = tokens::count(&excerpt.render());
    excerpt
}

fn shorten(line: &str) -> String {
    if line.len() <= MAX_LINE {
        return line.to_owned();
    }
    let head: String = line.chars().take(MAX_LINE).collect();
    if head.len() < line.len() { format!("{head}…") } else { head }
}

/// Lines in the order they are worth keeping.
fn ranked(lines: &[&str], max_tokens: usize, options: &Options) -> Vec<usize> {
    let scores = scores(lines);
    let mut order: Vec<usize> = Vec::new();
    let mut taken = vec![false; lines.len()];
    let take = |index: usize, order: &mut Vec<usize>, taken: &mut Vec<bool>| {
        if !taken[index] {
            taken[index] = true;
            order.push(index);
        }
    };
    // The end always: it says what the step ended in.
    let mut room = max_tokens * options.tail_percent / 100;
    for index in (0..lines.len()).rev() {
        let cost = cost(lines[index]);
        if cost > room {
            break;
        }
        room -= cost;
        take(index, &mut order, &mut taken);
    }
    let mut notable: Vec<usize> =
        (0..lines.len()).filter(|&index| scores[index] >= f64::from(NOTABLE)).collect();
    notable.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    for index in notable {
        let from = index.saturating_sub(CONTEXT.0);
        let to = (index + CONTEXT.1 + 1).min(lines.len());
        take(index, &mut order, &mut taken);
        for near in from..to {
            take(near, &mut order, &mut taken);
        }
    }
    for index in (0..lines.len()).rev() {
        take(index, &mut order, &mut taken);
    }
    order
}

/// Severity, raised for rare templates and for nearness to the end, lowered for repetitions.
fn scores(lines: &[&str]) -> Vec<f64> {
    let templates: Vec<u64> = lines.iter().map(|line| template::rough(line)).collect();
    let mut seen: HashMap<u64, u32> = HashMap::new();
    for template in &templates {
        *seen.entry(*template).or_default() += 1;
    }
    let mut met: HashMap<u64, u32> = HashMap::new();
    let last = lines.len().max(1);
    let mut scores = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let severity = f64::from(weight::severity(line));
        let times = seen[&templates[index]];
        let earlier = met.entry(templates[index]).or_default();
        *earlier += 1;
        let rarity = 1.0 / (1.0 + f64::from(times).ln() * 0.35);
        let repeated = if *earlier > 2 { 0.3 } else { 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "line numbers are far below 2^52")]
        let place = 0.8 + 0.4 * (index as f64 / last as f64);
        scores.push(severity * rarity * repeated * place);
    }
    scores
}

/// Tokens of a line with its number, estimated.
fn cost(line: &str) -> usize {
    tokens::estimate(&line[..line.len().min(MAX_LINE).min(floor(line))]) + 4
}

/// The last character boundary at or before the limit.
fn floor(line: &str) -> usize {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    end
}

fn choose(lines: &[&str], order: &[usize], max_tokens: usize) -> Vec<usize> {
    // Prose is cheaper than the estimate; what is too much is taken back exactly.
    let mut room = max_tokens * 3 / 2;
    let mut kept = Vec::new();
    for &index in order {
        let cost = cost(lines[index]);
        if cost > room {
            break;
        }
        room -= cost;
        kept.push(index);
    }
    kept
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
        let excerpt = excerpt(&log, 500, &Options::default());
        assert!(excerpt.tokens <= 500);
        assert!(excerpt.render().contains("4001: error[E0308]"), "{}", excerpt.render());
        assert!(excerpt.render().contains("8002: cleanup"));
    }

    proptest! {
        #[test]
        fn never_over_budget(text in "([a-z é:/]{0,40}(error|0|x)?\n){0,120}", budget in 20usize..400) {
            let excerpt = excerpt(&text, budget, &Options::default());
            prop_assert!(excerpt.tokens <= budget || excerpt.lines.is_empty());
        }
    }
}
