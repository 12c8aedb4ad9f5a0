//! Renders Markdown of models and people as safe HTML: embedded HTML is shown as text, images are not loaded, links lead
//! only to known hosts, hidden characters are removed, and citations link to their lines.

use crate::domain::Citation;
use crate::evidence::untrusted::hidden;
use crate::evidence::untrusted::link_policy::LinkPolicy;
use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, TextMergeStream, html};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Sanitizer that permits the elements of Markdown and the citations of this server.
static CLEANER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = ammonia::Builder::default();
    cleaner
        .rm_tags(["img"])
        .url_schemes(["http", "https"].into())
        .url_relative(ammonia::UrlRelative::PassThrough)
        .add_allowed_classes("a", ["cite", "bad"])
        .link_rel(Some("noopener noreferrer nofollow"));
    cleaner
});

/// Renders a Markdown text with linked citations.
pub(super) fn html(text: &str, citations: &[Citation], links: &LinkPolicy) -> String {
    let text = &*hidden::removed(text);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let (mut code, mut linking) = (false, true);
    let mut unlinked = CowStr::from("");
    let events = TextMergeStream::new(Parser::new_ext(text, options)).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => None,
        // Paths of this server are reserved for citations. The target of a forbidden link is shown after its text.
        Event::Start(Tag::Link { dest_url, title, id, link_type }) => match links.allowed(&dest_url) {
            Some(url) => Some(Event::Start(Tag::Link { link_type, dest_url: CowStr::from(url), title, id })),
            None => {
                let is_said = matches!(link_type, LinkType::Autolink | LinkType::Email);
                unlinked = if is_said { CowStr::from("") } else { CowStr::from(format!(" ({dest_url})")) };
                linking = false;
                None
            }
        },
        Event::End(TagEnd::Link) if !linking => {
            linking = true;
            Some(Event::Text(std::mem::replace(&mut unlinked, CowStr::from(""))))
        }
        Event::Start(Tag::CodeBlock(kind)) => {
            code = true;
            Some(Event::Start(Tag::CodeBlock(kind)))
        }
        Event::End(TagEnd::CodeBlock) => {
            code = false;
            Some(Event::End(TagEnd::CodeBlock))
        }
        Event::Text(text) if !code && !citations.is_empty() => Some(linked(&text, citations)),
        other => Some(other),
    });
    let mut rendered = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut rendered, events);
    CLEANER.clean(&rendered).to_string()
}

/// Links the citations in a text.
fn linked(text: &str, citations: &[Citation]) -> Event<'static> {
    let mut shown = String::new();
    let mut rest = text;
    loop {
        let next = citations
            .iter()
            .filter_map(|citation| rest.find(&citation.mark).map(|at| (at, citation)))
            .min_by_key(|(at, citation)| (*at, std::cmp::Reverse(citation.mark.len())));
        let Some((at, citation)) = next else { break };
        shown.push_str(&escaped(&rest[..at]));
        shown.push_str(&anchor(citation));
        rest = &rest[at + citation.mark.len()..];
    }
    shown.push_str(&escaped(rest));
    Event::InlineHtml(CowStr::from(shown))
}

fn anchor(citation: &Citation) -> String {
    let Citation { mark, first_line, last_line, title, .. } = citation;
    let mut shown = String::from("<a class=\"cite");
    let path = citation.url.as_deref().map(super::filters::page_of).filter(|path| !path.is_empty());
    match path.filter(|_| citation.verified) {
        Some(path) => {
            let _ =
                write!(shown, "\" href=\"{}?lines={first_line}-{last_line}#L{first_line}\"", escaped(&path));
        }
        None => shown.push_str(" bad\""),
    }
    let _ = write!(shown, " title=\"{}\">{}</a>", escaped(title), escaped(mark));
    shown
}

fn escaped(text: &str) -> String {
    ammonia::clean_text(text)
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_runs() {
        let hostile = "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1)) \
            ![p](http://evil.example/x.png) [b](data:text/html,x) <a href='/api/agents' hx-get='/api' hx-trigger=load>c</a> \
            <svg/onload=alert(1)> [d](/mcp-servers) [e](//evil.example)";
        let links = LinkPolicy::new(&["forge.example".to_owned()], None);
        let shown = html(hostile, &[], &links);
        // Whole tags, so that none has an attribute.
        let tags: BTreeSet<&str> =
            shown.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or(tag)).collect();
        assert_eq!(tags, BTreeSet::from(["/p", "p"]), "{shown}");
        assert!(shown.contains("script") && shown.contains("javascript:"), "shown as text: {shown}");
        let linked = html("see <https://forge.example/7>", &[], &links);
        assert!(linked.contains("<a href=\"https://forge.example/7\""), "{linked}");
        let foreign =
            html("[here](https://evil.example/?q=s3) <https://evil.example/x> \u{202e}y", &[], &links);
        assert_eq!(foreign, "<p>here (https://evil.example/?q=s3) https://evil.example/x y</p>\n");
    }

    #[test]
    fn citations_lead_to_their_lines() {
        let citation = |mark: &str, verified| Citation {
            mark: mark.to_owned(),
            evidence: "E1".to_owned(),
            title: "log of \"build\"".to_owned(),
            first_line: 3,
            last_line: 4,
            quote: String::new(),
            verified,
            url: Some("/api/reports/7/evidence/E1".to_owned()),
        };
        let shown = html(
            "It broke [E1:3-4], not `[E1:3-4]` & [E1:9].",
            &[citation("E1:3-4", true), citation("E1:9", false)],
            &LinkPolicy::default(),
        );
        assert!(shown.contains("[<a class=\"cite\" href=\"/reports/7/evidence/E1?lines=3-4#L3\""), "{shown}");
        assert!(shown.contains("<a class=\"cite bad\""), "{shown}");
        assert!(shown.contains("<code>[E1:3-4]</code>"), "{shown}");
    }
}
