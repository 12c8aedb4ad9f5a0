//! A policy rule: which callers and tools it matches, its conditions on arguments, and its decision.

use super::{CallContext, Decision, Origin, Target, dangerous};
use crate::domain::{Access, Role};
use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_json::Value;

/// A configured rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Position in the file, from 1.
    pub number: usize,
    /// Roles that match; `None` also matches calls without a caller.
    pub roles: Option<Vec<Role>>,
    /// Agents that match; `None` matches all.
    pub agents: Option<Patterns>,
    /// Origins that match. `None` matches all, except the service's own calls if the rule denies.
    pub places: Option<Vec<Origin>>,
    /// Servers that match; `None` matches all.
    pub servers: Option<Patterns>,
    /// Tools that match; `None` matches all.
    pub tools: Option<Patterns>,
    /// Access that matches; `None` matches both.
    pub access: Option<Access>,
    /// Arguments that are always overwritten: path and value of each.
    pub pins: Vec<(Vec<String>, Value)>,
    /// Arguments that are validated: path and condition of each.
    pub checks: Vec<(Vec<String>, Check)>,
    /// Decision for matching calls.
    pub decision: Decision,
    /// Reason, for people.
    pub reason: Option<String>,
}

impl Rule {
    pub(super) fn fits(&self, asker: &CallContext, target: &Target<'_>) -> bool {
        let is_in = |patterns: &Option<Patterns>, name: &str| {
            patterns.as_ref().is_none_or(|patterns| patterns.is_match(name))
        };
        let role = || asker.role();
        self.is_of(asker.origin)
            && self.roles.as_ref().is_none_or(|roles| role().is_some_and(|role| roles.contains(&role)))
            && self
                .agents
                .as_ref()
                .is_none_or(|agents| asker.agent.as_ref().is_some_and(|agent| agents.is_match(agent)))
            && is_in(&self.servers, target.server)
            && is_in(&self.tools, target.tool)
            && self.access.is_none_or(|access| access == target.access)
            && self.reaches(asker.origin, target.tool)
    }

    /// Whether the rule names the tool, and either permits it or constrains its arguments.
    pub(super) fn has_rule_for(&self, server: &str, tool: &str) -> bool {
        let is_named = self.tools.as_ref().is_some_and(|tools| tools.is_match(tool))
            && self.servers.as_ref().is_none_or(|servers| servers.is_match(server));
        is_named && (self.decision != Decision::Deny || self.paths().next().is_some())
    }

    /// Whether the rule applies to an origin. The settings control the service's own calls: a denying rule applies to them only
    /// if it lists that origin, while pins and checks always apply.
    fn is_of(&self, place: Origin) -> bool {
        match &self.places {
            Some(places) => places.contains(&place),
            None => place != Origin::Service || self.decision != Decision::Deny,
        }
    }

    /// Whether the rule may apply to a dangerous tool: a permitting rule must name the tool or its kind; `*` is not enough.
    fn reaches(&self, place: Origin, tool: &str) -> bool {
        if self.decision == Decision::Deny || matches!(place, Origin::Service | Origin::Mcp) {
            return true;
        }
        dangerous::pattern(tool).is_none() || self.tools.as_ref().is_some_and(|tools| tools.name(tool))
    }

    /// Whether a permitting rule contains the tool's full name, without a wildcard.
    pub(super) fn spells(&self, tool: &str) -> bool {
        self.decision != Decision::Deny && self.tools.as_ref().is_some_and(|tools| tools.spell(tool))
    }

    /// Paths of all arguments that the rule pins or checks.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[String]> {
        let pinned = self.pins.iter().map(|(path, _)| path.as_slice());
        pinned.chain(self.checks.iter().map(|(path, _)| path.as_slice()))
    }
}

/// Case-insensitive globs for names.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<GlobMatcher>);

impl Patterns {
    /// Parses globs.
    ///
    /// # Errors
    /// Describes the first invalid glob.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let glob = |text: &String| {
            let built = GlobBuilder::new(text).case_insensitive(true).build();
            built
                .map(|glob| glob.compile_matcher())
                .map_err(|error| format!("`{text}` is not a glob: {}", error.kind()))
        };
        texts.iter().map(glob).collect::<Result<_, _>>().map(Self)
    }

    fn is_match(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(name))
    }

    /// Whether one of the globs equals the name.
    fn spell(&self, tool: &str) -> bool {
        self.0.iter().any(|glob| glob.glob().glob().eq_ignore_ascii_case(tool))
    }

    /// Whether the text of a matching glob indicates a dangerous tool: `pods_delete` and `*_delete` do, `pods_*` does not.
    fn name(&self, tool: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(tool) && dangerous::names(glob.glob().glob(), tool))
    }
}

/// Maximum length in bytes of a text that a regular expression is matched against; longer texts fail the check. The limit
/// bounds the time on async threads.
const MAX_MATCHED: usize = 16 << 10;

/// Condition on an argument.
#[derive(Debug, Clone)]
pub struct Check {
    /// Permitted values.
    pub one_of: Option<Vec<Value>>,
    /// Regular expression that has to match the whole text.
    pub regex: Option<Regex>,
    /// Minimum of a number.
    pub min: Option<f64>,
    /// Maximum of a number.
    pub max: Option<f64>,
    /// Maximum number of characters of a text, or of items in a list.
    pub max_length: Option<usize>,
    /// Whether the argument is required. Otherwise the server chooses the value of a missing argument.
    pub required: bool,
}

impl Check {
    /// Whether a value meets the condition.
    pub(super) fn holds(&self, value: &Value) -> bool {
        if let Value::Array(items) = value
            && (self.one_of.is_some() || self.regex.is_some())
        {
            // Many servers interpret an empty list as all values.
            let few = self.max_length.is_none_or(|max| items.len() <= max);
            let each = Self { max_length: None, ..self.clone() };
            return few && !items.is_empty() && items.iter().all(|item| !item.is_array() && each.holds(item));
        }
        let number = value.as_f64();
        let length = match value {
            Value::String(text) => Some(text.chars().count()),
            Value::Array(items) => Some(items.len()),
            _ => None,
        };
        self.one_of.as_ref().is_none_or(|all| all.contains(value))
            && self.regex.as_ref().is_none_or(|regex| {
                value.as_str().is_some_and(|text| text.len() <= MAX_MATCHED && regex.is_match(text))
            })
            && self.min.is_none_or(|min| number.is_some_and(|number| number >= min))
            && self.max.is_none_or(|max| number.is_some_and(|number| number <= max))
            && self.max_length.is_none_or(|max| length.is_some_and(|length| length <= max))
    }

    /// Describes the condition, to follow “has to be”.
    pub(super) fn words(&self) -> String {
        let mut parts = Vec::new();
        if let Some(all) = &self.one_of {
            let all: Vec<String> = all.iter().map(Value::to_string).collect();
            parts.push(format!("one of {}", all.join(", ")));
        }
        if let Some(regex) = &self.regex {
            parts.push(format!("a text that matches {regex}"));
        }
        parts.extend(self.min.map(|min| format!("at least {min}")));
        parts.extend(self.max.map(|max| format!("at most {max}")));
        parts.extend(self.max_length.map(|max| format!("at most {max} long")));
        if parts.is_empty() {
            parts.push("given".to_owned());
        }
        parts.join(" and ")
    }
}
