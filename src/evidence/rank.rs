//! Estimates the probability that each line helps to explain why the run failed.
//!
//! Uses a forest of small regression trees over the features of the line, its rarity in the log, its position and its
//! neighbors. The forest was fitted by gradient boosting (Friedman, "Greedy Function Approximation", 2001) on failed CI
//! logs in which people labeled the failing part (Brandt et al., "LogChunks", MSR 2020). Each log was also used cut off
//! after the failure, so that the text after it is not required. The features contain no project-specific words, only
//! categories of words and shapes.

use super::lexicon::kind;
use super::line_features::{LineFeatures, mark};
use super::lines::Lines;
use std::sync::LazyLock;

/// Number of features per line.
pub const FEATURES: usize = kind::COUNT as usize + (mark::COUNT - 1) as usize + NUMBERS;
/// Number of numeric features, after the bit features.
const NUMBERS: usize = 60;
/// Distance that represents "none".
const FAR: u32 = 4_000;
/// Number of lines on each side that are searched for signs of failure.
const NEAR: usize = 30;
/// Number of lines at the end of a log that are always ranked.
const TAIL: usize = 300;

/// Severity above which a line has a minimum probability, and the probability per tenth above it.
const FLOOR: (u8, f32) = (30, 0.006);
/// Log length in lines up to which the forest is reliable, and the probability per tenth in longer logs.
const LONG: (u32, f32) = (15_000, 0.03);
/// Number of trees after which evaluation stops if the sum is below the given value.
const GIVE_UP: (usize, f32) = (30, -3.5);

/// The fitted trees, one per line: `feature:threshold:left:right` for a branch (values up to the threshold go left),
/// `=value` for a leaf.
static FOREST: LazyLock<Forest> = LazyLock::new(|| {
    let mut forest = Forest { nodes: Vec::new(), roots: Vec::new() };
    for tree in include_str!("forest.txt").lines() {
        let root = u32::try_from(forest.nodes.len()).expect("a small forest");
        forest.roots.push(root);
        forest.nodes.extend(tree.split(' ').map(|text| node(text, root)));
    }
    forest
});

struct Forest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Feature index; `u32::MAX` for a leaf.
    feature: u32,
    /// Threshold of a branch, or score of a leaf.
    value: f32,
    /// Next nodes: for values up to the threshold, and above it.
    next: [u32; 2],
}

fn node(text: &str, root: u32) -> Node {
    if let Some(value) = text.strip_prefix('=') {
        return Node {
            feature: u32::MAX,
            value: value.parse().expect("a number of the forest"),
            next: [0; 2],
        };
    }
    let mut parts = text.split(':');
    let mut part = || parts.next().expect("a part of the forest");
    let feature = part().parse().expect("a feature");
    let value = part().parse().expect("a threshold");
    let mut branch = || root + part().parse::<u32>().expect("a branch");
    Node { feature, value, next: [branch(), branch()] }
}

impl Forest {
    fn score(&self, features: &[f32; FEATURES]) -> f32 {
        let mut sum = 0.0;
        for (index, root) in self.roots.iter().enumerate() {
            let mut node = &self.nodes[*root as usize];
            while node.feature != u32::MAX {
                let above = features[node.feature as usize] > node.value;
                node = &self.nodes[node.next[usize::from(above)] as usize];
            }
            sum += node.value;
            if index == GIVE_UP.0 && sum < GIVE_UP.1 {
                break;
            }
        }
        1.0 / (1.0 + (-sum).exp())
    }
}

/// Returns, for each line in memory, the probability in 0..1 that it explains the failure.
#[must_use]
pub fn rank(lines: &Lines) -> Vec<f32> {
    let context = Context::of(lines);
    let looks = lines.looks();
    let chance = |index: usize| {
        if !context.candidate(index) {
            return 0.0;
        }
        let chance = FOREST.score(&context.features(index)).max(floor(
            &looks[index],
            lines.count(index),
            lines.total(),
        ));
        // The last successful run printed the same line, so it is unlikely to be the cause.
        if looks[index].is(mark::GOOD_LOG) { chance * 0.1 } else { chance }
    };
    (0..lines.len()).map(chance).collect()
}

/// Minimum probability of a line that names a failure and occurs at most twice, independent of its position. The forest was
/// fitted on logs of thousands of lines and underestimates positions it has not seen.
fn floor(look: &LineFeatures, count: u32, total: u32) -> f32 {
    if count > 2 || look.is(mark::IN_NAME | mark::ZERO_FAIL) || look.has(kind::WARNING) {
        return 0.0;
    }
    let tenth = if total > LONG.0 { LONG.1 } else { FLOOR.1 };
    (f32::from(look.weight.saturating_sub(FLOOR.0)) * tenth).min(0.95)
}

/// Returns index and features of each candidate line, for fitting the forest.
#[must_use]
pub fn features(lines: &Lines) -> Vec<(usize, [f32; FEATURES])> {
    let context = Context::of(lines);
    let candidates = (0..lines.len()).filter(|&index| context.candidate(index));
    candidates.map(|index| (index, context.features(index))).collect()
}

/// Lines between blank lines.
struct Paragraph {
    first: usize,
    /// Index after the last line.
    end: usize,
    /// Highest severity of a line.
    heaviest: f32,
    /// Mean severity.
    mean: f32,
}

/// Properties of the whole log, computed before its lines are ranked.
struct Context<'a> {
    lines: &'a Lines,
    looks: &'a [LineFeatures],
    /// Prefix sums of severities and of red lines.
    weights: Vec<u32>,
    reds: Vec<u32>,
    /// Number of lines with a severity above the index.
    heavier: [u32; 256],
    /// Distances in lines: to the next and from the previous failed exit, to the next successful exit, from the last command,
    /// and from the last two consecutive blank lines.
    to_exit: Vec<u32>,
    from_exit: Vec<u32>,
    to_good: Vec<u32>,
    from_shell: Vec<u32>,
    from_gap: Vec<u32>,
    /// Number of non-blank lines until the next failed exit.
    texts_to_exit: Vec<u32>,
    exits: usize,
    last_exit: Option<usize>,
    /// The paragraphs, and the paragraph of each line.
    paragraphs: Vec<Paragraph>,
    paragraph: Vec<u32>,
    /// Number of occurrences of a line's template up to the line.
    nth: Vec<u32>,
    /// Consecutive lines of one template: length of the run, and position within it.
    runs: Vec<(u32, u32)>,
}

impl<'a> Context<'a> {
    fn of(lines: &'a Lines) -> Self {
        let looks = lines.looks();
        let count = looks.len();
        let exits = looks.iter().filter(|look| look.is(mark::EXIT_BAD)).count();
        let mut heavier = [0u32; 256];
        for look in looks {
            heavier[usize::from(look.weight)] += 1;
        }
        // Convert counts per severity to counts of higher severities.
        let mut above = 0;
        for slot in heavier.iter_mut().rev() {
            above += std::mem::replace(slot, above);
        }
        let mut nth = Vec::with_capacity(count);
        let mut met: std::collections::HashMap<u64, u32> = std::collections::HashMap::new();
        for look in looks {
            let times = met.entry(look.template).or_default();
            *times += 1;
            nth.push(*times);
        }
        let gap =
            |index: usize| looks[index].is(mark::BLANK) && index > 0 && looks[index - 1].is(mark::BLANK);
        let (paragraphs, paragraph) = paragraphs(looks);
        Self {
            lines,
            looks,
            weights: sums(looks, |look| u32::from(look.weight)),
            reds: sums(looks, |look| u32::from(look.is(mark::RED))),
            heavier,
            to_exit: distances((0..count).rev(), |index| looks[index].is(mark::EXIT_BAD), FAR),
            from_exit: distances(0..count, |index| looks[index].is(mark::EXIT_BAD), FAR),
            to_good: distances((0..count).rev(), |index| looks[index].is(mark::EXIT_GOOD), FAR),
            from_shell: distances(0..count, |index| looks[index].is(mark::SHELL), FAR),
            from_gap: distances(0..count, gap, 500),
            texts_to_exit: texts_to_exit(looks),
            exits,
            last_exit: looks.iter().rposition(|look| look.is(mark::EXIT_BAD)),
            paragraphs,
            paragraph,
            nth,
            runs: runs(looks),
        }
    }

    /// Whether the line's neighbors or its position suggest a failure.
    fn candidate(&self, index: usize) -> bool {
        if self.looks[index].is(mark::BLANK) {
            return false;
        }
        let (from, to) = self.window(index, NEAR, NEAR);
        // At least one line of some severity, or several with hints.
        self.weights[to] - self.weights[from] >= 10
            || index + TAIL >= self.looks.len()
            || self.to_exit[index] < 100
    }

    fn window(&self, index: usize, before: usize, after: usize) -> (usize, usize) {
        (index.saturating_sub(before), (index + after + 1).min(self.looks.len()))
    }

    fn features(&self, index: usize) -> [f32; FEATURES] {
        let mut features = Filling { values: [0.0; FEATURES], at: 0 };
        let look = &self.looks[index];
        for bit in 0..kind::COUNT {
            features.flag(look.kinds >> bit & 1 == 1);
        }
        for bit in 0..mark::COUNT - 1 {
            features.flag(look.marks >> bit & 1 == 1);
        }
        self.of_line(index, &mut features);
        self.of_place(index, &mut features);
        self.of_neighbours(index, &mut features);
        debug_assert_eq!(features.at, FEATURES);
        features.values
    }

    fn of_line(&self, index: usize, features: &mut Filling) {
        let look = &self.looks[index];
        features.log(u32::from(look.words));
        features.log(u32::from(look.length));
        for share in [look.indent, look.digits, look.punctuation, look.upper, look.weight] {
            features.number(f32::from(share));
        }
        features.log(self.lines.count(index));
        features.log(self.nth[index]);
        features.flag(self.nth[index] == 1);
        features.log(self.runs[index].0);
        features.log(self.runs[index].1);
        features.log(self.heavier[usize::from(look.weight)]);
    }

    fn of_place(&self, index: usize, features: &mut Filling) {
        let count = self.looks.len();
        #[expect(clippy::cast_precision_loss, reason = "indices are far below 2^24")]
        features.number(index as f32 / count as f32);
        features.log_of(count);
        features.log_of(count - 1 - index);
        for distance in [&self.to_exit, &self.from_exit, &self.to_good, &self.from_shell, &self.from_gap] {
            features.log(distance[index]);
        }
        features.log(self.texts_to_exit[index]);
        features.log_of(self.exits.min(20));
        features.flag(self.last_exit.is_some_and(|last| index > last));
        let all = self.weights[count].max(1);
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
        features.number(self.weights[index] as f32 / all as f32);
        let Paragraph { first, end, heaviest, mean } = self.paragraphs[self.paragraph[index] as usize];
        features.log_of(end - first);
        features.log_of(index - first);
        features.log_of(end - 1 - index);
        features.number(heaviest);
        features.number(mean);
    }

    fn of_neighbours(&self, index: usize, features: &mut Filling) {
        let look = &self.looks[index];
        let before = |distance: usize| index.checked_sub(distance).map(|at| &self.looks[at]);
        let after = |distance: usize| self.looks.get(index + distance);
        for near in [before(1), before(2), before(3), after(1), after(2), after(3)] {
            features.number(near.map_or(0.0, |near| f32::from(near.weight)));
        }
        for near in [before(1), after(1)] {
            features.number(near.map_or(0.0, |near| f32::from(near.indent) - f32::from(look.indent)));
            features.flag(near.is_some_and(|near| near.template == look.template));
            features.flag(near.is_some_and(|near| near.is(mark::BLANK)));
        }
        let heaviest =
            |range: &[LineFeatures]| range.iter().map(|look| look.weight).max().map_or(0.0, f32::from);
        let any = |range: &[LineFeatures], marks: u64| range.iter().any(|look| look.is(marks));
        let all = self.looks;
        let (from5, to5) = self.window(index, 5, 5);
        let (from20, to20) = self.window(index, 20, 20);
        let (from3, to3) = self.window(index, 3, 3);
        features.number(heaviest(&all[from5..index]));
        features.number(heaviest(&all[index + 1..to5]));
        features.number(heaviest(&all[from20..index]));
        features.number(heaviest(&all[index + 1..to20]));
        features.sum(self.weights[to20] - self.weights[from20]);
        features.sum(self.reds[to20] - self.reds[from20]);
        features.flag(any(&all[from3..index], mark::FRAME));
        features.flag(any(&all[index + 1..to3], mark::FRAME));
        features.flag(any(&all[index + 1..to3], mark::UNDERLINE));
        features.flag(any(&all[from5..index], mark::LOCATION));
        features.flag(any(&all[index + 1..to5], mark::LOCATION));
        features.flag(any(&all[from5..index], mark::TICK));
        let many = |range: &[LineFeatures], kinds: u32| range.iter().filter(|look| look.has(kinds)).count();
        for kinds in [kind::GOOD, kind::PROGRESS, kind::TEST] {
            features.count(many(&all[from5..index], kinds));
            features.count(many(&all[index + 1..to5], kinds));
        }
    }
}

/// Writes features in order.
struct Filling {
    values: [f32; FEATURES],
    at: usize,
}

impl Filling {
    fn number(&mut self, value: f32) {
        self.values[self.at] = value;
        self.at += 1;
    }

    fn flag(&mut self, holds: bool) {
        self.number(if holds { 1.0 } else { 0.0 });
    }

    /// Binary logarithm, rounded down to half steps: finer steps make no difference, and this needs no floating-point
    /// logarithm.
    fn log(&mut self, value: u32) {
        let value = value + 1;
        let whole = value.ilog2();
        let half = whole > 0 && value >> (whole - 1) & 1 == 1;
        #[expect(clippy::cast_precision_loss, reason = "at most 32")]
        self.number(whole as f32 + if half { 0.5 } else { 0.0 });
    }

    fn log_of(&mut self, value: usize) {
        self.log(u32::try_from(value).unwrap_or(u32::MAX - 1));
    }

    #[expect(clippy::cast_precision_loss, reason = "sums of a few dozen small numbers")]
    fn sum(&mut self, value: u32) {
        self.number(value as f32);
    }

    fn count(&mut self, value: usize) {
        self.sum(u32::try_from(value).unwrap_or(u32::MAX));
    }
}

/// Returns prefix sums; one element longer than `looks`.
fn sums(looks: &[LineFeatures], of: impl Fn(&LineFeatures) -> u32) -> Vec<u32> {
    let mut sum = 0u32;
    let mut sums = Vec::with_capacity(looks.len() + 1);
    sums.push(0);
    for look in looks {
        sum = sum.saturating_add(of(look));
        sums.push(sum);
    }
    sums
}

/// Distance in lines from the last line that matches `is`, in the order of `indices`.
fn distances(
    indices: impl ExactSizeIterator<Item = usize>,
    is: impl Fn(usize) -> bool,
    none: u32,
) -> Vec<u32> {
    let mut distances = vec![none; indices.len()];
    let mut distance = none;
    for index in indices {
        distance = if is(index) { 0 } else { (distance + 1).min(none) };
        distances[index] = distance;
    }
    distances
}

fn texts_to_exit(looks: &[LineFeatures]) -> Vec<u32> {
    let mut texts = vec![FAR; looks.len()];
    let mut count = FAR;
    for (index, look) in looks.iter().enumerate().rev() {
        if look.is(mark::EXIT_BAD) {
            count = 0;
        }
        texts[index] = count;
        count = (count + u32::from(!look.is(mark::BLANK))).min(FAR);
    }
    texts
}

/// Returns the paragraphs, and the paragraph of each line.
fn paragraphs(looks: &[LineFeatures]) -> (Vec<Paragraph>, Vec<u32>) {
    let mut paragraphs = Vec::new();
    let mut of_line = Vec::with_capacity(looks.len());
    let mut first = 0;
    for paragraph in looks.split(|look| look.is(mark::BLANK)) {
        let number = u32::try_from(paragraphs.len()).unwrap_or(u32::MAX);
        let end = first + paragraph.len();
        if !paragraph.is_empty() {
            let heaviest = paragraph.iter().map(|look| look.weight).max().map_or(0.0, f32::from);
            let sum: u32 = paragraph.iter().map(|look| u32::from(look.weight)).sum();
            #[expect(clippy::cast_precision_loss, reason = "a mean needs no more")]
            let mean = sum as f32 / paragraph.len() as f32;
            paragraphs.push(Paragraph { first, end, heaviest, mean });
            of_line.resize(end, number);
        }
        // Blank lines are never looked up.
        of_line.resize((end + 1).min(looks.len()), number);
        first = end + 1;
    }
    (paragraphs, of_line)
}

/// Returns, for each line, the length of its run of equal templates and its position in the run.
fn runs(looks: &[LineFeatures]) -> Vec<(u32, u32)> {
    let mut runs = Vec::with_capacity(looks.len());
    for run in looks.chunk_by(|one, other| one.template == other.template) {
        let length = u32::try_from(run.len()).unwrap_or(u32::MAX);
        runs.extend((0..length).map(|nth| (length, nth)));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forest_is_whole() {
        assert!(FOREST.roots.len() >= 50, "{} trees", FOREST.roots.len());
        for (at, node) in FOREST.nodes.iter().enumerate().filter(|(_, node)| node.feature != u32::MAX) {
            assert!((node.feature as usize) < FEATURES, "node {at}");
            assert!(
                node.next.iter().all(|next| *next as usize > at && (*next as usize) < FOREST.nodes.len()),
                "node {at}"
            );
        }
    }

    #[test]
    fn the_reason_ranks_above_what_only_sounds_like_it() {
        let log = "$ make\nCompiling error-chain v0.12\ncargo test --no-fail-fast\ntest result: ok. 12 passed; 0 failed\n\
                   building\nsrc/main.rs:10:5: error: mismatched types\n  expected u8, found u16\nmake: *** [all] Error 1\n";
        let lines = Lines::of(log, &[], None);
        let ranks = rank(&lines);
        let best = (0..ranks.len()).max_by(|&a, &b| ranks[a].total_cmp(&ranks[b])).unwrap();
        assert!((5..=6).contains(&best), "{ranks:?}");
        for harmless in [1, 2, 3] {
            assert!(ranks[harmless] < ranks[5] - 0.3, "{ranks:?}");
        }
    }

    #[test]
    fn what_the_last_good_run_said_too_counts_less() {
        let good =
            super::super::lines::Templates::of("warning: error reporting failed to start 12\nall good\n");
        let log =
            "warning: error reporting failed to start 99\nerror: cannot open the store\nexit status 1\n";
        let (with, without) = (Lines::of(log, &[], Some(&good)), Lines::of(log, &[], None));
        assert!(rank(&with)[0] < rank(&without)[0] / 2.0);
        assert!(rank(&with)[1] > rank(&with)[0]);
    }

    #[test]
    fn logarithms_are_steps_of_a_half() {
        let mut filling = Filling { values: [0.0; FEATURES], at: 0 };
        for value in [0, 1, 2, 3, 5, 6, 7, 1023] {
            filling.log(value);
        }
        assert_eq!(filling.values[..8], [0.0, 1.0, 1.5, 2.0, 2.5, 2.5, 3.0, 10.0]);
    }
}
