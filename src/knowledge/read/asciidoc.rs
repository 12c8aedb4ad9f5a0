//! Converts AsciiDoc to Markdown as far as chunking and reading need it: headings, listings, lists, links, attributes.
//! Follows the syntax of docs.asciidoctor.org. Unknown syntax stays unchanged.

use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

static ATTRIBUTE: LazyLock<Option<Regex>> = LazyLock::new(|| regex(r"^:([\w-]+):\s*(.*)$"));
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| regex(r"\{([\w-]+)\}"));
static LINK: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"(?:link:|xref:)?((?:https?://)?[^\s\[\]<>,;]+)\[([^\]]*)\]"));
static ANCHOR: LazyLock<Option<Regex>> = LazyLock::new(|| regex(r"^\[.*\]$"));

/// Returns the title, if there is one, and the body.
pub(super) fn to_markdown(text: &str) -> (Option<String>, String) {
    let mut attributes: HashMap<String, String> = HashMap::new();
    let mut title = None;
    let mut body = String::new();
    // Delimiter that closes the open listing.
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let trimmed = line.trim_end();
        if let Some(fence) = open {
            if trimmed == fence {
                open = None;
                push(&mut body, if fence == "////" { "" } else { "```" });
            } else if fence != "////" {
                push(&mut body, line);
            }
            continue;
        }
        match trimmed {
            "----" | "...." | "```" => {
                open = Some(if trimmed == "----" {
                    "----"
                } else if trimmed == "...." {
                    "...."
                } else {
                    "```"
                });
                push(&mut body, "```");
                continue;
            }
            "////" => {
                open = Some("////");
                continue;
            }
            // Delimiters of admonitions, sidebars, tables and pages.
            "====" | "****" | "|===" | "'''" | "<<<" | "+" => continue,
            _ => {}
        }
        if trimmed.starts_with("//") {
            continue;
        }
        if let Some(found) = ATTRIBUTE.as_ref().and_then(|attribute| attribute.captures(trimmed)) {
            attributes.insert(found[1].to_owned(), found[2].to_owned());
            continue;
        }
        let anchor = ANCHOR.as_ref().is_some_and(|anchor| anchor.is_match(trimmed));
        if anchor || trimmed.starts_with("include::") || trimmed.starts_with("image::") {
            continue;
        }
        let line = resolve(trimmed, &attributes);
        match heading(&line) {
            Some((1, text)) if title.is_none() => title = Some(text.to_owned()),
            Some((level, text)) => push(&mut body, &format!("{} {text}", "#".repeat(level.min(6)))),
            None => push(&mut body, &inline(&line)),
        }
    }
    if open.is_some_and(|fence| fence != "////") {
        push(&mut body, "```");
    }
    (title, body.trim().to_owned())
}

fn push(body: &mut String, line: &str) {
    body.push_str(line);
    body.push('\n');
}

/// Parses a heading: `== Text` has level 2.
fn heading(line: &str) -> Option<(usize, &str)> {
    let rest = line.trim_start_matches('=');
    let level = line.len() - rest.len();
    (level > 0 && rest.starts_with(' ')).then(|| (level, rest.trim()))
}

fn resolve(line: &str, attributes: &HashMap<String, String>) -> String {
    let Some(reference) = REFERENCE.as_ref().filter(|_| line.contains('{')) else { return line.to_owned() };
    let known = |found: &regex::Captures<'_>| {
        attributes.get(&found[1]).cloned().unwrap_or_else(|| found[0].to_owned())
    };
    reference.replace_all(line, known).into_owned()
}

/// Converts lists with `*` and `.`, block titles and links.
fn inline(line: &str) -> String {
    let depth = |mark: char| line.chars().take_while(|&c| c == mark).count();
    let (stars, dots) = (depth('*'), depth('.'));
    let line = if stars > 0 && line[stars..].starts_with(' ') {
        format!("{}-{}", "  ".repeat(stars - 1), &line[stars..])
    } else if dots > 0 && line[dots..].starts_with(' ') {
        format!("{}1.{}", "  ".repeat(dots - 1), &line[dots..])
    } else if dots == 1 && line[1..].starts_with(char::is_alphabetic) {
        format!("**{}**", &line[1..])
    } else {
        line.to_owned()
    };
    match LINK.as_ref().filter(|_| line.contains("link:") || line.contains("xref:") || line.contains("://")) {
        Some(link) => link
            .replace_all(&line, |found: &regex::Captures<'_>| match &found[2] {
                "" => found[1].to_owned(),
                text => format!("[{text}]({})", &found[1]),
            })
            .into_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn structure_becomes_markdown() {
        let text = "= The registry is full\n:registry: quay.example.com\n\n[[prune]]\n== Prune it\n\n\
                    On {registry}, see link:https://docs.example.com/prune[the manual]:\n\n\
                    .Command\n[source,bash]\n----\noc adm prune images # {registry}\n== no heading\n----\n\n\
                    // a comment\n* first\n** nested\n. one\nNOTE: Takes long.\n";
        let (title, body) = super::to_markdown(text);
        assert_eq!(title.as_deref(), Some("The registry is full"));
        insta::assert_snapshot!(body, @r"
        ## Prune it

        On quay.example.com, see [the manual](https://docs.example.com/prune):

        **Command**
        ```
        oc adm prune images # {registry}
        == no heading
        ```

        - first
          - nested
        1. one
        NOTE: Takes long.
        ");
    }
}
