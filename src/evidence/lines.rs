//! Lines of a log to rank: all lines of an ordinary log, the most promising lines of a huge one, in bounded memory.

use super::clean;
use super::line_features::{self, LineFeatures, mark};
use super::redact::{Position, Redactor};
use crate::clock::{Deadline, DeadlinePassed};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead};

/// Maximum bytes of text in memory; above it, the least promising lines are dropped until at most half is used.
const MAX_BYTES: usize = 8 << 20;
/// Maximum number of lines in memory.
const MAX_LINES: usize = 80_000;
/// Number of lines at the beginning and at the end that are always kept.
const ENDS: (usize, usize) = (1_000, 5_000);
/// Number of lines kept on each side of a promising line.
const AROUND: usize = 30;
/// A template that occurs more often than this is noise.
const FREQUENT: u32 = 64;
/// Maximum number of templates to count.
const MAX_TEMPLATES: usize = 80_000;

/// Line templates of a log, used to detect lines that the last successful run also printed.
#[derive(Debug, Clone, Default)]
pub struct Templates(HashSet<u64>);

impl Templates {
    /// Collects the templates of a cleaned log.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self::within(text, &Deadline::never()).unwrap_or_default()
    }

    /// Like [`Templates::of`], but stops when the deadline has passed.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn within(text: &str, deadline: &Deadline) -> Result<Self, DeadlinePassed> {
        let mut templates = Self::default();
        for line in text.lines().take(MAX_TEMPLATES) {
            deadline.check()?;
            templates.0.insert(line_features::line_features(line, false).template);
        }
        Ok(templates)
    }

    /// Collects the templates of a log of any size and cleans it while reading.
    ///
    /// # Errors
    /// Reading fails.
    pub fn read(reader: impl BufRead) -> io::Result<Self> {
        let mut templates = Self::default();
        clean::each_line(reader, |_, line, _| {
            if templates.0.len() < MAX_TEMPLATES {
                templates.0.insert(line_features::line_features(line, false).template);
            }
        })?;
        Ok(templates)
    }
}

/// Position of a line's text in the buffer.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u32,
    from: u32,
    to: u32,
}

/// Lines with their numbers in the original log.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    places: Vec<Place>,
    looks: Vec<LineFeatures>,
    templates: HashMap<u64, u32>,
    total: u32,
    /// Whether lines were dropped.
    thinned: bool,
}

impl Lines {
    /// Parses a cleaned text; `red` contains the numbers of its red lines, ascending.
    #[must_use]
    pub fn of(text: &str, red: &[u32], good: Option<&Templates>) -> Self {
        Self::within(text, red, good, &Deadline::never()).unwrap_or_default()
    }

    /// Like [`Lines::of`], but stops when the deadline has passed.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn within(
        text: &str,
        red: &[u32],
        good: Option<&Templates>,
        deadline: &Deadline,
    ) -> Result<Self, DeadlinePassed> {
        let mut lines = Self::default();
        let mut red = red.iter().copied().peekable();
        for (number, line) in (1..).zip(text.lines()) {
            deadline.check()?;
            let is_red = red.next_if(|next| *next <= number).is_some_and(|next| next == number);
            lines.push(number, line, is_red, good);
        }
        Ok(lines)
    }

    /// Parses a log of any size; cleans and redacts it while reading.
    ///
    /// # Errors
    /// Reading fails.
    pub fn read(reader: impl BufRead, good: Option<&Templates>, redactor: &mut Redactor) -> io::Result<Self> {
        let mut lines = Self::default();
        let mut position = Position::default();
        clean::each_line(reader, |number, line, red| {
            lines.push(number, &redactor.line(line, &mut position), red, good);
        })?;
        Ok(lines)
    }

    fn push(&mut self, number: u32, line: &str, red: bool, good: Option<&Templates>) {
        let line = line.trim_end();
        let mut look = line_features::line_features(line, red);
        if good.is_some_and(|good| good.0.contains(&look.template)) {
            look.marks |= mark::GOOD_LOG;
            look.weight /= 4;
        }
        if self.templates.len() < MAX_TEMPLATES || self.templates.contains_key(&look.template) {
            *self.templates.entry(look.template).or_default() += 1;
        }
        if self.text.len() + line.len() > MAX_BYTES || self.places.len() >= MAX_LINES {
            self.thin();
        }
        let at = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
        let from = at(self.text.len());
        self.text.push_str(line);
        self.places.push(Place { number, from, to: at(self.text.len()) });
        self.looks.push(look);
        self.total = number;
    }

    /// Drops the least promising lines until at most half of the capacity is used.
    fn thin(&mut self) {
        self.thinned = true;
        let count = self.places.len();
        for least in [10u8, 15, 20, 30, 45, 60, 90, u8::MAX] {
            let mut keep = vec![false; count];
            keep[..ENDS.0.min(count)].fill(true);
            keep[count - ENDS.1.min(count)..].fill(true);
            for (index, look) in self.looks.iter().enumerate() {
                if look.weight >= least && least < u8::MAX && self.count(index) <= FREQUENT {
                    keep[index.saturating_sub(AROUND)..(index + AROUND + 1).min(count)].fill(true);
                }
            }
            let lines = keep.iter().filter(|keep| **keep).count();
            let held = self.places.iter().zip(&keep).filter(|(_, keep)| **keep);
            let bytes: usize = held.map(|(place, _)| (place.to - place.from) as usize).sum();
            if lines <= MAX_LINES / 2 && bytes <= MAX_BYTES / 2 {
                self.retain(&keep);
                return;
            }
        }
        // The first and last lines alone are too long: keep the newest lines that fit.
        let mut room = MAX_BYTES / 2;
        let mut keep = vec![false; count];
        for index in (0..count).rev() {
            let length = (self.places[index].to - self.places[index].from) as usize;
            if length > room {
                break;
            }
            room -= length;
            keep[index] = true;
        }
        self.retain(&keep);
    }

    fn retain(&mut self, keep: &[bool]) {
        let mut text = String::with_capacity(MAX_BYTES / 2);
        let mut places = Vec::new();
        let mut looks = Vec::new();
        for ((place, look), _) in self.places.iter().zip(&self.looks).zip(keep).filter(|(_, keep)| **keep) {
            let from = u32::try_from(text.len()).unwrap_or(u32::MAX);
            text.push_str(&self.text[place.from as usize..place.to as usize]);
            places.push(Place {
                number: place.number,
                from,
                to: u32::try_from(text.len()).unwrap_or(u32::MAX),
            });
            looks.push(*look);
        }
        (self.text, self.places, self.looks) = (text, places, looks);
    }

    /// Number of lines in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no line is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of lines in the whole log.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Whether all lines of the log are in memory.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.thinned
    }

    /// Text of a line in memory.
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        let place = self.places[index];
        &self.text[place.from as usize..place.to as usize]
    }

    /// Number of a line in the original log, from 1.
    #[must_use]
    pub fn number(&self, index: usize) -> u32 {
        self.places[index].number
    }

    /// Whether the line is meaningful by itself, unlike stack frames, source code and parts of a diff.
    #[must_use]
    pub fn is_telling(&self, index: usize) -> bool {
        let look = &self.looks[index];
        let part = mark::FRAME
            | mark::UNDERLINE
            | mark::SOURCE_LINE
            | mark::DIFF
            | mark::HUNK
            | mark::RULE
            | mark::BRACES;
        let names = mark::ERROR_COLON | mark::TYPE_ERROR | mark::LACKING;
        // The failed exit of a step does not explain the failure.
        let end = look.is(mark::EXIT_BAD) && look.weight <= 10;
        look.words >= 3 && !end && (look.is(names) || !look.is(part))
    }

    pub(super) fn looks(&self) -> &[LineFeatures] {
        &self.looks
    }

    /// Number of occurrences of the line's template.
    pub(super) fn count(&self, index: usize) -> u32 {
        self.templates.get(&self.looks[index].template).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_log_keeps_its_ends_and_what_speaks_of_failure() {
        let mut log = String::new();
        for n in 0..400_000 {
            log.push_str(&format!("copying the file number {n} of the archive\n"));
            if n == 200_000 {
                log.push_str("error: the disk is full\n");
            }
        }
        let lines = Lines::read(log.as_bytes(), None, &mut Redactor::new()).unwrap();
        assert!(!lines.is_whole() && lines.len() <= MAX_LINES);
        assert_eq!(lines.total(), 400_001);
        assert_eq!((lines.number(0), lines.number(lines.len() - 1)), (1, 400_001));
        let found = (0..lines.len()).find(|&index| lines.text(index).contains("disk is full")).unwrap();
        assert_eq!(lines.number(found), 200_002);
        assert_eq!(lines.number(found + AROUND), 200_002 + u32::try_from(AROUND).unwrap());
    }

    #[test]
    fn long_lines_do_not_break_the_bound() {
        let line = format!("{}\n", "error x ".repeat(450));
        let log = line.repeat(20_000);
        let lines = Lines::read(log.as_bytes(), None, &mut Redactor::new()).unwrap();
        assert!(lines.text.len() <= MAX_BYTES && lines.total() == 20_000);
        assert_eq!(lines.number(lines.len() - 1), 20_000);
    }
}
