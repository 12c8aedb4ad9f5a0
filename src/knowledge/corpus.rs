//! Sources of documents: built-in runbooks, folders and single files. Read here, stored by `ingest`.

use super::read::{self, Document, Format};
use crate::evidence::runbook::BUILT_IN;
use crate::evidence::signature::SignatureSet;
use anyhow::Context as _;
use include_dir::Dir;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Source name of the built-in runbooks.
pub const BUILT_IN_SOURCE: &str = "built-in";
/// Maximum depth of folders.
const MAX_DEPTH: usize = 32;

/// Documents read from one source.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// Name of the source. Stored documents of the source that are missing here are removed.
    pub source: String,
    /// Whether the corpus contains the complete source.
    pub whole: bool,
    /// The documents.
    pub documents: Vec<Document>,
    /// Rejected files with the reason.
    pub rejected: Vec<(String, String)>,
}

impl Corpus {
    /// Returns the built-in runbooks.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static READ: LazyLock<Corpus> = LazyLock::new(|| {
            let mut corpus = Corpus { source: BUILT_IN_SOURCE.to_owned(), whole: true, ..Corpus::default() };
            corpus.add_embedded(&BUILT_IN);
            corpus.documents.sort_by(|a, b| a.path.cmp(&b.path));
            corpus
        });
        &READ
    }

    fn add_embedded(&mut self, dir: &Dir<'_>) {
        for file in dir.files() {
            self.add(file.path().to_string_lossy().into_owned(), file.contents());
        }
        for dir in dir.dirs() {
            self.add_embedded(dir);
        }
    }

    /// Reads a folder recursively, or a single file.
    ///
    /// # Errors
    /// The path does not exist or the folder cannot be read. An invalid file is only listed in `rejected`.
    pub fn of_path(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        let whole = path.is_dir();
        let root = if whole { path.as_path() } else { path.parent().unwrap_or(Path::new("/")) };
        let mut corpus = Self { source: root.display().to_string(), whole, ..Self::default() };
        if whole {
            for file in files(root)? {
                let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
                corpus.add_file(name, &file, false);
            }
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            corpus.add_file(name, &path, true);
        }
        Ok(corpus)
    }

    /// Returns an empty corpus for a folder, which may be deleted. Ingesting it removes all stored documents of the folder.
    #[must_use]
    pub fn gone(folder: &Path) -> Self {
        let source = folder
            .canonicalize()
            .or_else(|_| std::path::absolute(folder))
            .unwrap_or_else(|_| folder.to_owned());
        Self { source: source.display().to_string(), whole: true, ..Self::default() }
    }

    fn add_file(&mut self, name: String, file: &Path, asked_for: bool) {
        let Some(format) = Format::of(&name).or(asked_for.then_some(Format::Text)) else { return };
        let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        if size > read::MAX_FILE as u64 {
            self.rejected.push((name, format!("it is larger than {} MiB", read::MAX_FILE >> 20)));
            return;
        }
        match std::fs::read(file) {
            // A folder may contain other YAML files. Only those with an alert are read.
            Ok(bytes) if !asked_for && format == Format::AlertRules && !names_alert(&bytes) => {}
            Ok(bytes) => self.add(name, &bytes),
            Err(error) => self.rejected.push((name, error.to_string())),
        }
    }

    fn add(&mut self, path: String, bytes: &[u8]) {
        match read::documents(&path, bytes) {
            Ok(documents) => self.documents.extend(documents),
            Err(error) => self.rejected.push((path, format!("{error:#}"))),
        }
    }

    /// Compiles the signatures of the documents.
    ///
    /// # Errors
    /// A pattern is not a valid regular expression.
    pub fn signatures(&self) -> anyhow::Result<SignatureSet> {
        let all = self.documents.iter().flat_map(|document| document.signatures.iter().cloned());
        SignatureSet::compile(all.collect())
    }
}

fn names_alert(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| text.lines().any(|line| line.trim_start_matches([' ', '-']).starts_with("alert:")))
}

/// Lists all files below a folder, sorted by path. Skips hidden files and folders (a mounted ConfigMap keeps its data in a
/// hidden folder with links to it).
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([root.canonicalize().unwrap_or_else(|_| root.to_owned())]);
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            if !path.is_dir() {
                found.push(path);
            } else if depth < MAX_DEPTH && seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_ships_is_whole_and_has_no_secret() {
        let corpus = Corpus::built_in();
        assert_eq!(corpus.rejected, []);
        for document in &corpus.documents {
            assert!(!document.body.contains("[redacted"), "{}: taken for a secret", document.path);
            assert!(!document.applies_to.is_empty() && document.class.is_some(), "{}", document.path);
        }
        corpus.signatures().unwrap();
    }

    #[test]
    fn a_folder_is_walked_and_bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("sub/..data")).unwrap();
        fs::write(root.join("a.md"), "# A\n\ntext").unwrap();
        fs::write(root.join("sub/b.adoc"), "= B\n\ntext").unwrap();
        fs::write(root.join("sub/..data/hidden.md"), "# hidden").unwrap();
        fs::write(root.join("bad.md"), "---\ntitle: x\n---\nbody").unwrap();
        fs::write(root.join("values.yaml"), "image: x").unwrap();
        fs::write(root.join("photo.png"), [0, 1, 2]).unwrap();
        std::os::unix::fs::symlink(root, root.join("sub/loop")).unwrap();
        let corpus = Corpus::of_path(root).unwrap();
        let paths: Vec<&str> = corpus.documents.iter().map(|document| document.path.as_str()).collect();
        assert_eq!(paths, ["a.md", "sub/b.adoc"]);
        assert!(corpus.rejected.iter().any(|(path, reason)| path == "bad.md" && reason.contains("class")));
        let one = Corpus::of_path(&root.join("values.yaml")).unwrap();
        assert_eq!((one.whole, one.rejected.len()), (false, 1));
        assert!(Corpus::of_path(&root.join("none")).is_err());
    }
}
