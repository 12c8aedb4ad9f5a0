//! The tool policy file: validates its `[[rule]]` tables and reports every error with the rule's number.

use super::reader::SettingsReader;
use crate::domain::policy::{Check, Decision, Origin, Patterns, Policy, Rule};
use crate::domain::{Access, Role};
use crate::evidence::pattern::{self, Case, PatternError};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    role: Option<OneOrMore>,
    agent: Option<OneOrMore>,
    place: Option<OneOrMore>,
    server: Option<OneOrMore>,
    tool: Option<OneOrMore>,
    access: Option<String>,
    #[serde(default)]
    pin: BTreeMap<String, Value>,
    #[serde(default)]
    check: BTreeMap<String, RawCheck>,
    decision: String,
    reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    #[serde(rename = "enum")]
    one_of: Option<Vec<Value>>,
    regex: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    max_length: Option<usize>,
    #[serde(default = "yes")]
    required: bool,
}

fn yes() -> bool {
    true
}

/// Reads the policy of `policy.file`, or the defaults, for the cluster and tracker servers; errors go to the reader.
pub(super) fn read(r: &mut SettingsReader<'_>, cluster: &str, tracker: Option<&str>) -> Arc<Policy> {
    let policy = r.text("policy.file").map(|path| of_file(r, &path)).unwrap_or_default();
    Arc::new(policy.with_servers(cluster, tracker))
}

fn of_file(r: &mut SettingsReader<'_>, path: &str) -> Policy {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            r.mistake("`policy.file`", format!("`{path}` cannot be read: {error}"));
            return Policy::default();
        }
    };
    let (policy, mistakes) = parse(&text);
    for (rule, problem) in mistakes {
        let setting =
            rule.map_or_else(|| "`policy.file`".to_owned(), |number| format!("`policy.file` rule {number}"));
        r.mistake(setting, problem);
    }
    policy
}

/// Errors, each with its rule number if it belongs to a rule.
type Mistakes = Vec<(Option<usize>, String)>;

fn parse(text: &str) -> (Policy, Mistakes) {
    let mut mistakes = Mistakes::new();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return (Policy::default(), vec![(None, format!("is not valid TOML: {error}"))]),
    };
    for key in table.keys().filter(|key| *key != "rule") {
        mistakes.push((None, format!("has `{key}`; it holds `[[rule]]` tables and nothing else")));
    }
    let mut rules = Vec::new();
    match table.get("rule") {
        None => {}
        Some(toml::Value::Array(tables)) => {
            for (number, table) in (1..).zip(tables) {
                match table.clone().try_into::<RawRule>() {
                    Ok(raw) => {
                        let mut problems = Vec::new();
                        rules.push(rule(number, raw, &mut problems));
                        mistakes.extend(problems.into_iter().map(|problem| (Some(number), problem)));
                    }
                    Err(error) => mistakes.push((Some(number), error.message().trim().to_owned())),
                }
            }
        }
        Some(_) => mistakes.push((None, "rules are written as `[[rule]]`, once per rule".to_owned())),
    }
    (Policy::new(rules), mistakes)
}

fn rule(number: usize, raw: RawRule, problems: &mut Vec<String>) -> Rule {
    let decision = Decision::parse(&raw.decision).unwrap_or_else(|| {
        problems.push(format!("decision: `{}` is not one of allow, approve, deny", raw.decision));
        Decision::Deny
    });
    let rule = Rule {
        number,
        roles: raw.role.map(|roles| self::roles(roles, problems)),
        agents: patterns("agent", raw.agent, problems),
        places: raw.place.map(|places| self::places(places, problems)),
        servers: patterns("server", raw.server, problems),
        tools: patterns("tool", raw.tool, problems),
        access: raw.access.and_then(|access| self::access(&access, problems)),
        pins: pins(raw.pin),
        checks: checks(raw.check, problems),
        decision,
        reason: raw.reason,
    };
    if decision == Decision::Deny && !(rule.pins.is_empty() && rule.checks.is_empty()) {
        problems.push(
            "denies, so `pin` and `check` say nothing; allow what holds, and deny the rest below".to_owned(),
        );
    }
    let waits = |places: &Vec<Origin>| places.contains(&Origin::Chat);
    if decision == Decision::Approve && !rule.places.as_ref().is_none_or(waits) {
        problems.push(
            "asks for approval where nobody can be asked; only `chat` can wait for a person".to_owned(),
        );
    }
    let pinned = |path: &Vec<String>| rule.pins.iter().any(|(pinned, _)| pinned == path);
    for (path, _) in rule.checks.iter().filter(|(path, _)| pinned(path)) {
        problems.push(format!("`{}` is pinned, so there is nothing to check", path.join(".")));
    }
    rule
}

/// Reads roles: a single role includes all higher roles; a list names exactly its roles.
fn roles(roles: OneOrMore, problems: &mut Vec<String>) -> Vec<Role> {
    let at_least = matches!(roles, OneOrMore::One(_));
    let mut found = Vec::new();
    for name in some("role", roles, problems) {
        match Role::parse(&name) {
            Some(least) if at_least => found.extend(Role::ALL.iter().copied().filter(|role| *role >= least)),
            Some(role) => found.push(role),
            None => {
                let known = Role::NAMES.join(", ");
                problems.push(format!("role: `{name}` is not one of {known}"));
            }
        }
    }
    found
}

fn places(places: OneOrMore, problems: &mut Vec<String>) -> Vec<Origin> {
    let mut found = Vec::new();
    for name in some("place", places, problems) {
        match Origin::parse(&name) {
            Some(place) => found.push(place),
            None => {
                let known = Origin::NAMES.join(", ");
                problems.push(format!("place: `{name}` is not one of {known}"));
            }
        }
    }
    found
}

fn access(name: &str, problems: &mut Vec<String>) -> Option<Access> {
    match name {
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        _ => {
            problems.push(format!("access: `{name}` is not one of read, write"));
            None
        }
    }
}

fn patterns(field: &str, texts: Option<OneOrMore>, problems: &mut Vec<String>) -> Option<Patterns> {
    let texts = some(field, texts?, problems);
    Patterns::parse(&texts).map_err(|problem| problems.push(format!("{field}: {problem}"))).ok()
}

/// Requires a non-empty list: an empty one would match nobody.
fn some(field: &str, texts: OneOrMore, problems: &mut Vec<String>) -> Vec<String> {
    let texts = texts.all();
    if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
        problems.push(format!("{field}: is empty; leave it out if the rule is for all"));
    }
    texts
}

/// Flattens nested tables into values with their paths.
fn pins(table: BTreeMap<String, Value>) -> Vec<(Vec<String>, Value)> {
    fn collect(path: &[String], value: Value, found: &mut Vec<(Vec<String>, Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    collect(&[path, &[name]].concat(), value, found);
                }
            }
            value => found.push((path.to_vec(), value)),
        }
    }
    let mut found = Vec::new();
    for (name, value) in table {
        collect(&way(&name), value, &mut found);
    }
    found
}

/// Splits a dotted name into its path.
fn way(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

fn checks(table: BTreeMap<String, RawCheck>, problems: &mut Vec<String>) -> Vec<(Vec<String>, Check)> {
    let mut found = Vec::new();
    for (name, raw) in table {
        let regex = raw.regex.and_then(|text| {
            // Anchored, because a partial match says nothing about the rest.
            pattern::text(&format!(r"\A(?:{text})\z"), Case::Heeded)
                .map_err(|error| {
                    problems.push(match error {
                        PatternError::Syntax(_) => {
                            format!("check `{name}`: `{text}` is not a regular expression")
                        }
                        error => format!("check `{name}`: `{text}` is not taken: {error}"),
                    });
                })
                .ok()
        });
        if raw.one_of.as_ref().is_some_and(Vec::is_empty) {
            problems.push(format!("check `{name}`: `enum` is empty, so nothing would hold"));
        }
        if let (Some(min), Some(max)) = (raw.min, raw.max)
            && min > max
        {
            problems.push(format!("check `{name}`: `min` is larger than `max`, so nothing would hold"));
        }
        let RawCheck { one_of, min, max, max_length, required, .. } = raw;
        found.push((way(&name), Check { one_of, regex, min, max, max_length, required }));
    }
    found
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_mistake_is_named_with_its_rule() {
        let text = r#"
            strict = true
            [[rule]]
            decision = "maybe"
            role = "boss"
            place = ["chat", "cellar"]
            access = "execute"
            [[rule]]
            decision = "allow"
            tools = ["x"]
            [[rule]]
            decision = "deny"
            tool = "[x"
            agent = []
            pin = { owner = "platform" }
            [[rule]]
            decision = "approve"
            place = "triage"
            pin = { a = { b = 1 } }
            check = { "a.b" = {}, x = { regex = "(" }, y = { enum = [] }, z = { min = 2, max = 1 }, w = { regex = "[a-z]{0,3990}x" } }
            [[rule]]
            tool = "x"
        "#;
        let said: Vec<String> = parse(text)
            .1
            .into_iter()
            .map(|(rule, problem)| {
                format!("{}: {problem}", rule.map_or_else(|| "-".to_owned(), |rule| rule.to_string()))
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        -: has `strict`; it holds `[[rule]]` tables and nothing else
        1: decision: `maybe` is not one of allow, approve, deny
        1: role: `boss` is not one of reporter, viewer, operator, admin
        1: place: `cellar` is not one of triage, chat, page, mcp, service
        1: access: `execute` is not one of read, write
        2: unknown field `tools`, expected one of `role`, `agent`, `place`, `server`, `tool`, `access`, `pin`, `check`, `decision`, `reason`
        3: agent: is empty; leave it out if the rule is for all
        3: tool: `[x` is not a glob: unclosed character class; missing ']'
        3: denies, so `pin` and `check` say nothing; allow what holds, and deny the rest below
        4: check `w`: `[a-z]{0,3990}x` is not taken: it is too large: its counts repeat an element 3990 times, and 500 is the most; use `*` or `+` instead of a large count such as `{0,1000}`, and fewer alternatives
        4: check `x`: `(` is not a regular expression
        4: check `y`: `enum` is empty, so nothing would hold
        4: check `z`: `min` is larger than `max`, so nothing would hold
        4: asks for approval where nobody can be asked; only `chat` can wait for a person
        4: `a.b` is pinned, so there is nothing to check
        5: missing field `decision`
        ");
    }

    #[test]
    fn a_file_without_rules_and_text_that_is_no_toml() {
        assert!(parse("").1.is_empty() && parse("# nothing").0.is_empty());
        assert!(parse("rule = 1").1[0].1.contains("[[rule]]"));
        assert!(parse("[[rule").1[0].1.contains("not valid TOML"));
    }

    #[test]
    fn pins_lead_into_objects() {
        let (policy, mistakes) = parse(
            "[[rule]]\ndecision = \"allow\"\npin = { owner = \"o\", metadata.namespace = \"ci\", \"a.b\" = 1, list = [1], none = {} }",
        );
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(policy.len(), 1);
    }
}
