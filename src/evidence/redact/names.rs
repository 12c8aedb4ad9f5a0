//! Detects names of secrets (`DB_PASSWORD`, `keyStorePassword`, `redis.auth-token`) and values that only represent a
//! secret.

use regex::Regex;
use std::sync::LazyLock;

/// Maximum length of a name in bytes.
const MAX_NAME: usize = 128;
/// Maximum number of words in a name.
const MAX_WORDS: usize = 16;

/// Endings of the last word that denote a secret: `PGPASSWORD`, `clientsecret`.
const ENDINGS: [&str; 10] = [
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
];
/// Words that end with `pass` and denote a secret.
const JOINED: [&str; 12] = [
    "dbpass",
    "userpass",
    "rootpass",
    "adminpass",
    "mypass",
    "pgpass",
    "smtppass",
    "mailpass",
    "ftppass",
    "ldappass",
    "keypass",
    "storepass",
];
/// Words before `key` that denote a secret.
const OF_KEYS: [&str; 28] = [
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "encrypt",
    "signing",
    "sign",
    "master",
    "account",
    "deploy",
    "ssh",
    "session",
    "storage",
    "webhook",
    "jwt",
    "hmac",
    "aes",
    "app",
    "auth",
    "license",
    "subscription",
    "cookie",
    "fernet",
    "admin",
    "shared",
    "gpg",
    "pgp",
];
/// Words before `auth` that denote a password.
const OF_AUTH: [&str; 9] =
    ["rediscli", "redis", "basic", "http", "proxy", "registry", "npm", "docker", "smtp"];
/// Words before `pass` that do not denote a password.
const PASSES: [&str; 16] = [
    "by", "first", "second", "third", "single", "multi", "two", "one", "render", "opt", "last", "test",
    "tests", "did", "all", "must",
];
/// Words before `token` that do not denote a secret: tokens of parsers, models and paginated lists.
const PLAIN_TOKENS: [&str; 19] = [
    "next",
    "page",
    "continuation",
    "cancellation",
    "syntax",
    "start",
    "end",
    "stop",
    "eos",
    "bos",
    "pad",
    "unk",
    "mask",
    "sep",
    "cls",
    "max",
    "sync",
    "pagination",
    "cursor",
];
/// Words that may follow the significant word: `SECRET_KEY_BASE`, `TOKEN_PROD`.
const TRAILING: [&str; 19] = [
    "base",
    "prod",
    "dev",
    "staging",
    "test",
    "ci",
    "value",
    "hash",
    "salt",
    "old",
    "new",
    "primary",
    "secondary",
    "current",
    "previous",
    "encoded",
    "base64",
    "b64",
    "plain",
];

/// Values that represent a secret without being one, in any text.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\*+|\*[a-z]\w*|&[a-z]\w*(?:\.\w+)?|x{3,}|\.{3,}|<[^>]*>|\$\{?[\w.:()]+\}?|\$\{[\w.]+:?[-?+=]\}?|\$\(.*|\$\{\{.*|\{\{.*|%\w+%?|null|none|nil|true|false|undefined|\[?masked\]?|\[redacted.*|redacted|ENC\(.*|!\w+|[|>][-+0-9]*)$")
        .expect("a fixed pattern")
});
/// Additional words of sentences and of program code that are not secrets.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:password|passwd|pass|pwd|secret|token|empty|required|missing|invalid|changeme|example|not[ _-].*|was|is|has|(?:must|should|is|was|has|cannot|please|enter|your|the|an?|no|too|does|may|could|failed|unable)\s.*|expired|read|write|file:.*|env:.*|vault:.*|(?:id|type|src|source|env)=.*|secretKeyRef.*|valueFrom.*|/[\w./-]+|[0-9]{1,6})$")
        .expect("a fixed pattern")
});

/// Whether a value of this name is a secret. Only the end of the name counts: `TOKEN_EXPIRY` and `secretName` are not
/// secrets.
pub(super) fn is_secret(name: &str) -> bool {
    if name.len() > MAX_NAME {
        return false;
    }
    let mut words = [""; MAX_WORDS];
    let mut count = split(name, &mut words);
    while count > 1 && is_trailing(words[count - 1]) {
        count -= 1;
    }
    let Some(last) = words[..count].last() else { return false };
    let before = count.checked_sub(2).map_or("", |at| words[at]);
    let of = |known: &[&str], word: &str| known.iter().any(|one| one.eq_ignore_ascii_case(word));
    if ENDINGS.iter().any(|ending| ends_with(last, ending)) {
        return !(last.eq_ignore_ascii_case("token") && of(&PLAIN_TOKENS, before));
    }
    match last.len() {
        3 if last.eq_ignore_ascii_case("key") => of(&OF_KEYS, before),
        // `PWD` is the working directory.
        3 if last.eq_ignore_ascii_case("pwd") => {
            !before.is_empty() && !of(&["old"], before) || *last == "pwd"
        }
        3 if last.eq_ignore_ascii_case("pat") || last.eq_ignore_ascii_case("jwt") => !before.is_empty(),
        4 if last.eq_ignore_ascii_case("pass") => !before.is_empty() && !of(&PASSES, before),
        4 if last.eq_ignore_ascii_case("auth") => of(&OF_AUTH, before),
        5 if last.eq_ignore_ascii_case("creds") => true,
        6 if last.eq_ignore_ascii_case("cookie") => of(&["erlang", "session", "auth"], before),
        10 | 11 if of(&["credential", "credentials"], last) => true,
        _ => JOINED.iter().any(|joined| ends_with(last, joined)),
    }
}

/// Whether an option without a value, such as `--db-password`, takes the next argument as its secret.
pub(super) fn is_secret_option(option: &str) -> bool {
    let name = option.trim_start_matches('-');
    name.len() < option.len()
        && name.len() > 1
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && (name == "pass" || is_secret(name))
}

fn is_trailing(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
        || TRAILING.iter().any(|trailing| trailing.eq_ignore_ascii_case(word))
}

fn ends_with(word: &str, ending: &str) -> bool {
    let (word, ending) = (word.as_bytes(), ending.as_bytes());
    word.len() >= ending.len() && word[word.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

/// Splits a name into words at punctuation and capital letters. Returns the number of words.
fn split<'a>(name: &'a str, words: &mut [&'a str; MAX_WORDS]) -> usize {
    let bytes = name.as_bytes();
    let (mut count, mut from) = (0, 0);
    for at in 0..=bytes.len() {
        let sign = at == bytes.len() || !bytes[at].is_ascii_alphanumeric();
        let hump = !sign
            && at > from
            && bytes[at].is_ascii_uppercase()
            && (bytes[at - 1].is_ascii_lowercase()
                || bytes[at - 1].is_ascii_digit()
                || bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase));
        if !sign && !hump {
            continue;
        }
        // The end of the name is significant, so drop the first word of a long name.
        if at > from && name.is_char_boundary(from) && name.is_char_boundary(at) {
            if count == MAX_WORDS {
                words.rotate_left(1);
                count -= 1;
            }
            words[count] = &name[from..at];
            count += 1;
        }
        from = if sign { at + 1 } else { at };
    }
    count
}

/// Whether a value is a mask, a reference or a variable instead of a secret.
pub(super) fn is_reference(value: &str) -> bool {
    REFERENCE.is_match(value)
}

/// Whether a value is the path of a secret and not the secret itself.
pub(super) fn is_path(value: &str) -> bool {
    value.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').next().is_some_and(|first| {
            !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.')
        })
    })
}

/// Whether a value in free text or program code is not a secret.
pub(super) fn is_harmless(value: &str) -> bool {
    HARMLESS.is_match(value) || is_reference(value)
}

/// Whether a value is code: the type in `token: string`, the call in `password = getPassword()`, the constant in `token:
/// EOF`.
pub(super) fn is_code(value: &str) -> bool {
    // `[--password PASSWORD]`
    let value = value.trim_end_matches([']', ')']);
    let called = value.split_once('(').map_or("", |(function, _)| function);
    if !called.is_empty() && called.split('.').all(identifier) {
        return true;
    }
    let word = value.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    let lower_word = word && !value.bytes().any(|b| b.is_ascii_uppercase()) && value.len() <= 8;
    let type_or_constant =
        word && (value.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') || camel(value));
    // `self.config.token`, `os.environ`, `pkg::name`
    let path = value.contains("::") || value.split('.').count() > 1 && value.split('.').all(identifier);
    lower_word || type_or_constant || path
}

/// Whether a value is in camel case, such as `SecretKeySelector`, with one capital letter per word.
fn camel(value: &str) -> bool {
    let capitals = value.bytes().filter(u8::is_ascii_uppercase).count();
    let humps = value
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase())
        .count();
    value.is_ascii() && (1..=4).contains(&capitals) && humps == capitals && value.len() >= capitals * 4
}

fn identifier(part: &str) -> bool {
    let capitals = part.bytes().filter(u8::is_ascii_uppercase).count();
    let humps = part
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase());
    part.len() <= 24
        // `accessToken`, `TOKEN`; random values mix upper and lower case differently.
        && (humps.count() == capitals || part.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_whether_its_value_is_secret() {
        for name in [
            "PGPASSWORD",
            "DB_PASS",
            "dbPassword",
            "adminPassword",
            "trustStorePassword",
            "REDISCLI_AUTH",
            "MYSQL_PWD",
            "spring.datasource.password",
            "javax.net.ssl.keyStorePassword",
            "db-password",
            "SECRET_KEY_BASE",
            "awsSecretAccessKey",
            "TOKEN_PROD",
            "GITHUB_PAT",
            "accessToken",
            "api_key",
            "PASSWORD_2",
            "registry-credentials",
            "dbpass",
            "token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "TOKEN_EXPIRY",
            "PASSWORD_MIN_LENGTH",
            "secretName",
            "tokenizer",
            "BYPASS",
            "FIRST_PASS",
            "compass",
            "author",
            "KEYBOARD",
            "PWD",
            "OLDPWD",
            "OLD_PWD",
            "key",
            "cache-key",
            "nextToken",
            "tokens",
            "max_tokens",
            "SSH_AUTH_SOCK",
            "password-file",
            "auth",
            "pass",
            "PASS",
            "passed",
            "monkey",
            "",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        assert!(is_secret_option("--db-password") && is_secret_option("--pass"));
        assert!(
            !is_secret_option("--password-stdin") && !is_secret_option("password") && !is_secret_option("--")
        );
    }
}
