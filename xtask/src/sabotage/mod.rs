//! `cargo xtask sabotage`: plants known bugs in a copy of the tree, one at a time, and sees whether the tests find them. A test that finds nothing in bad code says nothing about good code.

mod copy;
mod list;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Args;

use crate::failure::Failure;
use crate::house::House;
use crate::sabotage::list::{BUGS, Bug};
use crate::sabotage::suite::{Ended, Package, Suite};
use crate::stopwatch::{self, Stopwatch};

/// Which bugs to plant.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Names of bugs; all if left out
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// How many bugs were found, of how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) found: usize,
    pub(crate) planted: usize,
}

/// Plants what is asked for and says what was found.
pub(crate) fn run(house: &House, options: &Options) -> Result<Found, Failure> {
    let bugs = chosen(&options.names)?;
    let room = house.target.join("sabotage");
    let (copy, target) = (room.join("tree"), room.join("target"));
    copy::bring_up_to_date(house, &copy)?;
    let sources = bugs
        .iter()
        .map(|bug| Planting::prepare(&copy, bug))
        .collect::<Result<Vec<_>, _>>()?;
    let suite = |package| Suite {
        package,
        house,
        copy: &copy,
        target: &target,
    };
    for package in Package::ALL {
        check_without_bugs(&suite(package), &bugs)?;
    }
    let mut found = 0;
    for planting in &sources {
        let stopwatch = Stopwatch::start();
        let verdict = planting.try_it(&suite(planting.bug.package), &copy)?;
        found += usize::from(verdict == Verdict::Found);
        println!(
            "{:<32} {:<28} {:>9}",
            planting.bug.name,
            verdict.text(),
            stopwatch::readable(stopwatch.elapsed())
        );
    }
    let found = Found {
        found,
        planted: bugs.len(),
    };
    println!("{}", found.line());
    Ok(found)
}

/// How the line begins that closes a run.
const CLOSING: &str = "planted bugs found: ";

impl Found {
    fn line(self) -> String {
        format!("{CLOSING}{} of {}", self.found, self.planted)
    }

    /// Reads what a run said.
    ///
    /// **Errors**: it ended before it was through.
    pub(crate) fn read(said: &str) -> Result<Found, Failure> {
        let counts = said.lines().find_map(|line| line.strip_prefix(CLOSING));
        let counts = counts.and_then(|counts| counts.split_once(" of "));
        let read = counts.and_then(|(found, planted)| {
            Some(Found {
                found: found.parse().ok()?,
                planted: planted.parse().ok()?,
            })
        });
        read.ok_or_else(|| Failure::new("the planted bugs were not all tried; why stands above"))
    }
}

/// Fails unless all were found; for the command line.
pub(crate) fn require(found: Found) -> Result<(), Failure> {
    if found.found == found.planted {
        return Ok(());
    }
    Err(Failure::new(
        "a planted bug was not found: write the test that finds it, and name it in xtask/src/sabotage/list.rs",
    ))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Bug>, Failure> {
    let known = |name: &String| BUGS.iter().any(|bug| bug.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
        return Err(Failure::new(format!(
            "no bug is named {unknown}; there are: {}",
            all.join(", ")
        )));
    }
    let is_wanted = |bug: &&Bug| names.is_empty() || names.iter().any(|name| name == bug.name);
    Ok(BUGS.iter().filter(is_wanted).collect())
}

/// The tests must pass as the tree is, every one of them: else their failure would prove nothing.
fn check_without_bugs(suite: &Suite<'_>, bugs: &[&Bug]) -> Result<(), Failure> {
    let bugs = bugs.iter().filter(|bug| bug.package == suite.package);
    let tests: BTreeSet<&str> = bugs.flat_map(|bug| bug.tests).copied().collect();
    let tests: Vec<&str> = tests.into_iter().collect();
    if tests.is_empty() {
        return Ok(());
    }
    let stopwatch = Stopwatch::start();
    let binary = suite.build()?;
    let ended = suite.run(&binary, &tests)?;
    if ended != Ended::Passed(tests.len()) {
        return Err(Failure::new(format!(
            "without any bug, these tests should all be there and pass, but {ended:?}: {}",
            tests.join(", ")
        )));
    }
    println!(
        "{:<32} {:<28} {:>9}",
        format!("({} without)", suite.package.name()),
        format!("{} tests pass", tests.len()),
        stopwatch::readable(stopwatch.elapsed())
    );
    Ok(())
}

/// Whether the tests noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Found,
    NotFound,
    NotInTime,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Found => "found",
            Verdict::NotFound => "NOT FOUND",
            Verdict::NotInTime => "NOT FOUND: ran out of time",
        }
    }
}

/// A bug with the file that it goes into, before and after.
struct Planting {
    bug: &'static Bug,
    before: String,
    after: String,
}

impl Planting {
    fn prepare(copy: &Path, bug: &'static Bug) -> Result<Planting, Failure> {
        let file = copy.join(bug.file);
        let before = fs::read_to_string(&file).map_err(|e| Failure::file("read", &file, &e))?;
        let after = plant(bug, &before)?;
        Ok(Planting { bug, before, after })
    }

    fn try_it(&self, suite: &Suite<'_>, copy: &Path) -> Result<Verdict, Failure> {
        let file = copy.join(self.bug.file);
        copy::write_if_different(&file, self.after.as_bytes())?;
        let ended = suite
            .build()
            .and_then(|binary| suite.run(&binary, self.bug.tests));
        copy::write_if_different(&file, self.before.as_bytes())?;
        let ended = ended
            .map_err(|failure| Failure::new(format!("with {} planted: {failure}", self.bug.name)));
        Ok(match ended? {
            Ended::Failed => Verdict::Found,
            Ended::Passed(_) => Verdict::NotFound,
            Ended::TooSlow => Verdict::NotInTime,
        })
    }
}

fn plant(bug: &Bug, source: &str) -> Result<String, Failure> {
    match source.matches(bug.text).count() {
        1 => Ok(source.replacen(bug.text, bug.replacement, 1)),
        count => Err(Failure::new(format!(
            "the bug {} does not fit any more: its text stands {count} times in {}, once is needed; mend it in xtask/src/sabotage/list.rs",
            bug.name, bug.file
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_whose_text_is_gone_or_doubled_is_named_with_its_file() {
        let bug = &BUGS[0];
        let twice = format!("{}{}", bug.text, bug.text);

        assert!(plant(bug, bug.text).is_ok());
        for source in ["", twice.as_str()] {
            let failure = plant(bug, source).expect_err("does not fit").to_string();
            assert!(failure.contains(bug.name) && failure.contains(bug.file));
        }
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_refused() {
        let names: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();

        assert_eq!(names.len(), BUGS.len());
        assert!(chosen(&["rust".to_owned()]).is_err());
        assert_eq!(
            chosen(&["ack-before-sync".to_owned()]).expect("one").len(),
            1
        );
    }

    #[test]
    fn what_a_run_says_is_read_again_unless_it_broke_off() {
        let found = Found {
            found: 44,
            planted: 45,
        };
        let said = format!("ack-before-sync  found  1.2 s\n{}\n", found.line());

        let read = Found::read(&said).expect("closed");

        assert_eq!((read.found, read.planted), (44, 45));
        assert!(Found::read("ack-before-sync  found  1.2 s\nerror: no room").is_err());
    }

    #[test]
    fn one_that_is_not_found_is_a_failure() {
        assert!(
            require(Found {
                found: 2,
                planted: 2
            })
            .is_ok()
        );
        assert!(
            require(Found {
                found: 1,
                planted: 2
            })
            .is_err()
        );
    }
}
