//! Which server a test works with, and names on it that no other test uses.
#![allow(dead_code, reason = "each feature needs some of it")]

use std::hash::{BuildHasher as _, RandomState};

/// The URL of a server, or nothing, said loudly, where the tests were told to do without it.
///
/// A server that is neither named nor left out fails the test: what is not run must not look like what passed.
pub(crate) fn url(name: &str, variable: &str, test: &str) -> Option<String> {
    let without = read("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|left_out| left_out.trim() == name) {
        eprintln!("SKIPPED: {test} needs {name}, which TIDINGS_TEST_WITHOUT leaves out");
        return None;
    }
    match read(variable) {
        Some(url) => Some(url),
        None => panic!(
            "{test} needs {name}; start it: cargo xtask services up {name}, and put the URL that it prints into {variable}; or set TIDINGS_TEST_WITHOUT={name}"
        ),
    }
}

/// A name that no run before this one used.
pub(crate) fn fresh(test: &str) -> String {
    format!("t-{test}-{:08x}", RandomState::new().hash_one(test) as u32)
}

/// The same server for another user.
pub(crate) fn as_user(url: &str, user: &str, password: &str) -> String {
    let (scheme, _) = url.split_once("://").expect("a URL has a scheme");
    format!("{scheme}://{user}:{password}@{}", host_of(url))
}

/// Host and port of a URL, for a proxy before them.
pub(crate) fn host_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL has a scheme");
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

/// A URL with further parameters.
pub(crate) fn with(url: &str, parameters: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{parameters}")
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told here where their servers are"
)]
pub(crate) fn read(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}
