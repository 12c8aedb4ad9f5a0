//! Which file of the program names which: read from `use` declarations, re-exports and full paths, code of tests aside.

use petgraph::graphmap::DiGraphMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{Item, UseTree, Visibility};

/// A module by its path below the crate: `["chat", "begin"]`.
pub type Module = Vec<String>;

/// What one file says.
#[derive(Default)]
struct File {
    /// Paths that it names, as they stand there.
    paths: Vec<Vec<String>>,
    /// Names that it gives on, and the paths behind them.
    exports: Vec<(String, Vec<String>)>,
}

/// The files of the program and what they name.
pub struct Graph {
    files: BTreeMap<Module, File>,
}

impl Graph {
    /// Reads all sources below a folder.
    pub fn read(root: &Path, sources: &[std::path::PathBuf]) -> Self {
        let mut files = BTreeMap::new();
        for path in sources {
            let text = fs::read_to_string(path).unwrap();
            files.insert(module(root, path), file(&text));
        }
        Self { files }
    }

    /// From each module those that it names, by the files that hold what is named.
    pub fn edges(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let edges = |(from, file): (&'_ Module, &File)| {
            file.paths.iter().filter_map(|path| self.resolve(from, path)).filter(|to| *to != from).collect()
        };
        self.files.iter().map(|(from, file)| (from, edges((from, file)))).collect()
    }

    /// The file that holds what a path names, seen from a module; `None` for other crates.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<&Module> {
        let (mut at, rest) = self.walk(from, path)?;
        let mut rest = rest.to_vec();
        // What is given on is named where it is defined.
        for _ in 0..5 {
            let file = self.files.get(&at)?;
            let Some((_, behind)) = file.exports.iter().find(|(name, _)| Some(name) == rest.first()) else {
                break;
            };
            let (next, tail) = self.walk(&at, behind)?;
            rest = [tail, &rest[1..]].concat();
            at = next;
        }
        self.files.get_key_value(&at).map(|(module, _)| module)
    }

    /// The module that a path leads into, and what is left of the path.
    fn walk<'a>(&self, from: &Module, path: &'a [String]) -> Option<(Module, &'a [String])> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                (from[..from.len().checked_sub(ups)?].to_vec(), &path[ups..])
            }
            first => {
                let child = [from.as_slice(), &[first.to_owned()]].concat();
                (self.files.contains_key(&child).then(|| from.clone())?, path)
            }
        };
        while let Some(next) = rest.first() {
            let deeper = [at.as_slice(), std::slice::from_ref(next)].concat();
            if !self.files.contains_key(&deeper) {
                break;
            }
            (at, rest) = (deeper, &rest[1..]);
        }
        Some((at, rest))
    }
}

/// The circles among pairs, each with its members in order.
pub fn circles<'a>(edges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    let graph: DiGraphMap<&str, ()> = edges.into_iter().map(|(from, to)| (from, to, ())).collect();
    let components = petgraph::algo::tarjan_scc(&graph).into_iter();
    let mut circles: Vec<Vec<&str>> = components.filter(|members| members.len() > 1).collect();
    circles.iter_mut().for_each(|members| members.sort_unstable());
    circles
}

fn module(root: &Path, path: &Path) -> Module {
    let below = path.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Module = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    if parts == ["lib"] {
        parts.clear();
    }
    parts
}

fn file(text: &str) -> File {
    let mut file = File::default();
    file.visit_file(&syn::parse_file(text).unwrap());
    file
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Every path of a `use`, with the name that it gets there.
fn flat(tree: &UseTree, before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => flat(&path.tree, &with(&path.ident), found),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
        }
        UseTree::Name(name) => found.push((name.ident.to_string(), with(&name.ident))),
        UseTree::Rename(name) => found.push((name.rename.to_string(), with(&name.ident))),
        UseTree::Glob(_) => found.push(("*".to_owned(), before.to_vec())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flat(tree, before, found)),
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        flat(&item.tree, &[], &mut found);
        if matches!(item.vis, Visibility::Inherited) {
            self.paths.extend(found.into_iter().map(|(_, path)| path));
        } else {
            self.paths.extend(found.iter().map(|(_, path)| path.clone()));
            self.exports.extend(found);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// What a macro is given is no syntax yet: full paths alone are found in it.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let text = mac.tokens.to_string().replace(' ', "");
        for named in text.split("crate::").skip(1) {
            let parts = named.split("::").map(|part| {
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            });
            self.paths.push(std::iter::once("crate".to_owned()).chain(parts.take(3)).collect());
        }
        visit::visit_macro(self, mac);
    }
}
