//! Rule: a file stays within 600 lines besides its tests, a file of tests or benchmarks within 900.

use crate::tidy::Finding;
use crate::tidy::tree::Tree;

/// Lines of a source file, tests in it not counted.
const LINES_MAX: usize = 600;
/// Lines of a file below `tests/` or `benches/`, all counted.
const TEST_FILE_LINES_MAX: usize = 900;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources()
        .filter_map(|source| {
            let (lines, max) = if source.is_test_file() {
                (source.text.lines().count(), TEST_FILE_LINES_MAX)
            } else {
                (source.lines_besides_tests(), LINES_MAX)
            };
            let message =
                format!("{lines} lines, {max} at most: split it by what its parts are for");
            (lines > max).then(|| Finding::new(source.path.clone(), max, message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<Finding> {
        check(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn a_file_of_601_lines_is_reported() {
        let text = "const A: u8 = 0;\n".repeat(601);

        let found = findings("src/lib.rs", &text);

        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("601 lines, 600 at most"));
    }

    #[test]
    fn tests_inside_the_file_do_not_count() {
        let tests = "    const A: u8 = 0;\n".repeat(700);
        let text = format!(
            "{}#[cfg(test)]\nmod tests {{\n{tests}}}\n",
            "\n".repeat(590)
        );

        assert_eq!(findings("src/lib.rs", &text), []);
    }

    #[test]
    fn a_file_of_tests_may_have_900_lines() {
        assert_eq!(findings("tests/it/a.rs", &"\n".repeat(900)), []);
        assert_eq!(findings("tests/it/a.rs", &"\n".repeat(901)).len(), 1);
    }
}
