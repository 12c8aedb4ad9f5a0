//! Splits documents into chunks for search and prompts: along headings, within a token limit, each with its path of headings.

use super::read::{Document, Layout};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::sync::LazyLock;
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

/// Maximum length of a heading path in bytes.
const MAX_HEADING: usize = 200;

/// A chunk of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// `Title › Section › Part`.
    pub heading: String,
    /// Text of the chunk.
    pub text: String,
}

/// Measures chunks with `evidence::tokens`. Texts that are short enough are not counted.
struct Tokens(usize);

impl ChunkSizer for Tokens {
    fn size(&self, chunk: &str) -> usize {
        // A token has at least one byte, so a text of this length is within the limit.
        if chunk.len() <= self.0 {
            return chunk.len();
        }
        crate::evidence::tokens::count(chunk)
    }
}

/// Splits a document into chunks of at most `limit` tokens. The texts of its signatures form separate chunks.
#[must_use]
pub fn chunks(document: &Document, limit: usize) -> Vec<Chunk> {
    let config = ChunkConfig::new(limit).with_sizer(Tokens(limit));
    let mut found: Vec<Chunk> = match document.layout {
        Layout::Text => TextSplitter::new(config)
            .chunks(&document.body)
            .map(|text| Chunk { heading: document.title.clone(), text: text.to_owned() })
            .collect(),
        Layout::Markdown => markdown(document, MarkdownSplitter::new(config)),
    };
    found.retain(|chunk| chunk.text.chars().any(char::is_alphanumeric));
    let told = signatures(document);
    if !told.is_empty() {
        let splitter = TextSplitter::new(ChunkConfig::new(limit).with_sizer(Tokens(limit)));
        let heading = format!("{} › Known failures", document.title);
        found.extend(
            splitter.chunks(&told).map(|text| Chunk { heading: heading.clone(), text: text.to_owned() }),
        );
    }
    found
}

/// Splits each section separately, so that no chunk spans two sections.
fn markdown(document: &Document, splitter: MarkdownSplitter<Tokens>) -> Vec<Chunk> {
    let mut found = Vec::new();
    for section in sections(&document.body, &document.title) {
        for text in splitter.chunks(section.text) {
            found.push(Chunk { heading: section.heading.clone(), text: text.to_owned() });
        }
    }
    found
}

struct Section<'a> {
    heading: String,
    text: &'a str,
}

/// Returns the sections between headings of level 1 to 3, each with its path of headings.
fn sections<'a>(body: &'a str, title: &str) -> Vec<Section<'a>> {
    let mut found = Vec::new();
    let mut path: Vec<(HeadingLevel, String)> = Vec::new();
    let mut from = 0;
    let mut level = None;
    for (event, range) in Parser::new_ext(body, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level: found_level, .. }) if found_level <= HeadingLevel::H3 => {
                found.push(Section { heading: heading(title, &path), text: &body[from..range.start] });
                path.retain(|(above, _)| *above < found_level);
                path.push((found_level, String::new()));
                level = Some(found_level);
            }
            Event::Text(text) | Event::Code(text) if level.is_some() => {
                if let Some((_, name)) = path.last_mut() {
                    name.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) if level.is_some() => {
                level = None;
                from = range.end;
            }
            _ => {}
        }
    }
    found.push(Section { heading: heading(title, &path), text: &body[from..] });
    found.retain(|section| !section.text.trim().is_empty());
    found
}

fn heading(title: &str, path: &[(HeadingLevel, String)]) -> String {
    let mut heading = title.to_owned();
    for (_, name) in path.iter().filter(|(_, name)| name.trim() != title && !name.trim().is_empty()) {
        heading.push_str(" › ");
        heading.push_str(name.trim());
    }
    heading.truncate(heading.floor_char_boundary(MAX_HEADING));
    heading
}

/// Returns the texts of the signatures without placeholders.
fn signatures(document: &Document) -> String {
    static PLACEHOLDER: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"\{\w+\}").ok());
    let mut told = String::new();
    for signature in &document.signatures {
        told.push_str(&format!(
            "{}. {} {}\n",
            signature.title,
            signature.cause,
            signature.next_steps.join(" ")
        ));
    }
    PLACEHOLDER.as_ref().map_or(told.clone(), |placeholder| placeholder.replace_all(&told, "…").into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tokens;
    use crate::knowledge::Corpus;
    use crate::knowledge::read;

    #[test]
    fn chunks_follow_the_headings() {
        let text = "# Disk\n\nIntro.\n\n## Fix\n\n### On `node`s\n\nDelete.\n\n## Prevention\n\nWatch.\n";
        let document = &read::documents("disk.md", text.as_bytes()).unwrap()[0];
        let found: Vec<String> =
            chunks(document, 100).iter().map(|chunk| format!("{} = {}", chunk.heading, chunk.text)).collect();
        assert_eq!(found, ["Disk = Intro.", "Disk › Fix › On nodes = Delete.", "Disk › Prevention = Watch."]);
    }

    #[test]
    fn no_chunk_is_over_the_limit_and_nothing_is_lost() {
        for document in &Corpus::built_in().documents {
            let found = chunks(document, 120);
            for chunk in &found {
                assert!(tokens::count(&chunk.text) <= 120, "{}", document.path);
            }
            let words = |text: &str| text.split_whitespace().count();
            let kept: usize = found
                .iter()
                .filter(|chunk| !chunk.heading.ends_with("Known failures"))
                .map(|chunk| words(&chunk.text))
                .sum();
            let headings: usize = document.body.lines().filter(|line| line.starts_with('#')).map(words).sum();
            let own = words(&document.body);
            assert!(kept + headings >= own, "{}: {kept} + {headings} of {own} words", document.path);
        }
    }

    #[test]
    fn a_text_without_any_break_is_cut_too() {
        let document = &read::documents("a.txt", "x".repeat(20_000).as_bytes()).unwrap()[0];
        let cut = chunks(document, 50);
        assert!(cut.len() > 1 && cut.iter().all(|chunk| tokens::count(&chunk.text) <= 50));
    }
}
