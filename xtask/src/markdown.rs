//! The little of Markdown that the chores read: sections, table rows, links, fenced snippets.

/// A relative or absolute link and the line it stands on, counted from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// A row of a table below its header: its line and its cells, trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

/// A line of text and its number, counted from one.
pub(crate) type Numbered<'a> = (usize, &'a str);

/// The lines below a level-two heading of this title, up to the next heading of level one or two.
pub(crate) fn section<'a>(text: &'a str, title: &str) -> Option<Vec<Numbered<'a>>> {
    let mut lines = numbered(text).skip_while(|(_, line)| line.strip_prefix("## ") != Some(title));
    lines.next()?;
    Some(
        lines
            .take_while(|(_, line)| !line.starts_with("## ") && !line.starts_with("# "))
            .collect(),
    )
}

/// The rows of the first table in these lines, without header and rule.
pub(crate) fn table(lines: &[Numbered<'_>]) -> Vec<Row> {
    lines
        .iter()
        .skip_while(|(_, line)| !line.starts_with('|'))
        .take_while(|(_, line)| line.starts_with('|'))
        .skip(2)
        .map(|(number, line)| Row {
            line: *number,
            cells: cells(line),
        })
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    line.trim()
        .trim_matches('|')
        .split('|')
        .map(|cell| cell.trim().to_owned())
        .collect()
}

/// Every `` `word` `` of a text.
pub(crate) fn code_words(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Every `[text](target)` outside fences and code spans.
pub(crate) fn links(lines: &[Numbered<'_>]) -> Vec<Link> {
    outside_fences(lines)
        .flat_map(|(number, line)| {
            let plain = without_code_spans(line);
            targets(&plain)
                .into_iter()
                .map(move |target| Link {
                    line: number,
                    target,
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn targets(line: &str) -> Vec<String> {
    line.match_indices("](")
        .filter_map(|(at, _)| {
            let rest = line.get(at + 2..)?;
            let target = rest.get(..rest.find(')')?)?;
            // A title may follow the target: `(path "title")`.
            target.split_whitespace().next().map(str::to_owned)
        })
        .collect()
}

/// A code span inside a link's text is kept apart from its target, so only the span goes.
fn without_code_spans(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

fn outside_fences<'a>(lines: &'a [Numbered<'a>]) -> impl Iterator<Item = Numbered<'a>> {
    let mut inside = false;
    lines.iter().copied().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

/// The info strings of all fenced snippets, in order: `rust`, `text`, …
pub(crate) fn fences(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for info in text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("```"))
    {
        inside = !inside;
        if inside {
            found.push(info.trim().to_owned());
        }
    }
    found
}

pub(crate) fn numbered(text: &str) -> impl Iterator<Item = Numbered<'_>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# Page\n\n## Edges\n\n| a | b |\n|---|---|\n| `x` | `y`, `z` |\n\n## Next\nend\n";

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let lines = section(PAGE, "Edges").expect("there");

        assert!(lines.iter().all(|(_, line)| *line != "end"));
        assert_eq!(section(PAGE, "Absent"), None);
    }

    #[test]
    fn a_table_gives_its_rows_with_their_lines() {
        let rows = table(&section(PAGE, "Edges").expect("there"));

        assert_eq!(
            rows,
            [Row {
                line: 7,
                cells: vec!["`x`".into(), "`y`, `z`".into()]
            }]
        );
    }

    #[test]
    fn code_words_are_what_stands_between_backticks() {
        assert_eq!(code_words("`y`, and `z`"), ["y", "z"]);
    }

    #[test]
    fn links_in_fences_and_code_spans_are_no_links() {
        let text =
            "[a](one.md) and `[b](two.md)`\n```\n[c](three.md)\n```\n[`d`](four.md \"title\")\n";

        let targets: Vec<_> = links(&numbered(text).collect::<Vec<_>>())
            .into_iter()
            .map(|link| link.target)
            .collect();

        assert_eq!(targets, ["one.md", "four.md"]);
    }

    #[test]
    fn fences_are_listed_by_their_info_string() {
        assert_eq!(
            fences("```rust\nlet x;\n```\n\n```text\n```\n"),
            ["rust", "text"]
        );
    }
}
