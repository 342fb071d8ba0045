//! The naming rules for declared types, as one function, so that the derive, the registry and the lints agree.
//!
//! `tidings-core` and `tidings-macros` hold this file word for word, because a derive cannot depend on the words; a test of `tidings` compares the two.

/// Past participles that do not end in `ed`.
const IRREGULAR: &[&str] = &[
    "begun",
    "bought",
    "broken",
    "brought",
    "built",
    "caught",
    "chosen",
    "cut",
    "done",
    "drawn",
    "driven",
    "fallen",
    "felt",
    "found",
    "forgotten",
    "frozen",
    "given",
    "gone",
    "grown",
    "heard",
    "held",
    "hidden",
    "hit",
    "kept",
    "known",
    "laid",
    "left",
    "lent",
    "lost",
    "made",
    "met",
    "overdue",
    "overridden",
    "paid",
    "put",
    "read",
    "redone",
    "repaid",
    "reset",
    "resent",
    "rewritten",
    "risen",
    "run",
    "said",
    "seen",
    "sent",
    "set",
    "shown",
    "shut",
    "sold",
    "spent",
    "split",
    "spoken",
    "stolen",
    "sunk",
    "swept",
    "taken",
    "taught",
    "thought",
    "thrown",
    "told",
    "torn",
    "understood",
    "undone",
    "upheld",
    "withdrawn",
    "withheld",
    "won",
    "worn",
    "written",
];

/// Verbs in the imperative that name commands; a type must not begin with one.
const COMMANDS: &[&str] = &[
    "add", "apply", "approve", "build", "call", "cancel", "charge", "check", "close", "confirm",
    "create", "delete", "deliver", "do", "fetch", "generate", "get", "handle", "make", "notify",
    "open", "pay", "place", "print", "process", "publish", "refund", "register", "reject",
    "release", "remove", "reserve", "run", "send", "set", "ship", "start", "stop", "submit",
    "trigger", "update", "validate",
];

/// The rule that a type without version suffix breaks, with the way out; `None` if it keeps them all.
pub fn broken_rule(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let segments: Vec<&str> = name.split('.').collect();
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Some("has upper-case letters; write it in lower case, like order.placed");
    }
    if segments.iter().any(|segment| segment.is_empty()) {
        return Some(
            "has an empty segment; write segments joined by single dots, like order.placed",
        );
    }
    if segments.iter().any(|segment| !segment.chars().all(plain)) {
        return Some(
            "may only hold lower-case letters, digits, '_' and '-' between its dots, like order.placed",
        );
    }
    if segments
        .iter()
        .any(|segment| !segment.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        return Some("has a segment that does not begin with a letter; write it like order.placed");
    }
    let [first, .., last] = segments.as_slice() else {
        return Some(
            "has one segment only; name the thing and what happened to it, like order.placed",
        );
    };
    let verb = last.rsplit(['_', '-']).next().unwrap_or(last);
    if is_past_tense(verb) {
        return None;
    }
    if COMMANDS.contains(first) || COMMANDS.contains(&verb) {
        return Some(
            "reads like a command; an event is a fact that happened: name the thing and a verb in the past tense, like email.sent",
        );
    }
    Some(
        "does not end in a verb in the past tense; an event is a fact that happened, like order.placed",
    )
}

fn is_past_tense(verb: &str) -> bool {
    (verb.len() > 3
        && verb.ends_with("ed")
        && verb != "need"
        && verb != "feed"
        && verb != "seed"
        && verb != "speed")
        || IRREGULAR.contains(&verb)
}
