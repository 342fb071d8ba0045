//! `Tree`: the files of the repository and its packages, read once and shown to every rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::house::{House, Package};
use crate::tidy::Finding;
use crate::tidy::modules;
use crate::tidy::source::Source;

/// Folders that hold no work of ours: build output, data, other tools' state.
const SKIPPED_FOLDERS: &[&str] = &["target", "shop-data", "node_modules"];

/// Folders whose name begins with a dot and that we keep.
const KEPT_DOT_FOLDERS: &[&str] = &[".cargo", ".ci", ".github"];

/// Endings of files that hold text which rules read.
const TEXT_ENDINGS: &[&str] = &[
    "rs", "md", "toml", "txt", "sql", "sh", "stderr", "run", "yml",
];

/// Everything the rules look at. Paths are relative to the root, with `/`.
#[derive(Default)]
pub(crate) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
    unparsed: Vec<Finding>,
    packages: Vec<Package>,
}

impl Tree {
    pub(crate) fn read(house: &House) -> Result<Tree, Failure> {
        let mut tree = Tree {
            packages: house.packages.clone(),
            ..Tree::default()
        };
        tree.read_folder(&house.root, "")?;
        tree.mark_modules_of_tests();
        Ok(tree)
    }

    /// A tree out of thin air, for the tests of the rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.add((*path).to_owned(), Some((*text).to_owned()));
        }
        tree.mark_modules_of_tests();
        tree
    }

    #[cfg(test)]
    pub(crate) fn with_packages(mut self, packages: Vec<Package>) -> Tree {
        self.packages = packages;
        self
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), Failure> {
        let entries = fs::read_dir(folder).map_err(|e| Failure::file("read", folder, &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Failure::file("read", folder, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry
                .file_type()
                .map_err(|e| Failure::file("read", &entry.path(), &e))?;
            if kind.is_dir() {
                if is_ours(&name) {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else {
                let text = read_text(&entry.path(), &path)?;
                self.add(path, text);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, text: Option<String>) {
        if let Some(text) = text {
            if path.ends_with(".rs") {
                match Source::parse(&path, &text) {
                    Ok(source) => drop(self.sources.insert(path.clone(), source)),
                    Err(finding) => self.unparsed.push(finding),
                }
            }
            self.texts.insert(path.clone(), text);
        }
        self.paths.insert(path);
    }

    /// Modules under `#[cfg(test)]`, and the modules of those.
    fn mark_modules_of_tests(&mut self) {
        let mut open: Vec<String> = self
            .sources
            .values()
            .flat_map(modules::children)
            .filter(|child| child.only_for_tests)
            .map(|child| child.path)
            .collect();
        while let Some(path) = open.pop() {
            let Some(source) = self.sources.get_mut(&path) else {
                continue;
            };
            if !source.only_for_tests {
                source.only_for_tests = true;
                open.extend(
                    modules::children(source)
                        .into_iter()
                        .map(|child| child.path),
                );
            }
        }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// The text files with this ending, or all for an empty one.
    pub(crate) fn texts(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.get(path)
    }

    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// A file of this path, or a folder with something in it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.paths.contains(path) || self.has_folder(path)
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.paths
            .range(below.clone()..)
            .next()
            .is_some_and(|next| next.starts_with(&below))
    }
}

/// The rule that every Rust file can be read at all.
pub(crate) fn unparsed(tree: &Tree) -> Vec<Finding> {
    tree.unparsed.clone()
}

fn is_ours(folder: &str) -> bool {
    !SKIPPED_FOLDERS.contains(&folder)
        && (!folder.starts_with('.') || KEPT_DOT_FOLDERS.contains(&folder))
}

fn read_text(file: &Path, path: &str) -> Result<Option<String>, Failure> {
    let ending = path.rsplit(['.', '/']).next().unwrap_or_default();
    if !TEXT_ENDINGS.contains(&ending) {
        return Ok(None);
    }
    match fs::read(file) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Failure::new(format!("{path} is not UTF-8; save it as UTF-8"))),
        // An editor's temporary file that went away between listing and reading.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Failure::file("read", file, &cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_exists_when_something_is_in_it() {
        let tree = Tree::of(&[("docs/errors/TD0001.md", "")]);

        assert!(tree.exists("docs/errors/"));
        assert!(tree.exists("docs/errors/TD0001.md"));
        assert!(!tree.exists("docs/err"));
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_file_with_all_its_modules() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "#[cfg(test)]\nmod fakes;\nmod real;\n"),
            ("a/src/fakes.rs", "mod broker;\n"),
            ("a/src/fakes/broker.rs", ""),
            ("a/src/real.rs", ""),
        ]);

        let is_test = |path| tree.source(path).map(Source::is_test_file);

        assert_eq!(is_test("a/src/fakes.rs"), Some(true));
        assert_eq!(is_test("a/src/fakes/broker.rs"), Some(true));
        assert_eq!(is_test("a/src/real.rs"), Some(false));
    }

    #[test]
    fn build_output_and_foreign_dot_folders_are_not_read() {
        let root = tempfile::tempdir().expect("temporary folder");
        for folder in ["src", "target", ".git", ".ci"] {
            fs::create_dir(root.path().join(folder)).expect("create");
            fs::write(root.path().join(folder).join("a.txt"), "").expect("write");
        }

        let mut tree = Tree::default();
        tree.read_folder(root.path(), "").expect("read");

        assert_eq!(tree.paths().collect::<Vec<_>>(), [".ci/a.txt", "src/a.txt"]);
    }

    #[test]
    fn a_file_that_is_no_rust_is_reported_with_its_line() {
        let tree = Tree::of(&[("src/lib.rs", "//! Head.\nfn {\n")]);

        let findings = unparsed(&tree);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }
}
