//! Reads settings from all layers and collects every error, so that one run reports them all.

use super::MIN_SECRET;
use super::legacy_env::{self, Replaced};
use super::setting::{Effective, Env, RENAMED, SECRETS, Setting};
use crate::evidence::redact::Redactor;
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Maximum duration of a setting, so that date arithmetic cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A configuration error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Key of the setting and the source of its value.
    pub setting: String,
    /// Description of the error and of valid values.
    pub problem: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

/// Configuration layers: environment over file over default.
pub(super) struct SettingsReader<'a> {
    settings: &'static [Setting],
    env: Env<'a>,
    file: BTreeMap<String, String>,
    replaced: Replaced,
    pub(super) mistakes: Vec<ConfigError>,
}

impl<'a> SettingsReader<'a> {
    /// Creates a reader of these settings.
    pub(super) fn new(settings: &'static [Setting], env: Env<'a>, file: &toml::Table) -> Self {
        let (replaced, mistakes) = (Replaced::default(), Vec::new());
        let mut reader = Self { settings, env, file: BTreeMap::new(), replaced, mistakes };
        for (section, value) in file {
            if matches!(section.as_str(), "mcp" | "notify" | "price") {
                continue;
            }
            let Some(section_table) = value.as_table() else {
                reader.unknown(section);
                continue;
            };
            for (name, value) in section_table {
                let mut key = format!("{section}.{name}");
                if let Some((old, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
                    if new.split_once('.').is_some_and(|(_, new)| section_table.contains_key(new)) {
                        reader.mistake(
                            format!("`{old}` (file)"),
                            format!("is the old name of `{new}`, which is set too; remove one of them"),
                        );
                        continue;
                    }
                    key = (*new).to_owned();
                }
                if settings.iter().any(|setting| setting.key == key) {
                    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                    reader.file.insert(key, text);
                } else {
                    reader.unknown(&key);
                }
            }
        }
        let bind = reader.set("server.bind").map(|(value, _)| value);
        reader.replaced = legacy_env::defaults(env, |key| reader.set(key).is_some(), bind.as_deref());
        reader
    }

    fn setting(&self, key: &str) -> &'static Setting {
        self.settings
            .iter()
            .find(|setting| setting.key == key)
            .expect("keys are written in the settings table")
    }

    /// Returns warnings about valid settings.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.replaced.warnings.clone()
    }

    fn unknown(&mut self, key: &str) {
        let near = self
            .settings
            .iter()
            .map(|setting| (strsim::jaro_winkler(setting.key, key), setting.key))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.85);
        let hint = near.map_or_else(String::new, |(_, key)| format!("; did you mean `{key}`?"));
        self.mistake(format!("`{key}` (file)"), format!("there is no such setting{hint}"));
    }

    pub(super) fn mistake(&mut self, setting: impl Into<String>, problem: impl Into<String>) {
        self.mistakes.push(ConfigError { setting: setting.into(), problem: problem.into() });
    }

    /// Returns the value of a setting and its display name with the source; empty values count as unset.
    fn lookup(&self, key: &str) -> (Option<String>, String) {
        if let Some((value, name)) = self.set(key) {
            return (Some(value), name);
        }
        if let Some(value) = self.replaced.values.get(key) {
            return (Some((*value).to_owned()), format!("`{key}` (default of the Python agent)"));
        }
        let default = self.setting(key).default;
        ((!default.is_empty()).then(|| default.to_owned()), format!("`{key}`"))
    }

    /// Returns the same, but only for an explicitly set value.
    fn set(&self, key: &str) -> Option<(String, String)> {
        for name in self.setting(key).env {
            if let Some(value) = (self.env)(name).filter(|value| !value.trim().is_empty()) {
                return Some((value.trim().to_owned(), format!("`{key}` ({name})")));
            }
        }
        let value = self.file.get(key).filter(|value| !value.trim().is_empty())?;
        Some((value.trim().to_owned(), format!("`{key}` (file)")))
    }

    /// Returns the effective value of every setting.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let mut redactor = Redactor::new();
        let mut shown = |setting: &Setting| {
            let (value, name) = self.lookup(setting.key);
            let from = name.split_once(" (").map_or("default", |(_, from)| from.trim_end_matches(')'));
            let value = value.map(|value| match () {
                () if !SECRETS.contains(&setting.key) => redactor.redact(&value),
                () if value.starts_with("env:") || value.starts_with("file:") => value,
                () => "(set, not shown)".to_owned(),
            });
            Effective { key: setting.key, value, from: from.to_owned(), doc: setting.doc }
        };
        self.settings.iter().map(&mut shown).collect()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.lookup(key).0
    }

    /// Returns a text setting that has a default.
    pub(super) fn required_text(&self, key: &str) -> String {
        self.text(key).unwrap_or_default()
    }

    pub(super) fn number<T: FromStr + Default>(&mut self, key: &str, wanted: &str) -> Option<T> {
        let (value, name) = self.lookup(key);
        let value = value?;
        match value.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                self.mistake(name, format!("`{value}` is not {wanted}"));
                None
            }
        }
    }

    /// Reads a number within bounds. Returns `low` and records an error when it is invalid.
    pub(super) fn bounded<T>(&mut self, key: &str, low: T, high: T) -> T
    where
        T: FromStr + Default + PartialOrd + Copy + std::fmt::Display,
    {
        let Some(number) = self.number::<T>(key, &format!("a number from {low} to {high}")) else {
            return low;
        };
        if number < low || number > high {
            let (_, name) = self.lookup(key);
            self.mistake(name, format!("{number} is outside {low} to {high}"));
            return low;
        }
        number
    }

    pub(super) fn duration(&mut self, key: &str) -> Duration {
        let (value, name) = self.lookup(key);
        let value = value.unwrap_or_default();
        let parsed = value.parse::<u64>().map(Duration::from_secs).ok();
        let Some(time) = parsed.or_else(|| humantime::parse_duration(&value).ok()) else {
            self.mistake(name, format!("`{value}` is not a time such as `30s`, `5m` or `500ms`"));
            return Duration::ZERO;
        };
        self.not_too_long(&name, time)
    }

    /// Rejects a duration that is too long for date arithmetic.
    pub(super) fn not_too_long(&mut self, name: &str, time: Duration) -> Duration {
        if time <= MAX_DURATION {
            return time;
        }
        self.mistake(name, "is longer than 100 years");
        MAX_DURATION
    }

    /// Reads a duration of at least `low`.
    pub(super) fn duration_from(&mut self, key: &str, low: Duration) -> Duration {
        let before = self.mistakes.len();
        let time = self.duration(key);
        if time < low && self.mistakes.len() == before {
            let (_, name) = self.lookup(key);
            self.mistake(name, format!("is shorter than {}", humantime::format_duration(low)));
        }
        time.max(low)
    }

    pub(super) fn url(&mut self, key: &str) -> Option<String> {
        let (value, name) = self.lookup(key);
        let value = value?;
        match reqwest::Url::parse(&value) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(value),
            _ => {
                self.mistake(name, "is not an http:// or https:// URL");
                None
            }
        }
    }

    pub(super) fn secret(&mut self, key: &str) -> Option<SecretString> {
        debug_assert!(SECRETS.contains(&key), "{key} would be shown to people");
        let (value, name) = self.lookup(key);
        self.resolve(&name, &value?)
    }

    /// Reads a signing secret; `risk` describes the risk of a short one.
    pub(super) fn signing_secret(&mut self, key: &str, risk: &str) -> Option<SecretString> {
        let secret = self.secret(key)?;
        if secret.expose_secret().len() < MIN_SECRET {
            self.mistake(format!("`{key}`"), format!("is shorter than {MIN_SECRET} bytes: {risk}"));
        }
        Some(secret)
    }

    /// Resolves `env:NAME`, `file:/path`, or a literal value. A missing or empty reference is an error, because an
    /// empty secret is known to everybody.
    pub(super) fn resolve(&mut self, name: &str, value: &str) -> Option<SecretString> {
        if let Some(variable) = value.strip_prefix("env:") {
            let problem = match (self.env)(variable) {
                None => "is not set",
                Some(found) if found.trim().is_empty() => "is empty",
                Some(found) => return Some(SecretString::from(found)),
            };
            self.mistake(name, format!("the environment variable `{variable}` it refers to {problem}"));
            return None;
        }
        if let Some(path) = value.strip_prefix("file:") {
            let problem = match std::fs::read_to_string(path) {
                Err(error) => format!("cannot be read: {error}"),
                Ok(text) if text.trim().is_empty() => "is empty".to_owned(),
                Ok(text) => return Some(SecretString::from(text.trim().to_owned())),
            };
            self.mistake(name, format!("the file `{path}` it refers to {problem}"));
            return None;
        }
        Some(SecretString::from(value.to_owned()))
    }

    pub(super) fn one_of(&mut self, key: &str, allowed: &[&str]) -> String {
        let (value, name) = self.lookup(key);
        let value = value.unwrap_or_default();
        if !allowed.contains(&value.as_str()) {
            self.mistake(name, format!("`{value}` is not one of {}", allowed.join(", ")));
        }
        value
    }

    /// Rejects a partially set group of settings.
    pub(super) fn all_or_none(&mut self, keys: &[&str], why: &str) {
        let (set, unset): (Vec<&str>, Vec<&str>) = keys.iter().partition(|key| self.text(key).is_some());
        if !set.is_empty() && !unset.is_empty() {
            let (set, unset) = (set.join("`, `"), unset.join("`, `"));
            self.mistake(format!("`{unset}`"), format!("is not set, but `{set}` is; {why}"));
        }
    }
}
