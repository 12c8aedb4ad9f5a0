//! What a history shows of the evidence: announced pieces, and lines from excerpts, searches and reads.

use crate::domain::Message;
use crate::evidence::severity;
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static HEADING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\[(E\d+)\] (.+?)(?:, (\d+) lines|, lines \d+ to \d+ of \d+|: \d+ of \d+ lines match)")
        .expect("a fixed pattern")
});
static FOUND: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(E\d+)[:-](\d+)[:-] (.*)$").expect("a fixed pattern"));
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(\d+): (.*)$").expect("a fixed pattern"));

/// A piece the brief announced.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) label: String,
    pub(super) title: String,
}

/// A line of evidence that was shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) evidence: String,
    pub(super) number: u32,
    pub(super) text: String,
}

/// All that was shown, each line once.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) announced: Vec<Piece>,
    pub(super) lines: Vec<Line>,
    called: BTreeSet<String>,
}

impl Seen {
    /// Reads a history.
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut seen = Self::default();
        let mut lines = BTreeSet::new();
        for message in messages {
            match message {
                Message::System { .. } => {}
                Message::Assistant { tool_calls, .. } => {
                    seen.called.extend(tool_calls.iter().map(|call| call.name.clone()));
                }
                Message::User { text } => seen.read(text, true, &mut lines),
                Message::Tool { text, .. } => seen.read(text, false, &mut lines),
            }
        }
        seen.lines = lines.into_iter().collect();
        seen
    }

    fn read(&mut self, text: &str, brief: bool, lines: &mut BTreeSet<Line>) {
        let mut current = String::new();
        let mut next: Option<u32> = None;
        for line in text.lines() {
            if let Some(found) = FOUND.captures(line) {
                push(lines, &found[1], &found[2], &found[3]);
            } else if let Some(heading) = HEADING.captures(line) {
                heading[1].clone_into(&mut current);
                let known = self.announced.iter().any(|piece| piece.label == heading[1]);
                if brief && !known {
                    self.announced.push(Piece { label: heading[1].to_owned(), title: heading[2].to_owned() });
                }
            } else if let Some(numbered) = NUMBERED.captures(line).filter(|_| !current.is_empty()) {
                push(lines, &current, &numbered[1], &numbered[2]);
                next = numbered[1].parse::<u32>().ok().map(|number| number + 1);
                continue;
            } else if let (Some(number), Some(text)) = (next, line.strip_prefix(' ')) {
                // Within an excerpt only some lines carry their number.
                lines.insert(Line { evidence: current.clone(), number, text: text.to_owned() });
                next = Some(number + 1);
                continue;
            }
            next = None;
        }
    }

    /// Whether a tool was called before.
    pub(super) fn called(&self, tool: &str) -> bool {
        self.called.contains(tool)
    }

    /// 0 for the log, more for what others say about it.
    pub(super) fn rank(&self, label: &str) -> u8 {
        let title =
            self.announced.iter().find(|piece| piece.label == label).map_or("", |piece| piece.title.as_str());
        match title {
            title if title.contains("before its restart") => 1,
            title if title.starts_with("log") => 0,
            title if title.starts_with("events") => 2,
            _ => 3,
        }
    }

    /// The line that looks most like the reason.
    pub(super) fn worst(&self) -> Option<&Line> {
        let weighed = self.lines.iter().filter(|line| severity(&line.text) > 0);
        weighed.max_by_key(|line| {
            (severity(&line.text), std::cmp::Reverse((self.rank(&line.evidence), line.number)))
        })
    }
}

fn push(lines: &mut BTreeSet<Line>, evidence: &str, number: &str, text: &str) {
    if let Ok(number) = number.parse() {
        lines.insert(Line { evidence: evidence.to_owned(), number, text: text.to_owned() });
    }
}
