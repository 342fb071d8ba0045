//! `cargo xtask docs`: the pages of docs/reference/ are printed by the binary that they describe.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cargo_metadata::Message;

use crate::child;
use crate::failure::Failure;
use crate::house::House;

/// The package whose binary prints the pages: `tidings reference PAGE`.
const PACKAGE: &str = "tidings-cli";
const BINARY: &str = "tidings";
const FOLDER: &str = "docs/reference";
const PAGES: &[&str] = &["cli", "errors", "limits"];

/// A generated page: where it belongs and what it should say.
struct Page {
    path: PathBuf,
    name: String,
    text: String,
}

pub(crate) fn write(house: &House) -> Result<(), Failure> {
    let folder = house.path(FOLDER);
    fs::create_dir_all(&folder).map_err(|cause| Failure::file("create", &folder, &cause))?;
    for page in generate(house)? {
        fs::write(&page.path, &page.text)
            .map_err(|cause| Failure::file("write", &page.path, &cause))?;
        println!("wrote {}", page.name);
    }
    Ok(())
}

pub(crate) fn check(house: &House) -> Result<(), Failure> {
    let mut stale = Vec::new();
    for page in generate(house)? {
        // A missing page differs from every page.
        let present = fs::read_to_string(&page.path).unwrap_or_default();
        if let Some(difference) = difference(&present, &page.text) {
            println!("{}: {difference}", page.name);
            stale.push(page.name);
        }
    }
    if stale.is_empty() {
        println!("docs: {} pages say what the code says", PAGES.len());
        return Ok(());
    }
    Err(Failure::new(format!(
        "out of date: {}; run `cargo xtask docs`",
        stale.join(", ")
    )))
}

fn generate(house: &House) -> Result<Vec<Page>, Failure> {
    if !house.has_package(PACKAGE) {
        return Err(Failure::new(format!(
            "the reference pages are printed by the binary of {PACKAGE}, which does not exist yet"
        )));
    }
    let binary = build(house)?;
    PAGES
        .iter()
        .map(|page| {
            let mut command = Command::new(&binary);
            command.current_dir(&house.root).args(["reference", page]);
            let name = format!("{FOLDER}/{page}.md");
            Ok(Page {
                path: house.path(&name),
                name,
                text: child::capture(&mut command)?,
            })
        })
        .collect()
}

/// Builds what the tests build, so that after them nothing is left to do here; answers where the binary is.
fn build(house: &House) -> Result<PathBuf, Failure> {
    let mut command = child::cargo(house);
    command
        .args(["build", "--quiet", "--workspace", "--all-features"])
        .args([
            "--bins",
            "--tests",
            "--message-format=json-render-diagnostics",
        ]);
    let messages = child::capture(&mut command)?;
    binary_in(&messages).ok_or_else(|| {
        Failure::new(format!(
            "cargo built no binary `{BINARY}`; {PACKAGE} must have one"
        ))
    })
}

/// The path of our binary among cargo's messages.
fn binary_in(messages: &str) -> Option<PathBuf> {
    Message::parse_stream(messages.as_bytes())
        .filter_map(Result::ok)
        .find_map(|message| match message {
            Message::CompilerArtifact(artifact)
                if artifact.target.name == BINARY && !artifact.profile.test =>
            {
                artifact.executable.map(PathBuf::from)
            }
            _ => None,
        })
}

/// The first line where two pages differ, as a sentence.
fn difference(present: &str, wanted: &str) -> Option<String> {
    if present == wanted {
        return None;
    }
    let same = present
        .lines()
        .zip(wanted.lines())
        .take_while(|(a, b)| a == b)
        .count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(end)").to_owned();
    Some(format!(
        "line {} says \"{}\", the code says \"{}\"",
        same + 1,
        line(present),
        line(wanted)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let message = |test: bool, path: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/m","target":{{"kind":["bin"],"crate_types":["bin"],"name":"tidings","src_path":"/s","edition":"2024","doc":false,"doctest":false,"test":true}},"profile":{{"opt_level":"0","debuginfo":0,"debug_assertions":true,"overflow_checks":true,"test":{test}}},"features":[],"filenames":[],"executable":"{path}","fresh":true}}"#
            )
        };
        let messages = format!(
            "{}\n{}\n",
            message(true, "/t/test"),
            message(false, "/t/tidings")
        );

        assert_eq!(binary_in(&messages), Some(PathBuf::from("/t/tidings")));
        assert_eq!(binary_in(""), None);
    }

    #[test]
    fn equal_pages_do_not_differ() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    }

    #[test]
    fn the_first_different_line_is_named() {
        let said = difference("a\nb\nc\n", "a\nX\nc\n").expect("differs");

        assert_eq!(said, "line 2 says \"b\", the code says \"X\"");
    }

    #[test]
    fn a_missing_page_differs_at_its_first_line() {
        assert_eq!(
            difference("", "a\n").expect("differs"),
            "line 1 says \"(end)\", the code says \"a\""
        );
    }
}
