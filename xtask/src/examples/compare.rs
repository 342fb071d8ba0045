//! The difference between expected and printed lines, as a person wants to see it.

/// Lines around a difference that show where it is.
const CONTEXT_LINES: usize = 2;

/// Nothing if both are the same, apart from white space at the end.
pub(super) fn difference(expected: &str, printed: &str) -> Option<String> {
    let expected: Vec<&str> = lines(expected);
    let printed: Vec<&str> = lines(printed);
    if expected == printed {
        return None;
    }
    let head = expected
        .iter()
        .zip(&printed)
        .take_while(|(a, b)| a == b)
        .count();
    let shorter = expected.len().min(printed.len());
    let tail = expected
        .iter()
        .rev()
        .zip(printed.iter().rev())
        .take_while(|(a, b)| a == b)
        .count()
        .min(shorter - head);
    let mut shown = vec!["--- expected.txt".to_owned(), "+++ printed".to_owned()];
    let marked = |sign: char, lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| format!("{sign}{line}")).collect()
    };
    let part = |lines: &[&str], sign: char, from: usize, to: usize| {
        marked(sign, lines.get(from..to).unwrap_or_default())
    };
    shown.extend(part(
        &expected,
        ' ',
        head.saturating_sub(CONTEXT_LINES),
        head,
    ));
    shown.extend(part(&expected, '-', head, expected.len() - tail));
    shown.extend(part(&printed, '+', head, printed.len() - tail));
    let after = expected.len() - tail;
    shown.extend(part(
        &expected,
        ' ',
        after,
        (after + CONTEXT_LINES).min(expected.len()),
    ));
    Some(shown.join("\n"))
}

fn lines(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_at_the_end_is_no_difference() {
        assert_eq!(difference("a\nb\n\n", "a  \nb"), None);
    }

    #[test]
    fn a_changed_line_is_shown_between_its_neighbours() {
        let shown = difference("1\n2\n3\n4\n5\n6\n", "1\n2\n3\nX\n5\n6\n").expect("differs");

        assert_eq!(
            shown,
            "--- expected.txt\n+++ printed\n 2\n 3\n-4\n+X\n 5\n 6"
        );
    }

    #[test]
    fn a_missing_and_an_added_line_are_shown() {
        assert!(
            difference("a\nb\n", "a\n")
                .expect("differs")
                .ends_with(" a\n-b")
        );
        assert!(
            difference("a\n", "a\na\n")
                .expect("differs")
                .ends_with(" a\n+a")
        );
    }
}
