//! Checks a sentence against the lines it is based on: its names have to occur in the evidence, its subject in the lines,
//! and only few of its words may be without a source.

use super::words::{self, Meaning};
use super::{MAX_NAMES, names};
use crate::clock::{Deadline, DeadlinePassed};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Minimum length in bytes of each part of a compound word.
const MIN_PART: usize = 3;
/// Minimum share of a sentence's subject that has to occur in the lines; rare words have more weight. Together with
/// [`MIN_SHARED`], 98 % of 95 true causes pass with the lines they were found in, and 2 % with the lines of other failures.
const MIN_SHARE: f64 = 0.25;
/// Minimum shared weight: about that of one rare word, in at least two words or ideas.
const MIN_SHARED: f64 = 0.9;
/// Minimum values for keeping a sentence after removing a phrase with an unknown name.
const STRONG_SHARE: f64 = 0.4;
const STRONG_SHARED: f64 = 2.5;
/// Share from which a short sentence is supported without the minimum shared weight.
const FULL_SHARE: f64 = 0.75;
/// Minimum number of words and ideas in a clause before one of them has to occur in the lines.
const MIN_CLAUSE: usize = 2;
/// Number of lines on each side of the cited ones that count as cited.
pub(super) const AROUND: usize = 2;
/// Message for unknown names.
const NAMED: &str = "it names what the evidence does not have";
/// Nouns that precede or follow a name to describe it.
const THINGS: &str = "(?:certificate|class|command|container|file|folder|function|host|image|job|library|line|method|module|namespace|node|package|pod|port|project|registry|repository|script|server|service|step|task|test|version)";

/// Conjunctions and punctuation between clauses.
static CLAUSES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\s*[,;]\s+(?:and|but|so|because|while|which|as)\s+|\s+and\s+|;\s+")
        .expect("a fixed pattern")
});
static BRACKETS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s*\([^()]{1,300}\)").expect("a fixed pattern"));
static SUCCESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:succe(?:ss|ed)\w*|pass(?:es|ed)?|no (?:errors?|failures?|problems?|issues?)|nothing (?:is |was )?(?:wrong|failed)|works? (?:fine|correctly|as expected)|(?:is|are) (?:fine|healthy|ok)|without (?:errors?|problems?))\b",
    )
    .expect("a fixed pattern")
});
static TROUBLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:fail\w*|errors?|but|however|not|never|no|cannot|can'?t|below|above|exceed\w*|although|kill\w*|crash\w*|panic\w*|missing|flak\w*|refused|denied|invalid|wrong)\b|n't\b",
    )
    .expect("a fixed pattern")
});

/// The basis that sentences are checked against.
pub(super) struct Grounds<'a> {
    /// The lines, in lower case.
    lines: String,
    meaning: Meaning,
    /// All texts that the analyst received.
    sources: &'a [&'a str],
    /// Whether a sentence may report a success that the lines report. True for claims; a cause of a failure is never a success.
    may_succeed: bool,
}

/// Result of the check of a sentence.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SentenceCheck {
    /// The sentence is supported.
    Whole,
    /// The sentence is supported after removing the unsupported parts; contains the shorter sentence.
    Without(String),
    /// The sentence is not supported; contains the reason for the analyst.
    Not(String),
}

impl<'a> Grounds<'a> {
    pub(super) fn new(lines: String, sources: &'a [&'a str]) -> Self {
        let meaning = Meaning::of(&lines);
        Self { lines: lines.to_lowercase(), meaning, sources, may_succeed: false }
    }

    /// Configures the checks for a claim; see `may_succeed`.
    pub(super) fn of_a_claim(mut self) -> Self {
        self.may_succeed = true;
        self
    }

    /// Checks a sentence after removing clauses that the lines do not support. If it fails, retries without unknown content in
    /// brackets, and without phrases with unknown names.
    pub(super) fn hold(&self, sentence: &str, deadline: &Deadline) -> Result<SentenceCheck, DeadlinePassed> {
        let supported = self.supported(sentence);
        let held = self.hold_whole_or_less(&supported, deadline)?;
        Ok(match held {
            SentenceCheck::Whole if supported != sentence => SentenceCheck::Without(supported),
            held => held,
        })
    }

    /// Removes clauses that share nothing with the lines, because one supported clause does not prove another.
    fn supported(&self, sentence: &str) -> String {
        let ends: Vec<(usize, usize)> =
            CLAUSES.find_iter(sentence).map(|found| (found.start(), found.end())).collect();
        let starts = std::iter::once((0, 0)).chain(ends.iter().copied());
        let stops = ends.iter().map(|(start, _)| *start).chain([sentence.trim_end().len()]);
        let (mut kept, mut before) = (String::new(), true);
        for ((joint, start), stop) in starts.zip(stops) {
            let clause = sentence.get(start..stop).unwrap_or_default();
            // A clause after a plain "and" depends on the clause before it.
            let added = start > 0 && !sentence[joint..start].trim_start().starts_with([',', ';']);
            before = self.supports(clause) && (before || !added);
            if before {
                kept.push_str(if kept.is_empty() { "" } else { &sentence[joint..start] });
                kept.push_str(clause);
            }
        }
        if kept.len() == sentence.trim_end().len() || kept.is_empty() {
            return sentence.to_owned();
        }
        let ends_so = sentence.trim_end().ends_with('.') && !kept.ends_with('.');
        let after = &sentence[sentence.trim_end().len()..];
        let mut letters = kept.chars();
        let first = letters.next().map(char::to_uppercase).into_iter().flatten();
        let kept: String =
            if sentence.starts_with(char::is_uppercase) { first.chain(letters).collect() } else { kept };
        format!("{kept}{}{after}", if ends_so { "." } else { "" })
    }

    /// Whether the lines support a clause; true for clauses too short to tell.
    fn supports(&self, clause: &str) -> bool {
        if names::states(clause)
            .any(|state| !names::stands(state, self.sources) && !self.lines.contains(&state.to_lowercase()))
        {
            return false;
        }
        let meaning = Meaning::of(clause);
        let about = meaning.all();
        about.len() < MIN_CLAUSE
            || about.into_iter().any(|one| self.meaning.has(one))
            || names::all(clause).any(|name| names::stands(name, self.sources))
    }

    fn hold_whole_or_less(
        &self,
        sentence: &str,
        deadline: &Deadline,
    ) -> Result<SentenceCheck, DeadlinePassed> {
        let Some(fault) = self.fault(sentence, deadline)? else { return Ok(SentenceCheck::Whole) };
        let bare = without_brackets(sentence, &fault);
        if bare != sentence && self.fault(&bare, deadline)?.is_none() {
            return Ok(SentenceCheck::Without(bare));
        }
        let rest = without_phrases(&bare, &fault.names);
        let holds =
            rest != bare && self.is_strong(&rest, deadline)? && self.fault(&rest, deadline)?.is_none();
        Ok(if holds { SentenceCheck::Without(rest) } else { SentenceCheck::Not(fault.why) })
    }

    /// Returns the reason why a sentence is not supported, if any.
    fn fault(&self, sentence: &str, deadline: &Deadline) -> Result<Option<Fault>, DeadlinePassed> {
        let names = names::unknown_near(sentence, self.sources, &self.lines, deadline)?;
        let Measure { share, shared, things, strangers, all } = self.measure(sentence, deadline)?;
        let enough = shared >= MIN_SHARED || share >= FULL_SHARE;
        let fault = if self.says_success(sentence) {
            Some("it says that nothing failed".to_owned())
        } else if all == 0 {
            Some("it says nothing that could be compared with the lines".to_owned())
        } else if share < MIN_SHARE || !enough || things < 2 {
            Some("the cited lines do not speak of it".to_owned())
        } else if !strangers.is_empty() {
            Some(format!("nothing in the evidence speaks of {}", quoted(&strangers)))
        } else {
            None
        };
        let named = (!names.is_empty()).then(|| format!("{NAMED}: {}", quoted(&names)));
        let why: Vec<String> = fault.into_iter().chain(named).collect();
        Ok((!why.is_empty()).then(|| Fault { why: why.join("; "), names, strangers }))
    }

    /// Whether the lines support a sentence strongly enough to keep it after removing a part.
    fn is_strong(&self, sentence: &str, deadline: &Deadline) -> Result<bool, DeadlinePassed> {
        let Measure { share, shared, .. } = self.measure(sentence, deadline)?;
        Ok(share >= STRONG_SHARE && shared >= STRONG_SHARED)
    }

    /// Whether a sentence reports a success and no failure.
    fn says_success(&self, sentence: &str) -> bool {
        let tells =
            |word: regex::Match<'_>| self.may_succeed && self.lines.contains(&word.as_str().to_lowercase());
        SUCCESS.find_iter(sentence).any(|word| !tells(word))
            && !TROUBLE.is_match(&SUCCESS.replace_all(sentence, " "))
    }

    /// Whether a word combines a word of the evidence and a technical word, such as `tcltest` where `all.tcl` ran.
    fn is_compound(&self, word: &str) -> bool {
        let ends = word.char_indices().map(|(at, _)| word.split_at(at));
        let long = ends.filter(|(first, second)| first.len() >= MIN_PART && second.len() >= MIN_PART);
        long.into_iter()
            .any(|(first, second)| words::is_of_the_trade(second) && names::has_start(first, self.sources))
    }

    fn measure(&self, sentence: &str, deadline: &Deadline) -> Result<Measure, DeadlinePassed> {
        let meaning = Meaning::of(sentence);
        let shared: BTreeSet<&str> = meaning.all().into_iter().filter(|one| self.meaning.has(one)).collect();
        // Parts of a name that occurs elsewhere in the evidence count neither for nor against the sentence.
        let known: Vec<&str> =
            names::all(sentence).filter(|name| names::stands(name, self.sources)).collect();
        let neutral = Meaning::of(&known.join(" "));
        let mut missing = 0.0;
        let mut strangers = BTreeSet::new();
        let mut all = shared.len();
        for (stem, word) in words::besides_ideas(sentence) {
            if shared.contains(stem.as_str()) || neutral.words.contains_key(&stem) {
                continue;
            }
            deadline.check()?;
            all += 1;
            missing += words::weight(&stem);
            if !words::is_of_the_trade(&stem)
                && !names::has_start(&stem, self.sources)
                && !self.is_compound(&word)
            {
                strangers.insert(word);
            }
        }
        for idea in meaning.ideas.iter().filter(|idea| !shared.contains(**idea)) {
            all += 1;
            missing += words::weight(idea);
        }
        let things = shared.len();
        let shared: f64 = shared.into_iter().map(words::weight).sum();
        let share = if shared > 0.0 { shared / (shared + missing) } else { 0.0 };
        Ok(Measure { share, shared, things, strangers, all })
    }
}

/// The reasons why a sentence is not supported.
struct Fault {
    /// Message for the analyst.
    why: String,
    /// Names that do not occur in any source.
    names: BTreeSet<String>,
    /// Words that are neither technical terms nor in the evidence.
    strangers: BTreeSet<String>,
}

struct Measure {
    share: f64,
    shared: f64,
    things: usize,
    strangers: BTreeSet<String>,
    all: usize,
}

/// Splits a text into sentences, each with its trailing white space.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace) && !is_short(&text[start..at]),
            '。' | '！' | '？' | '\n' => true,
            _ => false,
        };
        if ends {
            while characters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
            let end = characters.peek().map_or(text.len(), |(at, _)| *at);
            found.push(&text[start..end]);
            start = end;
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found.retain(|sentence| !sentence.trim().is_empty());
    found
}

/// Whether a full stop after this text belongs to an abbreviation such as "e.g.".
fn is_short(before: &str) -> bool {
    let last = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let last = last.trim_start_matches(['(', '"', '\'']);
    let is_shortened = last.contains('.') && last.chars().all(|c| c.is_alphabetic() || c == '.');
    is_shortened && last.len() <= 4 || matches!(last, "cf" | "vs" | "etc" | "no" | "approx")
}

fn quoted(names: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Removes brackets that contain unknown names or words.
fn without_brackets(sentence: &str, fault: &Fault) -> String {
    let unknown = || fault.names.iter().chain(&fault.strangers);
    let shorter = BRACKETS.replace_all(sentence, |found: &regex::Captures<'_>| {
        let bracket = found[0].to_lowercase();
        if unknown().any(|name| bracket.contains(&name.to_lowercase())) {
            String::new()
        } else {
            found[0].to_owned()
        }
    });
    shorter.into_owned()
}

/// Removes prepositional phrases that contain these names, such as "of example.com" or "in the package `x`". The result
/// says less and remains a sentence.
fn without_phrases(sentence: &str, names: &BTreeSet<String>) -> String {
    names.iter().fold(sentence.to_owned(), |text, name| {
        let name = regex::escape(name);
        let phrase = Regex::new(&format!(
            r"(?i)\s+(?:at|by|for|from|in|inside|near|of|on|to|via|with)\s+(?:(?:the|an?)\s+)?(?:{THINGS}\s+)?`?{name}`?(?:\s+{THINGS})?([\s.,:;!?)]|$)"
        ));
        phrase.map_or_else(|_| text.clone(), |phrase| phrase.replace_all(&text, "$1").into_owned())
    })
}
