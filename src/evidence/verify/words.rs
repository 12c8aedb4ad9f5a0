//! Extracts the meaning of a sentence to compare it with lines of a log: stems of words, and ideas that are expressed in
//! many ways, such as "no such file", "not found" and "undefined".

use crate::evidence::runbook::BUILT_IN;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

/// Words without meaning of their own, and words that occur in every text about a pipeline.
const STOP: &str = " a an the of in on at to for from by with and or but is are was were be been being it its this that these those as \
    into no nor so than then there here which who whose what when where while if has have had do does did can could may might must \
    shall should will would very more most less least any all each every some only also just still yet one two after before over \
    under between during again once other another same own out up down off too both neither either because since therefore thus \
    hence via per within without line lines log logs shows show says say said see seen job step run runs ran pipeline build ci you \
    your we our they them their he she i me my not cause caused causes reason why how claim claims evidence cited ";

/// Maximum number of parts of letters and digits into which a word is split.
const MAX_PARTS: usize = 3;
/// Technical words that do not occur in the runbooks.
const MORE: &str = "semicolon comma brace bracket quote parenthesis colon indentation whitespace tab skew posix utf unicode ascii locale encoding \
    containerfile agree disagree contradict undeclared twice misspelled typo spelling syntax mismatched violate violation insert duplicate \
    rounding decimal equal differ zero negative positive null none nil empty blank lower upper deadlock race flaky sleep slow hang stall \
    neither whole half first second third last next previous earlier newer older obsolete deprecated abort aborted interpreter compiler linker \
    parser lexer preprocessor caller callee argument parameter function method class module symbol variable constant type field member \
    attribute property key value index array list map set string integer float boolean number character byte word sentence paragraph";

/// An idea and its expressions.
struct Idea {
    name: &'static str,
    said: Regex,
    /// Weight of the idea; a rare word has weight 1.
    weight: f64,
}

static IDEAS: LazyLock<Vec<Idea>> = LazyLock::new(|| {
    let idea = |name, weight, said: &str| Idea {
        name,
        weight,
        said: Regex::new(&format!(r"(?i)(?:{said})")).expect("a fixed pattern"),
    };
    vec![
        idea(
            "#absent",
            0.6,
            r"\bno such \w+(?: or directory)?|not found|cannot find|could ?n[o']t find|can'?t find|does ?n[o']t exist|do not exist|unable to (?:locate|find)|finds? no\b|\bmissing\b|not there\b|\babsent\b|\bno (?:module|package|matching|url|version)\b|undefined|undeclared|unresolved|unknown|not installed|not defined|not set\b|unbound|has no\b|there is no\b",
        ),
        idea(
            "#full",
            0.6,
            r"no (?:space|room) left|disk (?:is )?full|\bis full\b|quota|insufficient storage|disk ?pressure",
        ),
        idea(
            "#memory",
            0.6,
            r"oom-?kill\w*|\boom\b|out of memory|memory exhausted|cannot allocate|\bkilled\b|\b137\b|memory limit|exceeded its memory",
        ),
        idea(
            "#time",
            0.6,
            r"tim(?:ed|es?)?[ -]?outs?\b|deadline exceeded|exceeds? the (?:time|timeout)|\bhangs?\b|waits? for ever|too long",
        ),
        idea(
            "#denied",
            0.6,
            r"refused|denied|forbidden|unauthori[sz]ed|authenticat\w+|credentials?|permissions?|could not read username|log ?in\b|passwords?|\b40[13]\b|noauth|\btokens?\b",
        ),
        idea(
            "#network",
            0.6,
            r"could not resolve|name resolution|not? resolved|unknown host|\bresolv\w*|\bdns\b|lookup|cannot reach|unreachable|enotfound|getaddrinfo|eai_again|no route|\bnetwork\b",
        ),
        idea(
            "#wrong",
            0.6,
            r"not valid|invalid|\bbad\b|\bwrong\b|malformed|unexpected|incompatible|mismatch\w*|does not match|don'?t match|not match|\bexpected\b|cannot be converted|instead of|do not agree|inconsistent|\bdiffers?\b|\bassert\w*",
        ),
        idea("#certificate", 0.6, r"certificates?|x509|\bssl\b|\btls\b|pkix"),
        idea("#lock", 0.6, r"out ?dated|out of date|not up to date|needs to be updated|frozen|lock ?files?"),
        idea("#format", 0.6, r"format\w*|reformat\w*|\bfmt\b"),
        idea("#fail", 0.15, r"fail\w*|\berrors?\b|broken|\bbreaks?\b|crash\w*|fatal"),
    ]
});
static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\d]+").expect("a fixed pattern"));
static PARTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+|\p{L}+").expect("a fixed pattern"));
static CAMEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\p{Ll})(\p{Lu})").expect("a fixed pattern"));

/// Number of built-in runbooks that contain a stem. These stems are technical words, which do not have to occur in a log.
static TRADE: LazyLock<HashMap<String, u16>> = LazyLock::new(|| {
    let mut known: HashMap<String, u16> = stems(MORE).into_keys().map(|stem| (stem, 0)).collect();
    for text in BUILT_IN.files().filter_map(include_dir::File::contents_utf8) {
        for stem in stems(text).into_keys() {
            *known.entry(stem).or_insert(0) += 1;
        }
    }
    known
});

/// Meaning of a text.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    /// Stems of the words, with the original words.
    pub(super) words: BTreeMap<String, String>,
    /// Ideas in the text.
    pub(super) ideas: BTreeSet<&'static str>,
}

impl Meaning {
    pub(super) fn of(text: &str) -> Self {
        let ideas = IDEAS.iter().filter(|idea| idea.said.is_match(text)).map(|idea| idea.name).collect();
        Self { words: stems(text), ideas }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.words.contains_key(name) || self.ideas.contains(name)
    }

    /// Returns all stems and names of ideas.
    pub(super) fn all(&self) -> BTreeSet<&str> {
        self.words.keys().map(String::as_str).chain(self.ideas.iter().copied()).collect()
    }
}

/// Returns the stems of words that are not part of an idea's expression.
pub(super) fn besides_ideas(text: &str) -> BTreeMap<String, String> {
    let rest =
        IDEAS.iter().fold(text.to_owned(), |text, idea| idea.said.replace_all(&text, " ").into_owned());
    stems(&rest)
}

/// Weight of a shared stem or idea: 1 for a rare word, less for technical words.
pub(super) fn weight(name: &str) -> f64 {
    if let Some(idea) = IDEAS.iter().find(|idea| idea.name == name) {
        return idea.weight;
    }
    let runbooks = f64::from(TRADE.get(name).copied().unwrap_or_default());
    1.0 / (1.0 + 0.45 * (1.0 + runbooks).log2())
}

/// Whether a stem is a technical word.
pub(super) fn is_of_the_trade(stem: &str) -> bool {
    TRADE.contains_key(stem)
}

fn stems(text: &str) -> BTreeMap<String, String> {
    let text = CAMEL.replace_all(text, "$1 $2");
    let mut found = BTreeMap::new();
    // `log4j` is split into two words, a digest is not split.
    let words = WORDS.find_iter(&text).flat_map(|word| {
        let parts: Vec<&str> = PARTS.find_iter(word.as_str()).map(|part| part.as_str()).collect();
        if parts.len() > MAX_PARTS { vec![word.as_str()] } else { parts }
    });
    for word in words {
        let word = word.to_lowercase();
        if word.chars().count() >= 2 && !STOP.contains(&format!(" {word} ")) {
            found.entry(stem(&word).to_owned()).or_insert(word);
        }
    }
    found
}

/// Removes the ending of a word, so that "resolution", "resolved" and "resolve" are equal.
fn stem(word: &str) -> &str {
    const ENDINGS: [&str; 42] = [
        "ations", "ation", "ingly", "ings", "ing", "ised", "ized", "ises", "izes", "ise", "ize", "ies",
        "ied", "edly", "ed", "ers", "er", "ors", "or", "ions", "ion", "ments", "ment", "ness", "ities",
        "ity", "able", "ible", "ally", "al", "ly", "es", "s", "e", "y", "ance", "ence", "ances", "ences",
        "ive", "ives", "ic",
    ];
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return word;
    }
    let cut = ENDINGS
        .iter()
        .filter_map(|ending| word.strip_suffix(ending))
        .filter(|rest| rest.chars().count() >= 3);
    cut.min_by_key(|rest| rest.len()).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_idea_is_said_in_many_ways() {
        let log = Meaning::of("cp: cannot stat 'a.jar': No such file or directory");
        let said = Meaning::of("a.jar is missing").ideas;
        assert!(!said.is_empty() && said.iter().all(|idea| log.has(idea)));
        assert!(!Meaning::of("the disk is full").ideas.iter().any(|idea| log.has(idea)));
    }

    #[test]
    fn words_are_one_whatever_their_ending_and_case() {
        let one = stems("The Parsers of discountFor");
        assert_eq!(one.keys().collect::<Vec<_>>(), ["discount", "pars"]);
        assert_eq!(stem("resolved"), stem("resolve"));
        assert_eq!(stem("dependencies"), stem("dependency"));
    }

    #[test]
    fn rare_words_tell_most() {
        assert!(weight("mosquitto") > weight("memor") && weight("memor") > weight("#fail"));
        assert!(is_of_the_trade("registr") && !is_of_the_trade("solar") && !is_of_the_trade("alien"));
    }
}
