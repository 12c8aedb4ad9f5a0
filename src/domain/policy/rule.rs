//! One rule: whom and which tools it fits, what it says of arguments, and what it decides.

use super::{CallContext, Decision, Origin, Target, dangerous};
use crate::domain::{Access, Role};
use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_json::Value;

/// A rule of the file.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its place in the file, from 1.
    pub number: usize,
    /// Roles it is for; without any, for everybody and for what nobody asked for.
    pub roles: Option<Vec<Role>>,
    /// Agents it is for.
    pub agents: Option<Patterns>,
    /// Places it is for; all when left out.
    pub places: Option<Vec<Origin>>,
    /// Servers it is for.
    pub servers: Option<Patterns>,
    /// Tools it is for.
    pub tools: Option<Patterns>,
    /// Only tools that look, or that change something.
    pub access: Option<Access>,
    /// Arguments that are set, whatever was asked for: the way to each, and its value.
    pub pins: Vec<(Vec<String>, Value)>,
    /// Arguments that have to hold: the way to each.
    pub checks: Vec<(Vec<String>, Check)>,
    /// What it decides.
    pub decision: Decision,
    /// Why, for people.
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

    /// Whether it names the tool, and lets it be called or says something of its arguments.
    pub(super) fn has_rule_for(&self, server: &str, tool: &str) -> bool {
        let is_named = self.tools.as_ref().is_some_and(|tools| tools.is_match(tool))
            && self.servers.as_ref().is_none_or(|servers| servers.is_match(server));
        is_named && (self.decision != Decision::Deny || self.paths().next().is_some())
    }

    /// The service's own calls are its settings' matter: a rule that forbids is for them only when it says so, what it pins and
    /// checks is for them too.
    fn is_of(&self, place: Origin) -> bool {
        match &self.places {
            Some(places) => places.contains(&place),
            None => place != Origin::Service || self.decision != Decision::Deny,
        }
    }

    /// A dangerous tool is let through only by a rule that names it or its like, not by `*`.
    fn reaches(&self, place: Origin, tool: &str) -> bool {
        if self.decision == Decision::Deny || matches!(place, Origin::Service | Origin::Mcp) {
            return true;
        }
        dangerous::pattern(tool).is_none() || self.tools.as_ref().is_some_and(|tools| tools.name(tool))
    }

    /// Whether it names a tool by its whole name, without any wildcard.
    pub(super) fn spells(&self, tool: &str) -> bool {
        self.decision != Decision::Deny && self.tools.as_ref().is_some_and(|tools| tools.spell(tool))
    }

    /// The ways to all arguments it says something of.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[String]> {
        let pinned = self.pins.iter().map(|(path, _)| path.as_slice());
        pinned.chain(self.checks.iter().map(|(path, _)| path.as_slice()))
    }
}

/// Globs over names; upper and lower case are one.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<GlobMatcher>);

impl Patterns {
    /// The globs.
    ///
    /// # Errors
    /// What is wrong with the first that is none, in words.
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

    /// Whether one of them is the name itself.
    fn spell(&self, tool: &str) -> bool {
        self.0.iter().any(|glob| glob.glob().glob().eq_ignore_ascii_case(tool))
    }

    /// Whether a glob that matches says by its own text that it means a dangerous tool: `pods_delete` and `*_delete` do,
    /// `pods_*` does not.
    fn name(&self, tool: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(tool) && dangerous::names(glob.glob().glob(), tool))
    }
}

/// Longest text that a regular expression is asked about; a longer one does not hold. Policies are asked on the async threads.
const MAX_MATCHED: usize = 16 << 10;

/// What has to hold of an argument.
#[derive(Debug, Clone)]
pub struct Check {
    /// One of these.
    pub one_of: Option<Vec<Value>>,
    /// A text that this matches as a whole.
    pub regex: Option<Regex>,
    /// A number that is not smaller.
    pub min: Option<f64>,
    /// A number that is not larger.
    pub max: Option<f64>,
    /// A text of at most so many characters, or a list of at most so many items.
    pub max_length: Option<usize>,
    /// It has to be there. What is left out is otherwise the server's choice.
    pub required: bool,
}

impl Check {
    /// Whether a value holds.
    pub(super) fn holds(&self, value: &Value) -> bool {
        if let Value::Array(items) = value
            && (self.one_of.is_some() || self.regex.is_some())
        {
            // An empty list is often taken for everything.
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

    /// In words, after “has to be”.
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
