//! What differs from run to run is masked before comparing: ids, times, durations, temporary folders.
//!
//! | printed | compared as |
//! |---|---|
//! | a UUID: `01936c0e-7b1c-7c4e-9d2b-0123456789ab` | `<id>` |
//! | an RFC 3339 time: `2026-01-15T10:30:00.25Z` | `<time>` |
//! | a duration: `1.5 ms`, `300µs`, `2 s` | `<duration>` |
//! | a path below the system's temporary folder | `<folder>` |

/// How the groups of a UUID are long.
const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
const DURATION_UNITS: [&str; 5] = ["ns", "µs", "us", "ms", "s"];
const TEMPORARY: &str = "/tmp/";

/// A pattern answers how many bytes at the start of the text it covers.
type Pattern = fn(&str) -> Option<usize>;

const PATTERNS: [(Pattern, &str); 4] = [
    (uuid, "<id>"),
    (time, "<time>"),
    (duration, "<duration>"),
    (folder, "<folder>"),
];

/// The text with everything masked that a run may change.
pub(super) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        let found = PATTERNS
            .iter()
            .filter(|_| !inside_word)
            .find_map(|(pattern, name)| {
                let length = pattern(rest)?;
                let ends_well = !rest
                    .get(length..)?
                    .starts_with(|next: char| next.is_alphanumeric());
                ends_well.then_some((length, *name))
            });
        let length = if let Some((length, name)) = found {
            masked.push_str(name);
            length
        } else {
            masked.push(first);
            first.len_utf8()
        };
        inside_word = found.is_none() && (first.is_alphanumeric() || first == '.' || first == '-');
        rest = rest.get(length..).unwrap_or_default();
    }
    masked
}

fn uuid(text: &str) -> Option<usize> {
    let mut groups = text.split('-');
    for length in UUID_GROUPS {
        let group = groups.next()?.get(..length)?;
        if !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
    }
    let length = UUID_GROUPS.iter().sum::<usize>() + UUID_GROUPS.len() - 1;
    // Four hyphens must stand exactly between the groups.
    let hyphens: Vec<usize> = text
        .get(..length)?
        .match_indices('-')
        .map(|(at, _)| at)
        .collect();
    (hyphens == [8, 13, 18, 23]).then_some(length)
}

/// `YYYY-MM-DDTHH:MM:SS`, a fraction if any, then `Z` or an offset.
fn time(text: &str) -> Option<usize> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let seconds = text.as_bytes().get(..SHAPE.len())?;
    let fits = seconds.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        sign => byte == sign,
    });
    if !fits {
        return None;
    }
    let mut length = SHAPE.len();
    if text.get(length..)?.starts_with('.') {
        length += 1 + digits(text.get(length + 1..)?);
    }
    let zone = text.get(length..)?;
    if zone.starts_with('Z') {
        Some(length + 1)
    } else if zone.starts_with(['+', '-']) {
        Some(length + "+00:00".len())
    } else {
        None
    }
}

fn duration(text: &str) -> Option<usize> {
    let mut length = digits(text);
    if length == 0 {
        return None;
    }
    if text.get(length..)?.starts_with('.') {
        length += 1 + digits(text.get(length + 1..)?);
    }
    length += usize::from(text.get(length..)?.starts_with(' '));
    let unit_text = text.get(length..)?;
    let unit = DURATION_UNITS.iter().find(|unit| {
        unit_text
            .strip_prefix(**unit)
            .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    })?;
    Some(length + unit.len())
}

fn folder(text: &str) -> Option<usize> {
    let inside = text.strip_prefix(TEMPORARY)?;
    let length = inside.find(|sign: char| sign.is_whitespace() || "\"'`,;:)".contains(sign));
    Some(TEMPORARY.len() + length.unwrap_or(inside.len()))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_times_durations_and_folders_are_masked() {
        assert_eq!(mask("id 01936c0e-7b1c-7c4e-9d2b-0123456789ab."), "id <id>.");
        assert_eq!(
            mask("at 2026-01-15T10:30:00.25Z, 2026-01-15T10:30:00+02:00"),
            "at <time>, <time>"
        );
        assert_eq!(
            mask("took 1.5 ms (300µs, 2 s)"),
            "took <duration> (<duration>, <duration>)"
        );
        assert_eq!(
            mask("data in /tmp/.abc123/log, kept"),
            "data in <folder>, kept"
        );
    }

    #[test]
    fn what_every_run_prints_alike_stays() {
        for text in [
            "order-123 costs 59.98",
            "3 shops",
            "v1.5",
            "2026-01-15",
            "a-b-c-d-e",
            "5 attempts",
            "x2s",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn placeholders_stay_as_they_are() {
        assert_eq!(mask("<id> at <time>"), "<id> at <time>");
    }
}
