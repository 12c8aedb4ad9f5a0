//! Sanitizes Markdown of models and untrusted authors: it remains Markdown, but loads nothing, links only to known hosts,
//! and mentions nobody. Input may arrive in pieces; undecided text waits for the next piece.

use super::hidden::Remover;
use super::link_policy::LinkPolicy;
use pulldown_cmark::{Event, Options, Parser, Tag};
use regex::Regex;
use std::sync::LazyLock;

/// Destination of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderTarget {
    /// A web page or a chat client.
    Answer,
    /// A tracker, which also interprets mentions, issue numbers and commands. Headings there could imitate those of the issue.
    Tracker,
}

/// Maximum bytes of an incomplete line to hold back.
const MAX_HELD: usize = 16 << 10;

macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a fixed pattern"));
    };
}

// A backslash before a colon or slash belongs to the word: renderers show the character without the backslash.
pattern!(WORD, r"^(?:[^\s`\\\[\]<&@#!]|\\[:/])+");
pattern!(ADDRESS, r"(?i)[a-z][a-z0-9+.-]*\\?:(?:\\?/){2}|www\.");
// Addresses that renderers turn into links automatically; pages and chat clients do so only for these schemes.
pattern!(WEB_ADDRESS, r"(?i)(?:https?|ftps?)\\?:(?:\\?/){2}|www\.");
pattern!(URL, r#"^(?:[^\s`<>"'\\]|\\[:/])+"#);
pattern!(ENTITY, r"^&#?[A-Za-z0-9]{1,40};");
pattern!(OPEN_ENTITY, r"^&#?[A-Za-z0-9]{0,40}$");
pattern!(MENTION, r"^@[\p{Alphabetic}\d][\w-]*(?:[/.@][\w-]+)*");
pattern!(NUMBER, r"^[#!]\d+");
pattern!(GITHUB_NUMBER, r"(?i)(^|[^a-z0-9])((?:gh-\d+)+)");
pattern!(DEFINITION, r#"^\]:\s*(?:\S+\s*(?:["'(].*)?)?$"#);
// Syntax that would become a heading, a rule, a quotation or a table of the issue.
pattern!(FORM, r"^(?:#{1,6}(?:\s|$)|>|(?:=+|-+|(?:[-*_]\s*){3,}|[|:\s-]*-[|:\s-]*)\s*$)");
pattern!(COMMAND, r"^/[A-Za-z_-]+");

/// Sanitizes a text. If a second check still finds unsafe elements, shows the text as a code block.
#[must_use]
pub fn sanitize(text: &str, links: &LinkPolicy, place: RenderTarget) -> String {
    let mut defuser = MarkdownSanitizer::new(links.clone(), place);
    let mut shown = defuser.push(text);
    shown.push_str(&defuser.finish());
    if is_inert(&shown, links) { shown } else { block("text", &shown) }
}

/// Like [`sanitize`], for text that has to stay on one line, such as a title or a step.
#[must_use]
pub fn sanitize_line(text: &str, links: &LinkPolicy) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut defuser =
        MarkdownSanitizer { begins: false, ..MarkdownSanitizer::new(links.clone(), RenderTarget::Tracker) };
    let mut shown = defuser.push(&text);
    shown.push_str(&defuser.finish());
    if is_inert(&shown, links) { shown } else { format!("`{}`", shown.replace('`', "'")) }
}

/// Like [`sanitize_line`], for the title of an issue, in which trackers interpret only code spans.
#[must_use]
pub fn sanitize_title(text: &str, links: &LinkPolicy) -> String {
    let escapes = [("\\<", "< "), ("\\&", "& "), ("\\`", "'"), ("]\\:", "]:"), ("\\\\", "\\")];
    escapes
        .into_iter()
        .fold(sanitize_line(text, links), |title, (escaped, plain)| title.replace(escaped, plain))
}

/// Creates a code block with a fence longer than any run of backticks in the text.
#[must_use]
pub fn block(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{text}{end}{fence}")
}

/// Whether the rendered text contains no HTML, and images and links only to permitted hosts.
fn is_inert(text: &str, links: &LinkPolicy) -> bool {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).all(|event| match event {
        Event::Html(_) | Event::InlineHtml(_) => false,
        Event::Start(Tag::Image { dest_url, .. } | Tag::Link { dest_url, .. }) => {
            links.allowed(&dest_url).is_some()
        }
        _ => true,
    })
}

/// The fence of a code block.
#[derive(Debug, Clone, Copy)]
struct CodeFence {
    character: char,
    length: usize,
    indent: usize,
}

impl CodeFence {
    fn end(self) -> String {
        format!("{}{}", " ".repeat(self.indent), self.character.to_string().repeat(self.length))
    }
}

/// Sanitizes a stream of text.
#[derive(Debug)]
pub struct MarkdownSanitizer {
    links: LinkPolicy,
    place: RenderTarget,
    remover: Remover,
    /// Text that waits for more of its line.
    pending: String,
    /// Whether the position is at the beginning of a line.
    begins: bool,
    /// Fence of the open code block.
    code: Option<CodeFence>,
    /// Last character read, and last character written.
    before: char,
    shown: char,
}

impl MarkdownSanitizer {
    /// Creates a sanitizer at the beginning of a text.
    #[must_use]
    pub fn new(links: LinkPolicy, place: RenderTarget) -> Self {
        let (remover, pending) = (Remover::default(), String::new());
        Self { links, place, remover, pending, begins: true, code: None, before: '\n', shown: '\n' }
    }

    /// Processes a piece and returns the text that can be shown.
    pub fn push(&mut self, piece: &str) -> String {
        self.remover.push(piece, &mut self.pending);
        let mut pending = std::mem::take(&mut self.pending);
        let mut shown = String::with_capacity(pending.len() + 16);
        while let Some(end) = pending.find('\n') {
            let rest = pending.split_off(end + 1);
            self.read(&pending, true, &mut shown);
            self.begins = true;
            pending = rest;
        }
        // Do not scan a long line repeatedly: above the limit, treat the line as complete.
        let read = self.read(&pending, pending.len() > MAX_HELD, &mut shown);
        self.pending = pending.split_off(read);
        shown
    }

    /// Returns the remaining text at the end of the input.
    pub fn finish(&mut self) -> String {
        let mut shown = String::new();
        let pending = std::mem::take(&mut self.pending);
        self.read(&pending, true, &mut shown);
        // Close an open code block, so that text after it is not code.
        if let Some(fence) = self.code.take() {
            let end = if self.shown == '\n' { "" } else { "\n" };
            shown.push_str(&format!("{end}{}", fence.end()));
        }
        shown
    }

    /// Processes a line or a part of it. Returns the number of bytes processed.
    fn read(&mut self, line: &str, is_whole: bool, shown: &mut String) -> usize {
        let mut at = 0;
        if self.begins && !line.is_empty() {
            let Some((used, text)) = self.line_begins(line, is_whole) else { return 0 };
            self.begins = false;
            at = used;
            self.show(&line[..used], text, shown);
        }
        while at < line.len() {
            let Some((used, text)) = self.token(&line[at..], is_whole) else { break };
            self.show(&line[at..at + used], text, shown);
            at += used;
        }
        at
    }

    fn show(&mut self, read: &str, text: String, shown: &mut String) {
        self.before = read.chars().next_back().unwrap_or(self.before);
        self.shown = text.chars().next_back().unwrap_or(self.shown);
        shown.push_str(&text);
    }

    /// Handles fences of code blocks and syntax that counts only at the beginning of a line.
    fn line_begins(&mut self, line: &str, is_whole: bool) -> Option<(usize, String)> {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let rest = &line[indent..];
        if let Some(fence) = self.code {
            if !is_whole {
                return None;
            }
            let run = run(rest, fence.character);
            if indent <= 3 && run >= fence.length && rest[run..].trim().is_empty() {
                self.code = None;
                return Some((line.len(), line.to_owned()));
            }
            if indent >= fence.indent || rest.trim().is_empty() {
                return Some((line.len(), line.to_owned()));
            }
            // A list that contains the block may end here, so close the block explicitly.
            self.code = None;
            let (used, text) = self.line_begins(line, is_whole)?;
            return Some((used, format!("{}\n{text}", fence.end())));
        }
        let first = rest.chars().next();
        if first.is_none() && !is_whole {
            return None;
        }
        let decides = matches!(first, Some('`' | '~'))
            || self.place == RenderTarget::Tracker
                && matches!(first, Some('#' | '>' | '-' | '=' | '*' | '_' | '/' | '|' | ':'));
        if !decides || indent > 3 {
            return Some((indent, line[..indent].to_owned()));
        }
        if !is_whole {
            return None;
        }
        if let Some(opened) = self.code_begins(rest, indent) {
            return Some((line.len(), opened));
        }
        let mut text = line[..indent].to_owned();
        if self.place == RenderTarget::Tracker {
            if let Some(command) = COMMAND.find(rest) {
                return Some((indent + command.end(), text + &self.code(command.as_str(), "")));
            }
            if FORM.is_match(rest.trim_end_matches('\n')) {
                text.push('\\');
                text.push_str(&rest[..1]);
                return Some((indent + 1, text));
            }
        }
        Some((indent, text))
    }

    /// Opens a code block. Keeps only simple language names, because others can render diagrams with links.
    fn code_begins(&mut self, rest: &str, indent: usize) -> Option<String> {
        let fence = rest.chars().next().filter(|first| matches!(first, '`' | '~'))?;
        let length = run(rest, fence);
        let info = rest[length..].trim();
        if length < 3 || fence == '`' && info.contains('`') {
            return None;
        }
        self.code = Some(CodeFence { character: fence, length, indent });
        let is_name =
            info.len() <= 20 && info.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let draws = ["mermaid", "geojson", "topojson", "stl", "math"];
        let info = if is_name && !draws.contains(&info.to_lowercase().as_str()) { info } else { "text" };
        let end = if rest.ends_with('\n') { "\n" } else { "" };
        Some(format!("{}{}{info}{end}", " ".repeat(indent), &rest[..length]))
    }

    /// Processes the next token. Returns the number of bytes read and the output; `None` when more of the line is needed.
    fn token(&self, rest: &str, is_whole: bool) -> Option<(usize, String)> {
        let mut characters = rest.chars();
        let first = characters.next()?;
        let second = characters.next();
        if second.is_none() && !is_whole && !first.is_whitespace() {
            return None;
        }
        let second = second.unwrap_or('\n');
        let is_tracker = self.place == RenderTarget::Tracker;
        let as_it_is = |count: usize| Some((count, rest[..count].to_owned()));
        match first {
            '`' => self.span(rest, is_whole),
            '\\' => self.escape(rest, second, is_whole),
            ']' if second == '(' => self.destination(rest, is_whole),
            ']' if second == ':' && !is_whole => None,
            ']' if second == ':' && DEFINITION.is_match(rest.trim_end_matches('\n')) => {
                Some((2, "]\\:".to_owned()))
            }
            '[' if is_tracker && second == '[' => Some((1, "[ ".to_owned())),
            '<' if second.is_ascii_alphabetic() || matches!(second, '/' | '!' | '?') => {
                Some((1, "\\<".to_owned()))
            }
            '&' if ENTITY.is_match(rest) => Some((1, "\\&".to_owned())),
            '&' if !is_whole && OPEN_ENTITY.is_match(rest) => None,
            '@' if is_tracker && self.stands_alone() => match MENTION.find(rest) {
                Some(found) => self.named(found.as_str(), rest, is_whole),
                None => as_it_is(1),
            },
            '#' | '!' if is_tracker && second.is_ascii_digit() => {
                self.named(NUMBER.find(rest)?.as_str(), rest, is_whole)
            }
            '[' | ']' | '<' | '&' | '@' | '#' | '!' => as_it_is(1),
            _ if first.is_whitespace() => as_it_is(first.len_utf8()),
            _ => self.word(rest, is_whole),
        }
    }

    /// Whether the next text is not part of a word, as it would be in an e-mail address.
    fn stands_alone(&self) -> bool {
        self.shown == '`' || !self.before.is_alphanumeric()
    }

    /// Shows a name that a tracker would act on as code.
    fn named(&self, name: &str, rest: &str, is_whole: bool) -> Option<(usize, String)> {
        // The name may continue after these characters.
        if matches!(&rest[name.len()..], "" | "." | "/" | "@") && !is_whole {
            return None;
        }
        Some((name.len(), self.code(name, &rest[name.len()..])))
    }

    /// Creates a code span that does not join with backticks before or after it.
    fn code(&self, text: &str, after: &str) -> String {
        let text = text.replace('`', "'");
        let before = if self.shown == '`' { " " } else { "" };
        let after = if after.starts_with('`') { " " } else { "" };
        format!("{before}`{text}`{after}")
    }

    /// Keeps a code span that ends on its line. Escapes other backticks, which could pair with later ones.
    fn span(&self, rest: &str, is_whole: bool) -> Option<(usize, String)> {
        let length = run(rest, '`');
        if length == rest.len() && !is_whole {
            return None;
        }
        let mut at = length;
        while let Some(found) = rest[at..].find('`') {
            let start = at + found;
            let end = start + run(&rest[start..], '`');
            if end == rest.len() && !is_whole {
                return None;
            }
            if end - start == length {
                let content = &rest[length..start];
                // Tables split cells first, even within code spans.
                let is_whole_anywhere = !content.contains('|') || self.alone(content) == content;
                if !is_whole_anywhere {
                    break;
                }
                let space = if self.shown == '`' { " " } else { "" };
                return Some((end, format!("{space}{}", &rest[..end])));
            }
            at = end;
        }
        if at >= length && !is_whole && !rest.ends_with('\n') && !rest[at..].contains('`') {
            return None;
        }
        Some((length, "\\`".repeat(length)))
    }

    /// Returns the sanitized form of a text outside of code.
    fn alone(&self, text: &str) -> String {
        let mut defuser =
            Self { begins: false, before: ' ', shown: ' ', ..Self::new(self.links.clone(), self.place) };
        let mut shown = defuser.push(text);
        shown.push_str(&defuser.finish());
        shown
    }

    /// Handles a backslash escape. Removes the backslash where a tracker would still interpret the escaped character.
    fn escape(&self, rest: &str, second: char, is_whole: bool) -> Option<(usize, String)> {
        if matches!(second, ':' | '/') {
            return self.word(rest, is_whole);
        }
        if matches!(second, '@' | '&') {
            return Some((1, String::new()));
        }
        if matches!(second, '#' | '!') {
            let third = rest.chars().nth(2).or(is_whole.then_some('\n'))?;
            if third.is_ascii_digit() || second == '!' {
                return Some((1, String::new()));
            }
        }
        if second.is_alphanumeric() && self.place == RenderTarget::Tracker {
            // The backslash escapes nothing, and the following text may have to become code.
            return Some((1, "\\\\".to_owned()));
        }
        let used = (1 + second.len_utf8()).min(rest.len());
        Some((used, rest[..used].to_owned()))
    }

    /// Handles `](…)`: keeps the link only if the host is permitted.
    fn destination(&self, rest: &str, is_whole: bool) -> Option<(usize, String)> {
        let mut depth = 0usize;
        let end = rest.char_indices().skip(1).find_map(|(at, character)| {
            match character {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(at)
        });
        let Some(end) = end else {
            return is_whole.then(|| (1, "] ".to_owned()));
        };
        let inner = rest[2..end].trim();
        let target = inner.split_whitespace().next().unwrap_or_default();
        let target = target.trim_start_matches('<').trim_end_matches('>');
        if let Some(url) = self.links.allowed(target) {
            return Some((end + 1, format!("]({url})")));
        }
        if target.is_empty() {
            return Some((end + 1, "] ()".to_owned()));
        }
        Some((end + 1, format!("] (`{}`)", target.replace('`', "'"))))
    }

    /// Handles a word; an address in it stays a link only if the host is permitted.
    fn word(&self, rest: &str, is_whole: bool) -> Option<(usize, String)> {
        let word = WORD.find(rest)?.as_str();
        let is_answer = self.place == RenderTarget::Answer;
        let found = if is_answer { WEB_ADDRESS.find(word) } else { ADDRESS.find(word) };
        if !is_whole && found.is_none() && (word.len() == rest.len() || rest[word.len()..] == *"\\") {
            // Immediately output text that cannot start an address.
            let sure = if is_answer { word.len() - beginning(word) } else { 0 };
            return (sure > 0).then(|| (sure, self.numbered(&word[..sure])));
        }
        let Some(found) = found else {
            return Some((word.len(), self.numbered(word)));
        };
        if found.start() > 0 {
            let before = &word[..found.start()];
            return Some((before.len(), self.numbered(before)));
        }
        let all = URL.find(rest)?.as_str();
        if !is_whole && (all.len() == rest.len() || rest[all.len()..] == *"\\") {
            return None;
        }
        let kept = all.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '*', '_', '~', '|']);
        let url = if kept.is_empty() { all } else { kept };
        let plain = url.replace("\\:", ":").replace("\\/", "/");
        let shown = self.links.allowed(&plain).unwrap_or_else(|| self.code(&plain, &rest[url.len()..]));
        Some((url.len(), shown))
    }

    /// Returns a word without an address; shows references such as `GH-12` as code for trackers.
    fn numbered(&self, word: &str) -> String {
        let plain = word.replace("\\:", ":").replace("\\/", "/");
        if self.place == RenderTarget::Answer || !GITHUB_NUMBER.is_match(&plain) {
            return plain;
        }
        let shown = GITHUB_NUMBER.replace_all(&plain, "$1`$2`").into_owned();
        if shown.starts_with('`') && self.shown == '`' { format!(" {shown}") } else { shown }
    }
}

/// Length of the end of a word that may start an address.
fn beginning(word: &str) -> usize {
    let may_begin = |end: &str| {
        let end = end.replace('\\', "").to_ascii_lowercase();
        ["https://", "http://", "ftps://", "ftp://", "www."].iter().any(|begins| begins.starts_with(&end))
    };
    word.char_indices().map(|(at, _)| &word[at..]).find(|end| may_begin(end)).map_or(0, str::len)
}

/// Number of times a character is repeated at the beginning of a text.
fn run(text: &str, character: char) -> usize {
    text.len() - text.trim_start_matches(character).len()
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
