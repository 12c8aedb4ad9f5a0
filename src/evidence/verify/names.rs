//! Names in a text that can be looked up: files, tests, images, hosts, exit codes. An analyst who invents one is found out.

use crate::clock::{Deadline, DeadlinePassed};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static NAMES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let pattern = |pattern: &str| Regex::new(pattern).expect("a fixed pattern");
    vec![
        // What the analyst set in code and is one word.
        pattern(r"`([^`\s]{3,160})`"),
        // Files, hosts, images: words joined by dots, slashes or colons.
        pattern(
            r"(?:^|[\s(\x22'])([\w@+-]+(?:[./][\w@+-]+)*\.[a-z][a-z0-9]{0,9}(?::[\w.-]+)*(?:/[\w.@+-]+)*(?::[\w.-]+)?)",
        ),
        // Tests.
        pattern(r"\b(\w+(?:::\w+)+|\w+(?:Test|Tests|Spec|IT)[#.]\w+|[Tt]est_\w{3,}|Test[A-Z]\w{3,})"),
    ]
});
static EXIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bexit(?:ed|s)?(?:\s+with)?(?:\s+(?:code|status))*[\s:=]+(\d{1,3})\b")
        .expect("a fixed pattern")
});
/// Names that everybody knows and no log has to tell.
const COMMON: [&str; 14] = [
    "node.js",
    "vue.js",
    "next.js",
    "asp.net",
    "e.g",
    "i.e",
    "etc",
    "docker.io",
    "k8s.io",
    "github.com",
    "kubernetes.io",
    "npmjs.com",
    "pypi.org",
    "crates.io",
];

/// Names of one text that are looked up; each is looked for in all evidence.
const MAX_LOOKED_UP: usize = 200;

/// The names in `text` that `sources` do not have.
pub(super) fn unknown(
    text: &str,
    sources: &[&str],
    deadline: &Deadline,
) -> Result<BTreeSet<String>, DeadlinePassed> {
    let found = NAMES.iter().flat_map(|pattern| pattern.captures_iter(text)).filter_map(|found| found.get(1));
    let names: BTreeSet<&str> = found
        .map(|name| name.as_str().trim_end_matches(['.', ':', ',']))
        .filter(|name| !harmless(name))
        .take(MAX_LOOKED_UP)
        .collect();
    let mut unknown = BTreeSet::new();
    for name in names {
        deadline.check()?;
        if !known(name, sources) {
            unknown.insert(name.to_owned());
        }
    }
    for found in EXIT.captures_iter(text).take(MAX_LOOKED_UP) {
        deadline.check()?;
        let code = &found[1];
        let told =
            Regex::new(&format!(r"(?i)(?:exit|code|status|error|returned|terminated)\D{{0,24}}\b{code}\b"));
        if code != "0" && !told.is_ok_and(|told| sources.iter().any(|source| told.is_match(source))) {
            unknown.insert(format!("exit code {code}"));
        }
    }
    Ok(unknown)
}

fn harmless(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    // Labels of evidence, numbers and versions, flags, placeholders.
    let label = lower.strip_prefix('e').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let number = name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'v' | b'-'));
    label
        || number
        || name.starts_with('-')
        || name.contains(['<', '>', '$', '{', '*'])
        || COMMON.contains(&lower.as_str())
}

fn known(name: &str, sources: &[&str]) -> bool {
    let has = |name: &str| {
        let name = name.trim_start_matches("./").to_ascii_lowercase();
        !name.is_empty() && sources.iter().any(|source| contains(source, &name))
    };
    // `file.rs:12` is known when the file is: the line may be told another way.
    has(name)
        || name
            .split_once(':')
            .is_some_and(|(file, line)| line.starts_with(|c: char| c.is_ascii_digit()) && has(file))
}

/// Whether `text` has the lower-case `name`, whatever its case.
fn contains(text: &str, name: &str) -> bool {
    let (text, name) = (text.as_bytes(), name.as_bytes());
    let first = name[0];
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), text)
        .any(|at| text.get(at..at + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let log = "src/main.rs:10: error in auth::login\nimage registry.example.com/app:1.2 pulled\nmake: *** [all] Error 2\n\
                   reason: Error\n    exitCode: 137\nTestCheckout failed in Checkout_test.go\n";
        unknown(text, &[log], &Deadline::never()).unwrap().into_iter().collect()
    }

    #[test]
    fn what_the_evidence_has_is_known() {
        for text in [
            "`src/main.rs` fails in auth::login (main.rs:99), exit code 137",
            "The image registry.example.com/app:1.2 was pulled; TestCheckout of checkout_test.go failed.",
            "make exited with 2, e.g. by Node.js 18.2.1, see E1 and `--no-cache`.",
            "No name at all. And a second sentence.",
        ] {
            assert_eq!(of(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_was_invented_is_found() {
        assert_eq!(of("`src/lib.rs` fails"), ["src/lib.rs"]);
        assert_eq!(
            of("see registry.evil.com/app:2 and config.yaml"),
            ["config.yaml", "registry.evil.com/app:2"]
        );
        assert_eq!(of("auth::logout with exit code 3"), ["auth::logout", "exit code 3"]);
        assert_eq!(of("TestRefund fails"), ["TestRefund"]);
    }
}
