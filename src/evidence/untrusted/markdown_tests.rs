//! Tests hostile Markdown with a renderer: nothing loads, no foreign links, no mentions.

use super::*;
use proptest::prelude::*;

fn links() -> LinkPolicy {
    LinkPolicy::new(&["docs.example".to_owned()], Some("https://regreen.example"))
}

fn answer(text: &str) -> String {
    sanitize(text, &links(), RenderTarget::Answer)
}

fn issue(text: &str) -> String {
    sanitize(text, &links(), RenderTarget::Tracker)
}

#[test]
fn foreign_links_and_images_are_text() {
    for (text, wanted) in [
        ("![x](https://evil.example/?q=1)", "![x] (`https://evil.example/?q=1`)"),
        ("[a](https://docs.example/p \"t\") b", "[a](https://docs.example/p) b"),
        (
            "[![a](http://e.example/x)](http://e.example/y)",
            "[![a] (`http://e.example/x`)] (`http://e.example/y`)",
        ),
        ("see https://evil.example/x?y=(z).", "see `https://evil.example/x?y=(z`)."),
        ("see https://docs.example/x.", "see https://docs.example/x."),
        (
            "<https://evil.example> <img src=http://evil.example>",
            "\\<`https://evil.example`> \\<img src=`http://evil.example`>",
        ),
        ("[r]: http://evil.example\n![x][r]", "[r]\\: `http://evil.example`\n![x][r]"),
        ("https\\://evil.example ht&#116;ps://x", "`https://evil.example` ht\\&#116;ps://x"),
        ("[x](/user/logout) [y](javascript:alert(1))", "[x] (`/user/logout`) [y] (`javascript:alert(1)`)"),
        ("www.evil.example, WWW.Evil.example", "`www.evil.example`, `WWW.Evil.example`"),
        ("a ` b\nc ` ![x](http://e.example) ` d", "a \\` b\nc ` ![x](http://e.example) ` d"),
        (
            "| a |\n| - |\n| ` | ![x](http://e.example) ` |",
            "| a |\n| - |\n| \\` | ![x] (`http://e.example`) \\` |",
        ),
    ] {
        assert_eq!(answer(text), wanted);
    }
}

#[test]
fn honest_text_stays_as_it_is() {
    for text in [
        "The build fails [E1:3-5], see `src/main.rs` and **the log**.\n\n1. Run `a | b`.\n2. Then [E2:1]: it works.\n",
        "```rust\n#![allow(x)]\nlet y = a[0](1);\n// https://evil.example\n```\nafter",
        "Vec < 3 && a > b, C# and x!=y, AT&T 5 * 3_000 \\* \\_",
        "- one\n- two @types/node #1\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    ] {
        assert_eq!(answer(text), text);
    }
}

#[test]
fn a_tracker_calls_nobody_and_closes_nothing() {
    for (text, wanted) in [
        ("@everyone and (@org/team) a@b.example", "`@everyone` and (`@org/team`) a@b.example"),
        ("Closes #1, fixes o/r#12 and !3 GH-4", "Closes `#1`, fixes o/r`#12` and `!3` `GH-4`"),
        ("\\@all \\#7", "`@all` `#7`"),
        ("&#64;all &commat;all", "\\&`#64`;all \\&commat;all"),
        (
            "/close\n /assign me\n# Approved\n> quoted\ntext\n---\n",
            "`/close`\n `/assign` me\n\\# Approved\n\\> quoted\ntext\n\\---\n",
        ),
        ("[[Home|http://evil.example/x.png]]", "[ [Home|`http://evil.example/x.png`]]"),
        ("`code`@user`x` _@user_ ``a``GH-3", "`code` `@user` `x` _`@user_` ``a`` `GH-3`"),
        ("```mermaid\nclick A\n", "```text\nclick A\n```"),
        ("- x\n  ```\nout ![y](http://e.example)", "- x\n  ```\n  ```\nout ![y] (`http://e.example`)"),
    ] {
        assert_eq!(issue(text), wanted);
    }
    assert_eq!(
        sanitize_title(
            "Vec<String> is <90> & `x` <b>@all</b> ` &amp; C:\\x https://evil.example/a",
            &links()
        ),
        "Vec< String> is <90> & `x` < b>`@all`< /b> ' & amp; C:\\x `https://evil.example/a`"
    );
    assert_eq!(sanitize_line("# a\n```\n@bob\u{200b} `npm`", &links()), "# a \\`\\`\\` `@bob` `npm`");
}

/// Whether a forge would act on the text of a rendered page: mentions, numbers and addresses outside of code.
fn is_called(text: &str) -> bool {
    let acts = Regex::new(r"(?i)(?:^|[^\w`])@\w|(?:^|[^&])#\d|https?://|ftp://|\bwww\.|\bgh-\d").unwrap();
    let mut is_code = false;
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).any(|event| match event {
        Event::Start(Tag::CodeBlock(_)) => {
            is_code = true;
            false
        }
        Event::End(pulldown_cmark::TagEnd::CodeBlock) => {
            is_code = false;
            false
        }
        Event::Text(text) => !is_code && acts.is_match(&text),
        _ => false,
    })
}

const HOSTILE: &str = "(@a|#1|!2|GH-3|https?://e\\.example/x|www\\.e\\.example|!?\\[x\\]\\(http://e\\.example\\)|\\[r\\]: //e\\.example|\\[r\\]|<img src=//e>|<https://e\\.example>|</?b>|&#64;|&amp;|`{1,4}|~~~|\\\\|\\[|\\]|\\(|\\)|[|]|:|/|\\*|_|>|-|#| |  |\n|\n\n|a|\u{200b}|\u{e0041}){0,25}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn nothing_lives_whatever_is_written(text in HOSTILE) {
        for place in [RenderTarget::Answer, RenderTarget::Tracker] {
            let mut defuser = MarkdownSanitizer::new(links(), place);
            let mut shown = defuser.push(&text);
            shown.push_str(&defuser.finish());
            prop_assert!(is_inert(&shown, &links()), "{:?}", shown);
            if place == RenderTarget::Tracker {
                prop_assert!(!is_called(&shown), "{:?}", shown);
            }
        }
    }

    #[test]
    fn pieces_make_the_same_as_the_whole(text in HOSTILE, cuts in proptest::collection::vec(0usize..60, 0..6)) {
        // Only answers are sanitized in pieces; text for a tracker is complete, and any scheme counts there.
        let place = RenderTarget::Answer;
        let mut whole = MarkdownSanitizer::new(links(), place);
        let mut wanted = whole.push(&text);
        wanted.push_str(&whole.finish());
        let (mut shown, mut defuser) = (String::new(), MarkdownSanitizer::new(links(), place));
        let mut rest = text.as_str();
        for cut in &cuts {
            let at = rest.char_indices().nth(*cut).map_or(rest.len(), |(at, _)| at);
            shown.push_str(&defuser.push(&rest[..at]));
            rest = &rest[at..];
        }
        shown.push_str(&defuser.push(rest));
        shown.push_str(&defuser.finish());
        prop_assert_eq!(&shown, &wanted);
    }
}
