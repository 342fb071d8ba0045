//! `House`: where the repository is and what cargo knows about its packages.

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::failure::Failure;

/// The repository around the current directory.
#[derive(Debug, Clone)]
pub(crate) struct House {
    /// Where the root manifest is.
    pub(crate) root: PathBuf,
    /// Where cargo builds; shared by everything that xtask starts.
    pub(crate) target: PathBuf,
    /// Our packages.
    pub(crate) packages: Vec<Package>,
    /// Variables for everything that cargo runs: where the tests find their servers.
    pub(crate) variables: Vec<(String, String)>,
}

/// One of our packages and what its manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest's dependency tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for tests, examples and benchmarks.
    pub(crate) dev: bool,
    /// Only with a feature that a user turns on.
    pub(crate) optional: bool,
}

impl House {
    pub(crate) fn find() -> Result<House, Failure> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .map_err(|cause| Failure::new(format!("cannot read the workspace: {cause}")))?;
        let packages = metadata
            .workspace_packages()
            .into_iter()
            .map(|package| Package {
                name: package.name.to_string(),
                dependencies: package.dependencies.iter().map(dependency).collect(),
            })
            .collect();
        Ok(House {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
            packages,
            variables: Vec::new(),
        })
    }

    pub(crate) fn has_package(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }
}

fn dependency(dependency: &cargo_metadata::Dependency) -> Dependency {
    Dependency {
        name: dependency.name.clone(),
        dev: dependency.kind == DependencyKind::Development,
        optional: dependency.optional,
    }
}
