//! `cargo xtask examples`: runs each example and compares what it prints with its expected.txt.

mod compare;
mod mask;

use std::fs;
use std::path::{Path, PathBuf};

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::stopwatch::{self, Stopwatch};

const FOLDER: &str = "examples";

/// Runs all examples, or those whose name begins with `only`.
pub(crate) fn run(house: &House, only: Option<&str>) -> Result<(), Failure> {
    let folder = house.path(FOLDER);
    let examples = chosen(&folder, only)?;
    let mut different = Vec::new();
    for example in &examples {
        let stopwatch = Stopwatch::start();
        let is_as_expected = show(house, example)?;
        let verdict = if is_as_expected { "ok" } else { "DIFFERENT" };
        println!(
            "example {:<24} {verdict} ({})",
            example.name,
            stopwatch::readable(stopwatch.elapsed())
        );
        if !is_as_expected {
            different.push(example.name.as_str());
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "these examples print something else: {}",
        different.join(", ")
    )))
}

/// A folder `NN_name` with a manifest.
struct Example {
    name: String,
    folder: PathBuf,
}

fn chosen(folder: &Path, only: Option<&str>) -> Result<Vec<Example>, Failure> {
    let all = list(folder)?;
    let names: Vec<String> = all.iter().map(|example| example.name.clone()).collect();
    let wanted = only.unwrap_or_default();
    let chosen: Vec<Example> = all
        .into_iter()
        .filter(|example| example.name.starts_with(wanted))
        .collect();
    if chosen.is_empty() {
        return Err(Failure::new(format!(
            "no example in {} begins with \"{wanted}\"; there are: {}",
            folder.display(),
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        )));
    }
    Ok(chosen)
}

fn list(folder: &Path) -> Result<Vec<Example>, Failure> {
    let entries = fs::read_dir(folder).map_err(|cause| Failure::file("read", folder, &cause))?;
    let mut examples = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| Failure::file("read", folder, &cause))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_numbered = name.starts_with(|first: char| first.is_ascii_digit());
        if is_numbered && entry.path().join("Cargo.toml").exists() {
            examples.push(Example {
                name,
                folder: entry.path(),
            });
        }
    }
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(examples)
}

/// Runs one example; prints the difference if there is one.
fn show(house: &House, example: &Example) -> Result<bool, Failure> {
    let expected_path = example.folder.join("expected.txt");
    let expected = fs::read_to_string(&expected_path)
        .map_err(|cause| Failure::file("read", &expected_path, &cause))?;
    let mut command = child::cargo(house);
    command
        .args(["run", "--quiet", "--manifest-path"])
        .arg(example.folder.join("Cargo.toml"));
    let printed = match child::capture(&mut command) {
        Ok(printed) => printed,
        Err(failure) => {
            println!("{failure}");
            return Ok(false);
        }
    };
    // Both sides are masked, so that expected.txt may hold real output or placeholders.
    let difference = compare::difference(&mask::mask(&expected), &mask::mask(&printed));
    if let Some(difference) = &difference {
        println!("{difference}");
    }
    Ok(difference.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in names {
            fs::create_dir(folder.path().join(name)).expect("create");
            fs::write(folder.path().join(name).join("Cargo.toml"), "").expect("write");
        }
        folder
    }

    #[test]
    fn examples_run_in_the_order_of_their_numbers() {
        let folder = folder_with(&["02_b", "01_a", "target"]);

        let names: Vec<String> = chosen(folder.path(), None)
            .expect("list")
            .into_iter()
            .map(|e| e.name)
            .collect();

        assert_eq!(names, ["01_a", "02_b"]);
    }

    #[test]
    fn an_unknown_example_is_refused_with_the_known_ones() {
        let folder = folder_with(&["01_a"]);

        let failure = chosen(folder.path(), Some("07")).err().expect("unknown");

        assert!(
            failure
                .to_string()
                .ends_with("begins with \"07\"; there are: 01_a"),
            "{failure}"
        );
    }

    /// A house with one example that prints a fresh id and a greeting.
    fn house_with_a_greeting(root: &Path, expected: &str) -> House {
        let folder = root.join(FOLDER).join("01_greet");
        fs::create_dir_all(folder.join("src")).expect("create");
        let manifest = "[package]\nname = \"greet\"\nedition = \"2024\"\n[workspace]\n";
        let main = "fn main() { println!(\"01936c0e-7b1c-7c4e-9d2b-0123456789ab says hello\"); }\n";
        fs::write(folder.join("Cargo.toml"), manifest).expect("write");
        fs::write(folder.join("src/main.rs"), main).expect("write");
        fs::write(folder.join("expected.txt"), expected).expect("write");
        House {
            root: root.to_path_buf(),
            target: root.join("target"),
            packages: Vec::new(),
            variables: Vec::new(),
        }
    }

    #[test]
    fn an_example_that_prints_something_else_is_reported_by_name() {
        let root = tempfile::tempdir().expect("temporary folder");

        let house = house_with_a_greeting(root.path(), "<id> says hello\n");
        run(&house, None).expect("as expected");

        let house = house_with_a_greeting(root.path(), "<id> says goodbye\n");
        let failure = run(&house, None).expect_err("different");
        assert_eq!(
            failure.to_string(),
            "these examples print something else: 01_greet"
        );
    }
}
