//! Files of a folder that override built-in ones of the same name, usually from a mounted `ConfigMap`.

use anyhow::Context as _;
use minijinja::Environment;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A file that overrides a built-in one.
#[derive(Debug)]
pub struct Replacement {
    /// Name of the file and of the built-in one.
    pub name: String,
    /// Path, for messages.
    pub path: PathBuf,
    /// Content.
    pub text: String,
}

/// Reads the files of a folder in the order of their names. Skips hidden files, which a mounted `ConfigMap` uses
/// internally.
///
/// # Errors
/// Fails when the folder or a file cannot be read, or a file matches no built-in name.
pub fn replacements(folder: &Path, built_in: &[String]) -> anyhow::Result<Vec<Replacement>> {
    let unread = || format!("cannot read {}", folder.display());
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).with_context(unread)? {
        let path = file.with_context(unread)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let known = built_in.contains(&name);
        anyhow::ensure!(
            known,
            "{}: takes the place of nothing; there is {}",
            path.display(),
            built_in.join(", ")
        );
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        found.push(Replacement { name, path, text });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Overrides templates with the files of a folder. A file is named like a template with the suffix, and may use only
/// globals and the variables of that template and of the surrounding `layout`.
///
/// # Errors
/// Fails when the folder or a file cannot be read, or a file matches no template, has a syntax error, or uses other
/// variables.
pub fn replace_templates(
    environment: &mut Environment<'static>,
    folder: &Path,
    suffix: &str,
    layout: Option<&str>,
) -> anyhow::Result<()> {
    let mut names: Vec<String> = environment.templates().map(|(name, _)| format!("{name}{suffix}")).collect();
    names.sort();
    let mut common: HashSet<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    common.extend(layout.map(|layout| asked_by(environment, layout)).unwrap_or_default());
    for file in replacements(folder, &names)? {
        let name = file.name.strip_suffix(suffix).unwrap_or(&file.name).to_owned();
        let known = asked_by(environment, &name);
        let replaced = environment.add_template_owned(name.clone(), file.text);
        replaced.with_context(|| file.path.display().to_string())?;
        let asked = asked_by(environment, &name).into_iter();
        let mut more: Vec<String> =
            asked.filter(|variable| !known.contains(variable) && !common.contains(variable)).collect();
        more.sort();
        anyhow::ensure!(
            more.is_empty(),
            "{}: asks for `{}`, which the built-in one does not",
            file.path.display(),
            more.join("`, `")
        );
    }
    Ok(())
}

fn asked_by(environment: &Environment<'_>, template: &str) -> HashSet<String> {
    environment.get_template(template).map(|known| known.undeclared_variables(true)).unwrap_or_default()
}
