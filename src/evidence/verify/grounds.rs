//! Whether a sentence says what the lines say that it rests on: what it names stands in the evidence, what it is about stands in
//! the lines, and little of it comes from nowhere.

use super::words::{self, Meaning};
use super::{MAX_NAMES, names};
use crate::clock::{Deadline, DeadlinePassed};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Letters of a part of a word that is put together.
const MIN_PART: usize = 3;
/// Share of what a sentence is about that has to stand in the lines, rare words counting most. With it and [`MIN_SHARED`] .98 of 95 true causes
/// pass over the lines they were found in, and .02 of those of other failures.
const MIN_SHARE: f64 = 0.25;
/// What has to be shared at least: about as much as one rare word, of two things.
const MIN_SHARED: f64 = 0.9;
/// From here on a sentence stands without a phrase that names what the evidence does not have.
const STRONG_SHARE: f64 = 0.4;
const STRONG_SHARED: f64 = 2.5;
/// Share at which nearly all that a short sentence says stands in the lines.
const FULL_SHARE: f64 = 0.75;
/// Things that a clause is about, at least, before it needs one in the lines.
const MIN_CLAUSE: usize = 2;
/// Lines around the cited ones that count as them.
pub(super) const AROUND: usize = 2;
/// What is said of names that nobody has.
const NAMED: &str = "it names what the evidence does not have";
/// What is said beside a name to tell what it is the name of.
const THINGS: &str = "(?:certificate|class|command|container|file|folder|function|host|image|job|library|line|method|module|namespace|node|package|pod|port|project|registry|repository|script|server|service|step|task|test|version)";

/// What joins two clauses.
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

/// What a sentence is held against.
pub(super) struct Grounds<'a> {
    /// The lines it rests on.
    lines: String,
    meaning: Meaning,
    /// All that the analyst was told.
    sources: &'a [&'a str],
    /// Whether a sentence may tell of a success that the lines tell of: a claim may, a cause of a failure does not.
    may_succeed: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SentenceCheck {
    /// It holds.
    Whole,
    /// It holds without what it names and the evidence does not have.
    Without(String),
    /// It does not, with the reason in words for the analyst.
    Not(String),
}

impl<'a> Grounds<'a> {
    pub(super) fn new(lines: String, sources: &'a [&'a str]) -> Self {
        let meaning = Meaning::of(&lines);
        Self { lines: lines.to_lowercase(), meaning, sources, may_succeed: false }
    }

    /// For a claim, see `may_succeed`.
    pub(super) fn of_a_claim(mut self) -> Self {
        self.may_succeed = true;
        self
    }

    /// Holds a sentence against the lines, without the clauses that these do not speak of; if it does not hold, without what it says in
    /// brackets and the evidence does not have.
    pub(super) fn hold(&self, sentence: &str, deadline: &Deadline) -> Result<SentenceCheck, DeadlinePassed> {
        let supported = self.supported(sentence);
        let held = self.hold_whole_or_less(&supported, deadline)?;
        Ok(match held {
            SentenceCheck::Whole if supported != sentence => SentenceCheck::Without(supported),
            held => held,
        })
    }

    /// A sentence without those of its clauses that share nothing with the lines: a true half proves nothing of the other one.
    fn supported(&self, sentence: &str) -> String {
        let ends: Vec<(usize, usize)> =
            CLAUSES.find_iter(sentence).map(|found| (found.start(), found.end())).collect();
        let starts = std::iter::once((0, 0)).chain(ends.iter().copied());
        let stops = ends.iter().map(|(start, _)| *start).chain([sentence.trim_end().len()]);
        let (mut kept, mut before) = (String::new(), true);
        for ((joint, start), stop) in starts.zip(stops) {
            let clause = sentence.get(start..stop).unwrap_or_default();
            // What a bare "and" adds goes with what it is added to.
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

    /// Whether the lines speak of a clause, as far as it is long enough to tell.
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

    /// Why a sentence does not hold, if it does not.
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

    /// Whether the lines say so much of a sentence that it stands without a part of it.
    fn is_strong(&self, sentence: &str, deadline: &Deadline) -> Result<bool, DeadlinePassed> {
        let Measure { share, shared, .. } = self.measure(sentence, deadline)?;
        Ok(share >= STRONG_SHARE && shared >= STRONG_SHARED)
    }

    /// A success in a sentence that tells of no failure.
    fn says_success(&self, sentence: &str) -> bool {
        let tells =
            |word: regex::Match<'_>| self.may_succeed && self.lines.contains(&word.as_str().to_lowercase());
        SUCCESS.find_iter(sentence).any(|word| !tells(word))
            && !TROUBLE.is_match(&SUCCESS.replace_all(sentence, " "))
    }

    /// Whether a word is put together from one of the evidence and one of the trade, such as `tcltest` where `all.tcl` ran.
    fn is_compound(&self, word: &str) -> bool {
        let ends = word.char_indices().map(|(at, _)| word.split_at(at));
        let long = ends.filter(|(first, second)| first.len() >= MIN_PART && second.len() >= MIN_PART);
        long.into_iter()
            .any(|(first, second)| words::is_of_the_trade(second) && names::has_start(first, self.sources))
    }

    fn measure(&self, sentence: &str, deadline: &Deadline) -> Result<Measure, DeadlinePassed> {
        let meaning = Meaning::of(sentence);
        let shared: BTreeSet<&str> = meaning.all().into_iter().filter(|one| self.meaning.has(one)).collect();
        // Parts of a name that the evidence has elsewhere neither speak for the sentence nor against it.
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

/// What is wrong with a sentence.
struct Fault {
    /// In words for the analyst.
    why: String,
    /// What it names and nobody told.
    names: BTreeSet<String>,
    /// Words of it that are neither of the trade nor of the evidence.
    strangers: BTreeSet<String>,
}

struct Measure {
    share: f64,
    shared: f64,
    things: usize,
    strangers: BTreeSet<String>,
    all: usize,
}

/// The sentences of a text, each with the white space that follows it.
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

/// Whether a full stop after this is one of "e.g." and its like.
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

/// A sentence without what it says in brackets of things that nobody told.
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

/// A sentence without the phrases that add these names to it, such as "of example.com" or "in the package `x`": it says less, and no
/// gap shows.
fn without_phrases(sentence: &str, names: &BTreeSet<String>) -> String {
    names.iter().fold(sentence.to_owned(), |text, name| {
        let name = regex::escape(name);
        let phrase = Regex::new(&format!(
            r"(?i)\s+(?:at|by|for|from|in|inside|near|of|on|to|via|with)\s+(?:(?:the|an?)\s+)?(?:{THINGS}\s+)?`?{name}`?(?:\s+{THINGS})?([\s.,:;!?)]|$)"
        ));
        phrase.map_or_else(|_| text.clone(), |phrase| phrase.replace_all(&text, "$1").into_owned())
    })
}
