//! Rule: a relative link in a Markdown page leads to a file or folder of the repository.

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".md")
        .flat_map(|(path, text)| dead_links(tree, path, text))
        .collect()
}

fn dead_links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<markdown::Numbered<'_>> = markdown::numbered(text).collect();
    markdown::links(&lines)
        .into_iter()
        .filter(|link| is_relative(&link.target))
        .filter_map(|link| {
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let goal = if file.is_empty() {
                path.to_owned()
            } else {
                resolve(path, file)?
            };
            let message = if !tree.exists(&goal) {
                format!("the link to {} leads nowhere", link.target)
            } else if !anchor.is_empty()
                && goal.ends_with(".md")
                && !has_anchor(tree, &goal, anchor)
            {
                format!("{goal} has no heading for #{anchor}")
            } else {
                return None;
            };
            Some(Finding::new(path, link.line, message))
        })
        .collect()
}

/// Not a web address, and not a path of Rust items, which rustdoc resolves.
fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.contains("::")
}

/// The target as seen from the root; nothing if it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn has_anchor(tree: &Tree, page: &str, anchor: &str) -> bool {
    tree.text(page).is_some_and(|text| {
        text.lines()
            .filter(|line| line.starts_with('#'))
            .any(|heading| slug(heading) == anchor)
    })
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ if letter.is_alphanumeric() => letter.to_lowercase().next(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/a.md", page),
            ("docs/b/c.md", "# See: the `end`\n"),
            ("README.md", ""),
        ]);
        check(&tree)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_link_to_a_file_a_folder_and_a_heading_is_fine() {
        let page =
            "# Top\n[x](b/c.md) [x](../README.md) [x](b/) [x](#top) [x](b/c.md#see-the-end)\n";

        assert_eq!(messages(page), [] as [String; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_reported() {
        assert_eq!(
            messages("[x](gone.md)"),
            ["the link to gone.md leads nowhere"]
        );
        assert_eq!(
            messages("[x](b/c.md#gone)"),
            ["docs/b/c.md has no heading for #gone"]
        );
    }

    #[test]
    fn web_addresses_and_rust_paths_are_left_alone() {
        assert_eq!(
            messages("[x](https://example.org) [y](crate::Event)"),
            [] as [String; 0]
        );
    }
}
