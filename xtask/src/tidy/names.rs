//! Rule: no file and no item has a name that says nothing.

use syn::visit::{self, Visit};

use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::tidy::tree::Tree;

/// Word → what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("util", "name it after what it does"),
    ("utils", "name it after what it does"),
    ("common", "name it after the concept that its users share"),
    ("helper", "name it after what it does"),
    ("helpers", "name it after what it does"),
    (
        "manager",
        "name it after its duty: owner, scheduler, registry, runner",
    ),
    ("misc", "give each thing the room of its concept"),
    ("data2", "say how it differs from the first"),
    (
        "process_event",
        "say what happens to it: handle, route, settle, redrive",
    ),
];

/// Mathematics has these names; they say something.
const ALLOWED: &[&str] = &["common_prefix", "common_suffix"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.paths().flat_map(|path| {
        let part = path.rsplit('/').next().unwrap_or(path);
        let stem = part.split('.').next().unwrap_or(part);
        let folder = path.rsplit('/').nth(1).unwrap_or_default();
        [stem, folder]
            .into_iter()
            .filter_map(objection)
            .map(|m| Finding::new(path, 1, m))
            .collect::<Vec<_>>()
    });
    let items = tree.sources().flat_map(items_of);
    files.chain(items).collect()
}

fn items_of(source: &Source) -> Vec<Finding> {
    let mut items = Items { found: Vec::new() };
    items.visit_file(&source.syntax);
    items
        .found
        .iter()
        .filter_map(|ident| {
            let message = objection(&ident.to_string())?;
            Some(Finding::new(
                source.path.clone(),
                ident.span().start().line,
                message,
            ))
        })
        .collect()
}

/// Why this name must go, if it must.
fn objection(name: &str) -> Option<String> {
    let snake = snake_case(name);
    if ALLOWED.iter().any(|allowed| snake.contains(allowed)) {
        return None;
    }
    let framed = format!("_{snake}_");
    BANNED
        .iter()
        .find(|(word, _)| framed.contains(&format!("_{word}_")))
        .map(|(word, advice)| format!("`{name}`: \"{word}\" says nothing; {advice}"))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut after_small = false;
    for letter in name.chars() {
        if letter.is_uppercase() && after_small {
            snake.push('_');
        }
        after_small = !letter.is_uppercase() && letter != '_' && letter != '-';
        snake.extend(if letter == '-' {
            vec!['_']
        } else {
            letter.to_lowercase().collect()
        });
    }
    snake
}

struct Items<'ast> {
    found: Vec<&'ast syn::Ident>,
}

impl<'ast> Visit<'ast> for Items<'ast> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.found.extend(match item {
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Macro(item) => item.ident.as_ref(),
            syn::Item::Mod(item) => Some(&item.ident),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            _ => None,
        });
        visit::visit_item(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.found.push(&signature.ident);
        visit::visit_signature(self, signature);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.found.push(&variant.ident);
        visit::visit_variant(self, variant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_file_and_a_folder_with_an_empty_name_are_reported() {
        assert_eq!(findings("src/utils.rs", "").len(), 1);
        assert_eq!(findings("src/common/mod.rs", "").len(), 1);
    }

    #[test]
    fn types_functions_and_modules_are_reported_with_advice() {
        let text =
            "struct TopicManager;\nfn process_event() {}\nmod test_helpers {}\nenum A { Misc }\n";

        let found = findings("src/a.rs", text);

        assert_eq!(found.len(), 4);
        assert!(
            found[0].contains("name it after its duty")
                || found[1].contains("name it after its duty")
        );
    }

    #[test]
    fn a_word_inside_another_word_is_fine() {
        let text = "fn utilisation() {}\nstruct Uncommon;\nfn longest_common_prefix() {}\nfn management() {}\n";

        assert_eq!(findings("src/a.rs", text), [] as [String; 0]);
    }
}
