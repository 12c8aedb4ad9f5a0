//! Restricts calls to namespaces: an investigation to the namespace of its report, a restricted caller to their own. Sets
//! namespace arguments, rejects arguments that could reach other namespaces, and denies tools that cannot be restricted.

use super::arguments::{self, Level, MAX_DEPTH, folded};
use super::kinds;
use super::rule::Rule;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// Names of arguments that select another cluster.
const ELSEWHERE: [&str; 12] = [
    "context",
    "contexts",
    "kubecontext",
    "cluster",
    "clusters",
    "clustername",
    "meshcluster",
    "kubeconfig",
    "workspace",
    "server",
    "host",
    "hostname",
];
/// Names of arguments that contain free-form queries, commands or paths.
const FREE: [&str; 39] = [
    "command",
    "commands",
    "cmd",
    "args",
    "arguments",
    "argv",
    "extraargs",
    "kubectlargs",
    "flags",
    "options",
    "script",
    "code",
    "query",
    "queries",
    "expression",
    "expr",
    "filter",
    "filters",
    "jsonpath",
    "jq",
    "template",
    "gotemplate",
    "path",
    "uri",
    "url",
    "rawpath",
    "apipath",
    "endpoint",
    "request",
    "selflink",
    "resourceuri",
    "resourceurl",
    "manifest",
    "manifests",
    "yaml",
    "file",
    "filename",
    "body",
    "data",
];
const VERSIONS: [&str; 5] = ["apiversion", "groupversion", "version", "group", "apigroup"];

type Path = Vec<String>;

/// Purpose of an argument, derived from its name and schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Names a namespace.
    Namespace,
    /// Selects all namespaces.
    Everywhere,
    /// Names a resource kind.
    Kind,
    /// Part of an API version or group.
    Version,
    /// Selects resources within the namespace.
    Selector,
    /// Could reach other namespaces: another cluster, free-form text, or namespaces in an unknown form.
    Closed,
    /// Any other argument.
    Plain,
}

/// Form of a namespace argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    List,
}

/// Restrictions that keep a call within its namespaces.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    namespaces: Arc<[String]>,
    named: Vec<(Path, Shape)>,
    everywhere: Vec<(Path, bool)>,
    kinds: Vec<Path>,
    versions: Vec<Path>,
    selectors: Vec<Path>,
    closed: Vec<Path>,
    /// Arguments covered by a rule that contains the tool's full name.
    freed: Vec<Path>,
}

/// Whether a tool of this schema takes a namespace, which means that its server reads a cluster.
pub(super) fn told_one(schema: &Value) -> bool {
    let mut found = false;
    walk(schema, &mut |path, using, _| {
        let name = path.last().map(|name| folded(name)).unwrap_or_default();
        // These names alone do not indicate a cluster.
        let sure = !matches!(name.as_str(), "project" | "projects" | "all");
        found |= sure && matches!(using, Use::Namespace | Use::Everywhere);
    });
    found
}

impl Bounds {
    /// Builds the restrictions. Returns `None` when the tool takes no namespace and a rule with its full name permits it.
    ///
    /// # Errors
    /// Why the tool cannot be restricted.
    pub(super) fn new(
        namespaces: &Arc<[String]>,
        schema: Option<&Value>,
        rule: Option<&Rule>,
        tool: &str,
    ) -> Result<Option<Self>, String> {
        let spelled = rule.filter(|rule| rule.spells(tool));
        let freed: Vec<Path> = spelled.iter().flat_map(|rule| rule.paths().map(<[String]>::to_vec)).collect();
        let mut bounds = Self {
            namespaces: Arc::clone(namespaces),
            named: Vec::new(),
            everywhere: Vec::new(),
            kinds: Vec::new(),
            versions: Vec::new(),
            selectors: Vec::new(),
            closed: Vec::new(),
            freed,
        };
        let Some(schema) = schema else {
            // Without a schema, the policy is being tested: assume that the tool takes a namespace.
            bounds.named.push((vec!["namespace".to_owned()], Shape::Text));
            return Ok(Some(bounds));
        };
        let mut needed = Vec::new();
        walk(schema, &mut |path, using, property| bounds.take(path, using, property, &mut needed));
        if bounds.named.is_empty() {
            let why = "it takes no namespace, so it could read those of others; only a rule with its name, spelled out, allows it here";
            return if spelled.is_some() { Ok(None) } else { Err(why.to_owned()) };
        }
        if let Some(path) = needed.iter().find(|_| spelled.is_none()) {
            let name = path.join(".");
            return Err(format!(
                "it wants `{name}`, which could lead to other namespaces; only a rule with its name, spelled out, allows it here"
            ));
        }
        bounds.closed.retain(|path| !needed.contains(path) && !bounds.freed.contains(path));
        Ok(Some(bounds))
    }

    fn take(&mut self, path: &[String], using: Use, property: &Property<'_>, needed: &mut Vec<Path>) {
        let path = path.to_vec();
        match using {
            Use::Namespace => {
                let shape =
                    if property.is("string") || !property.is("array") { Shape::Text } else { Shape::List };
                self.named.push((path, shape));
            }
            Use::Everywhere => self.everywhere.push((path, property.is("boolean"))),
            Use::Kind => self.kinds.push(path),
            Use::Version => self.versions.push(path),
            Use::Selector => self.selectors.push(path),
            Use::Closed => {
                if property.required {
                    needed.push(path.clone());
                }
                self.closed.push(path);
            }
            Use::Plain => {}
        }
    }

    fn is_freed(&self, path: &[String]) -> bool {
        self.freed.iter().any(|freed| freed == path)
    }

    /// Restricts the arguments to the namespaces.
    ///
    /// # Errors
    /// Which argument could reach other namespaces, as a message for the model.
    pub(super) fn hold(&self, schema: Option<&Value>, arguments: Value) -> Result<Value, String> {
        let mut given = match arguments {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return Err("the arguments have to be one JSON object".to_owned()),
        };
        let named =
            self.named.iter().map(|(path, _)| path).chain(self.everywhere.iter().map(|(path, _)| path));
        let paths: Vec<&[String]> = named.chain(&self.kinds).chain(&self.closed).map(Vec::as_slice).collect();
        arguments::strangers(&given, schema.map(Level::of).as_ref(), &paths)?;
        for path in &self.closed {
            if arguments::at(&given, path).is_some_and(|value| !value.is_null()) {
                return Err(format!(
                    "`{}` may not be given: it could lead to other namespaces",
                    path.join(".")
                ));
            }
            arguments::remove(&mut given, path);
        }
        self.place(&mut given)?;
        for path in self.kinds.iter().filter(|path| !self.is_freed(path)) {
            let value = arguments::at(&given, path).filter(|value| !value.is_null());
            if value.is_some_and(|value| !kinds::are_plain(value)) {
                return Err(format!(
                    "`{}` names what is not of one namespace, or is not read here",
                    path.join(".")
                ));
            }
        }
        if schema.is_some() {
            self.look(&given, &mut Vec::new())?;
        }
        Ok(Value::Object(given))
    }

    /// Sets the namespace arguments and disables the flags for all namespaces.
    fn place(&self, given: &mut Map<String, Value>) -> Result<(), String> {
        for (path, is_flag) in &self.everywhere {
            if *is_flag {
                arguments::set(given, path, json!(false));
            } else {
                arguments::remove(given, path);
            }
        }
        for (path, shape) in self.named.iter().filter(|(path, _)| !self.is_freed(path)) {
            let value = match (&self.namespaces[..], shape) {
                ([one], Shape::Text) => json!(one),
                ([one], Shape::List) => json!([one]),
                _ => match arguments::at(given, path).filter(|value| self.is_within(value)) {
                    Some(value) => value.clone(),
                    None => return Err(format!("`{}` has to be {}", path.join("."), self.listed())),
                },
            };
            arguments::set(given, path, value);
        }
        Ok(())
    }

    fn is_within(&self, value: &Value) -> bool {
        match value {
            Value::String(name) => self.namespaces.contains(name),
            Value::Array(names) => {
                !names.is_empty() && names.iter().all(|name| name.is_string() && self.is_within(name))
            }
            _ => false,
        }
    }

    fn listed(&self) -> String {
        let names: Vec<String> = self.namespaces.iter().map(|name| format!("`{name}`")).collect();
        names.join(" or ")
    }

    /// Rejects values that a server could interpret as a reference to other namespaces.
    fn look(&self, given: &Map<String, Value>, path: &mut Path) -> Result<(), String> {
        for (key, value) in given {
            path.push(key.clone());
            let known = |paths: &[Path]| paths.iter().any(|known| known == path);
            let done = self.named.iter().any(|(known, _)| known == path)
                || known(&self.kinds)
                || self.is_freed(path);
            let holds = match value {
                _ if done => true,
                Value::Object(inner) => {
                    self.look(inner, path)?;
                    self.describes(path)
                }
                _ if known(&self.versions) => scalars(value, is_version),
                _ if known(&self.selectors) => scalars(value, is_selector),
                _ if folded(key).ends_with("type") => {
                    scalars(value, |text| is_plain(text) && !kinds::is_closed(text))
                }
                _ => scalars(value, is_plain),
            };
            if !holds {
                return Err(format!(
                    "`{}` is written in a way that could lead to other namespaces",
                    path.join(".")
                ));
            }
            path.pop();
        }
        Ok(())
    }

    /// Whether the schema describes arguments of known purpose inside the object. Other objects may contain anything.
    fn describes(&self, path: &[String]) -> bool {
        let named = self.named.iter().map(|(known, _)| known);
        let mut all = named.chain(&self.kinds).chain(&self.versions).chain(&self.selectors);
        all.any(|known| known.len() > path.len() && known.starts_with(path))
    }

    /// Checks that values set by a rule are within the namespaces.
    ///
    /// # Errors
    /// Which argument is outside of the namespaces.
    pub(super) fn kept(&self, arguments: &Value) -> Result<(), String> {
        let Value::Object(given) = arguments else { return Ok(()) };
        for (path, _) in self.named.iter().filter(|(path, _)| !self.is_freed(path)) {
            if !arguments::at(given, path).is_some_and(|value| self.is_within(value)) {
                let name = path.join(".");
                return Err(format!("a rule sets `{name}` to another namespace than {}", self.listed()));
            }
        }
        Ok(())
    }

    /// Returns the schema offered to the model, without arguments that are set or rejected, and a description of the
    /// restrictions.
    pub(super) fn offered(&self, schema: &Arc<Value>) -> (Arc<Value>, String) {
        let mut schema = Arc::clone(schema);
        let mut words = String::new();
        let named = self.named.iter().map(|(path, _)| path).filter(|path| !self.is_freed(path));
        let set = if self.namespaces.len() == 1 { named.collect::<Vec<_>>() } else { Vec::new() };
        let flags = self.everywhere.iter().map(|(path, _)| path);
        for path in set.into_iter().chain(flags).chain(&self.closed) {
            arguments::without(Arc::make_mut(&mut schema), path);
        }
        let _ = write!(words, " It reads the namespace {} alone.", self.listed());
        for path in self.kinds.iter().filter(|path| !self.is_freed(path)) {
            let _ = write!(
                words,
                " `{}` names a kind of the namespace, like Pod, and no secret.",
                path.join(".")
            );
        }
        (schema, words)
    }
}

/// Whether a value is a scalar, or a list of scalars, whose strings all pass the check.
fn scalars(value: &Value, passes: fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => passes(text),
        Value::Array(items) => items.iter().all(|item| !item.is_array() && scalars(item, passes)),
        Value::Object(_) => false,
        _ => true,
    }
}

/// Accepts names, times and words. Rejects paths, command options and characters with a meaning for shells or URLs.
fn is_plain(text: &str) -> bool {
    let text = text.trim();
    !text.starts_with('-')
        && !text.contains("..")
        && !text.contains("metadata.namespace")
        && !text.chars().any(|c| c.is_control() || "/\\%;|&$`<>#?".contains(c))
        && !text.split_whitespace().any(|word| word.starts_with('-'))
}

fn is_version(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
    };
    // The configuration group of OpenShift reuses names of kinds that are namespaced in other groups.
    let is_own = !text.contains("config.openshift.io");
    // Requires an API version after the slash; other text could be a path such as `namespace/pod`.
    let is_api = |version: &str| {
        version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let holds = match text.split_once('/') {
        Some((group, version)) => is_part(group) && is_part(version) && is_api(version),
        None => is_part(text),
    };
    text.is_empty() || (is_own && holds)
}

fn is_selector(text: &str) -> bool {
    let is_own = |c: char| c.is_ascii_alphanumeric() || "._-/=!,()~ ".contains(c);
    text.chars().all(is_own) && !text.trim().starts_with('-') && !folded(text).contains("namespace")
}

/// Schema of one argument.
struct Property<'a> {
    schema: &'a Value,
    root: &'a Value,
    required: bool,
}

impl Property<'_> {
    /// Whether the schema permits this type.
    fn is(&self, kind: &str) -> bool {
        types(self.schema, self.root, MAX_DEPTH).iter().any(|known| known == kind)
    }
}

/// Types that a schema and its branches permit.
fn types(schema: &Value, root: &Value, depth: usize) -> Vec<String> {
    let schema = arguments::resolved(schema, root);
    let mut found: Vec<String> = match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if depth > 0 {
        let branches = ["allOf", "anyOf", "oneOf"].iter().filter_map(|part| schema.get(*part)?.as_array());
        found.extend(branches.flatten().flat_map(|branch| types(branch, root, depth - 1)));
    }
    found
}

/// Visits each argument of a schema, including arguments within described objects.
fn walk(root: &Value, look: &mut dyn FnMut(&[String], Use, &Property<'_>)) {
    within(root, root, &mut Vec::new(), look);
}

fn within(
    schema: &Value,
    root: &Value,
    path: &mut Path,
    look: &mut dyn FnMut(&[String], Use, &Property<'_>),
) {
    let schema = arguments::resolved(schema, root);
    for (name, property) in arguments::properties(schema, root, MAX_DEPTH).unwrap_or_default() {
        let wanted = schema["required"].as_array();
        let required = wanted.is_some_and(|wanted| wanted.iter().any(|wanted| wanted == name));
        let property = Property { schema: property, root, required };
        let inner = arguments::properties(property.schema, root, MAX_DEPTH);
        path.push(name.to_owned());
        let using = usage(name, &property);
        if inner.is_some() && path.len() < MAX_DEPTH && using != Use::Closed {
            within(property.schema, root, path, look);
        } else {
            look(path, if inner.is_some() { Use::Closed } else { using }, &property);
        }
        path.pop();
    }
}

/// Returns the purpose of an argument.
fn usage(name: &str, property: &Property<'_>) -> Use {
    let name = folded(name);
    let name = name.as_str();
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    let among =
        ["allnamespace", "everynamespace", "anynamespace", "acrossnamespace", "clusterwide", "clusterscope"];
    if among.iter().any(|word| name.contains(word)) || matches!(name, "all" | "allns" | "allprojects") {
        return Use::Everywhere;
    }
    let ends = ["namespace", "namespaces", "namespacename", "namespacenames"];
    if ends.iter().any(|word| name.ends_with(word)) || matches!(name, "ns" | "project" | "projects") {
        let without = starts(&["exclude", "ignore", "skip", "except", "not"]);
        let other = without || property.is("object") || property.is("boolean");
        return if other { Use::Closed } else { Use::Namespace };
    }
    if name.contains("namespace") || ELSEWHERE.contains(&name) || FREE.contains(&name) {
        return Use::Closed;
    }
    if kinds::NAMES.contains(&name) {
        return Use::Kind;
    }
    if VERSIONS.contains(&name) {
        return Use::Version;
    }
    if name.ends_with("selector") || name.ends_with("selectors") || matches!(name, "labels" | "label") {
        return if property.is("object") { Use::Closed } else { Use::Selector };
    }
    // Objects without a described schema, and lists of objects or lists, may contain anything.
    let items = arguments::resolved(&property.schema["items"], property.root);
    let listed = types(items, property.root, MAX_DEPTH);
    let nested = listed.iter().any(|kind| kind == "object" || kind == "array")
        || arguments::properties(items, property.root, MAX_DEPTH).is_some();
    let opaque =
        property.is("object") && arguments::properties(property.schema, property.root, MAX_DEPTH).is_none();
    if nested || opaque { Use::Closed } else { Use::Plain }
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
