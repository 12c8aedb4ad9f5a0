//! Finds verifiable names in a text, such as files, tests, images, hosts and exit codes, to detect invented ones.

use crate::clock::{Deadline, DeadlinePassed};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static NAMES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let pattern = |pattern: &str| Regex::new(pattern).expect("a fixed pattern");
    vec![
        // Single words in code formatting.
        pattern(r"`([^`\s]{3,160})`"),
        // Files, hosts and images: words joined by dots, slashes or colons.
        pattern(
            r"(?:^|[\s(\x22'])([\w@+-]+(?:[./][\w@+-]+)*\.[a-z][a-z0-9]{0,9}\b(?::[\w.-]+)*(?:/[\w.@+-]+)*(?::[\w.-]+)?)",
        ),
        // Tests.
        pattern(r"\b(\w+(?:::\w+)+|\w+(?:Test|Tests|Spec|IT)[#.]\w+|[Tt]est_\w{3,}|Test[A-Z]\w{3,})"),
    ]
});
/// Reasons and types in camel case: `FailedMount`, `KeyError`.
static STATES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b").expect("a fixed pattern"));
/// Camel-case words that are not findings: kinds of objects, and products.
const KINDS: &str = " ConfigMap ServiceAccount StatefulSet DaemonSet ReplicaSet CronJob NetworkPolicy StorageClass ClusterRole RoleBinding \
    ClusterRoleBinding PersistentVolume PersistentVolumeClaim ResourceQuota LimitRange PipelineRun TaskRun BuildConfig DeploymentConfig \
    ImageStream HorizontalPodAutoscaler GitHub GitLab JavaScript TypeScript OpenShift DockerHub BitBucket CircleCi TeamCity ";
static EXIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bexit(?:ed|s)?(?:\s+with)?(?:\s+(?:code|status))*[\s:=]+(\d{1,3})\b")
        .expect("a fixed pattern")
});
/// Well-known names that need no source.
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

/// Standard files of tools.
const USUAL_FILES: [&str; 22] = [
    "package.json",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "cargo.toml",
    "cargo.lock",
    "go.mod",
    "go.sum",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "requirements.txt",
    "pyproject.toml",
    "setup.py",
    "tsconfig.json",
    "composer.json",
    "kustomization.yaml",
    "chart.yaml",
    "values.yaml",
    "vendor/modules.txt",
    ".gitmodules",
];

/// Maximum number of names per text to look up; each lookup searches all evidence.
const MAX_LOOKED_UP: usize = 200;

/// Returns the names in a text.
pub(super) fn all(text: &str) -> impl Iterator<Item = &str> {
    let found = NAMES.iter().flat_map(|pattern| pattern.captures_iter(text)).filter_map(|found| found.get(1));
    found.map(|name| name.as_str().trim_end_matches(['.', ':', ',']))
}

/// Returns the reasons and types in a text.
pub(super) fn states(text: &str) -> impl Iterator<Item = &str> {
    let found = STATES.find_iter(text).map(|found| found.as_str());
    found.filter(|state| !KINDS.contains(&format!(" {state} ")))
}

/// Returns the names in `text` that do not occur in `sources`.
pub(super) fn unknown(
    text: &str,
    sources: &[&str],
    deadline: &Deadline,
) -> Result<BTreeSet<String>, DeadlinePassed> {
    unknown_near(text, sources, "", deadline)
}

/// Like [`unknown`], but also accepts names whose parts all occur in `lines`, which is in lower case.
pub(super) fn unknown_near(
    text: &str,
    sources: &[&str],
    lines: &str,
    deadline: &Deadline,
) -> Result<BTreeSet<String>, DeadlinePassed> {
    let names: BTreeSet<&str> = all(text).filter(|name| !harmless(name)).take(MAX_LOOKED_UP).collect();
    let mut unknown = BTreeSet::new();
    for name in names {
        deadline.check()?;
        if !is_known(name, sources) && !in_parts(name, lines) {
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
    for number in numbers(text).take(MAX_LOOKED_UP) {
        deadline.check()?;
        let plain = number.replace(',', "");
        if !has_number(number, sources) && !has_number(&plain, sources) {
            unknown.insert(number.to_owned());
        }
    }
    Ok(unknown)
}

/// Returns separate numbers with at least two digits.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let tokens = text.split(|c: char| c.is_whitespace() || "()[]{};\"'`=/<>~%".contains(c));
    let tokens = tokens.map(|token| token.trim_matches(['.', ',', '-', '+', '!', '?', ':']));
    tokens.filter(|token| {
        token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b',')
            && token.bytes().filter(u8::is_ascii_digit).count() >= 2
    })
}

/// Whether each part of a name, such as `module.function`, is a word in the lines.
fn in_parts(name: &str, lines: &str) -> bool {
    let name = name.to_lowercase();
    let parts: Vec<&str> =
        name.split(['.', ':', '/', '#', '(', ')']).filter(|part| !part.is_empty()).collect();
    parts.len() > 1 && parts.iter().all(|part| has_word(part, &[lines]))
}

/// Whether a source contains this as a whole word, ignoring case.
pub(super) fn has_word(word: &str, sources: &[&str]) -> bool {
    apart(word, sources, u8::is_ascii_alphanumeric)
}

/// Whether a word in a source starts with the stem; ignores the prefix of libraries, as in `mosquitto` and `libmosquitto`.
pub(super) fn has_start(stem: &str, sources: &[&str]) -> bool {
    let stem = stem.to_lowercase();
    let stem = stem.strip_prefix("lib").filter(|rest| rest.len() >= 3).unwrap_or(&stem);
    // Numbers are looked up separately.
    if stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    sources.iter().any(|source| {
        let text = source.as_bytes();
        let begins = |at: usize| {
            at.checked_sub(1).and_then(|at| text.get(at)).is_none_or(|byte| !byte.is_ascii_alphabetic())
        };
        positions(source, stem).any(|at| begins(at) || stem.len() >= 6)
    })
}

/// Whether a source contains this number, not as part of another number.
fn has_number(number: &str, sources: &[&str]) -> bool {
    apart(number, sources, u8::is_ascii_digit)
}

/// Whether a source contains this word without adjacent characters of the given kind.
fn apart(word: &str, sources: &[&str], kind: fn(&u8) -> bool) -> bool {
    let word = word.to_lowercase();
    sources.iter().any(|source| {
        let text = source.as_bytes();
        positions(source, &word).any(|at| {
            let before = at.checked_sub(1).and_then(|at| text.get(at));
            !before.is_some_and(kind) && !text.get(at + word.len()).is_some_and(kind)
        })
    })
}

fn harmless(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    // Evidence labels, numbers and versions, flags, placeholders.
    let label = lower.strip_prefix('e').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let number = name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'v' | b'-'));
    label
        || number
        || name.starts_with('-')
        || name.contains(['<', '>', '$', '{', '*'])
        || COMMON.contains(&lower.as_str())
}

/// Whether a source contains the name literally, ignoring case.
pub(super) fn stands(name: &str, sources: &[&str]) -> bool {
    let name = name.trim_start_matches("./").to_lowercase();
    !name.is_empty() && sources.iter().any(|source| positions(source, &name).next().is_some())
}

/// Whether the sources contain the name, or its file without a line number or with a different path.
pub(super) fn is_known(name: &str, sources: &[&str]) -> bool {
    let has = |name: &str| stands(name, sources);
    if has(name) || USUAL_FILES.contains(&name.to_ascii_lowercase().as_str()) {
        return true;
    }
    let file = match name.split_once(':') {
        // `file.rs:12` is known if the file is known.
        Some((file, line)) if line.starts_with(|c: char| c.is_ascii_digit()) => file,
        Some(_) => return false,
        None => name,
    };
    if file != name && has(file) {
        return true;
    }
    // A log may contain the file without its folders, or with other folders.
    let Some((folder, last)) = file.rsplit_once('/') else { return false };
    let is_host = folder.split('/').next().is_some_and(|first| first.contains('.') && first.len() > 2);
    let is_file = last.rsplit_once('.').is_some_and(|(stem, _)| !stem.is_empty());
    !is_host && is_file && (has(last) || USUAL_FILES.contains(&last.to_ascii_lowercase().as_str()))
}

/// Letters from most to least frequent; other characters are rarer.
const COMMON_FIRST: &[u8] = b"etaoinsrhldcumfpgwybvkxjqz";

/// Returns the positions of the lower-case `name` in `text`, ignoring case; none for an empty name.
fn positions<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (text, name) = (text.as_bytes(), name.as_bytes());
    // Searches for the rarest letter, because frequent letters occur everywhere in a long log.
    let rarity =
        |byte: &u8| COMMON_FIRST.iter().position(|common| common == byte).unwrap_or(COMMON_FIRST.len());
    let at = (0..name.len()).max_by_key(|&at| rarity(&name[at])).unwrap_or_default();
    let rarest = name.get(at).copied().unwrap_or_default();
    let text = if name.is_empty() { &[] } else { text };
    memchr::memchr2_iter(rarest, rarest.to_ascii_uppercase(), text).filter_map(move |found| {
        let start = found.checked_sub(at)?;
        let found = text.get(start..start + name.len())?;
        found.eq_ignore_ascii_case(name).then_some(start)
    })
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
            "make exited with 2, e.g. by Node.js, see E1 and `--no-cache`.",
            "No name at all. And a second sentence.",
        ] {
            assert_eq!(of(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_word_stands_where_it_stands() {
        let log = ["Error: Queue `jobs-7` of QUEUE-9 is full"];
        assert!(has_start("que", &log) && has_start("full", &log) && !has_start("ueue", &log));
        assert!(
            stands("JOBS-7", &log) && stands("./queue", &log) && !stands("", &log) && !stands("full!", &log)
        );
        assert!(has_number("7", &log) && has_number("9", &log) && !has_number("79", &log));
        assert_eq!(positions(log[0], "queue").collect::<Vec<_>>(), [7, 25]);
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
