//! What the fuzz targets check, one module each. A target panics where a promise is broken; what it cannot make sense of, it leaves.
//!
//! The kept inputs are in `corpus/TARGET/`; `cargo run --example seeds` writes those that are made from what the programs really write.

pub mod checksummed;
pub mod cloudevents_json;
pub mod envelope_json;
pub mod frame;
pub mod look_up_table;
pub mod reading;
pub mod segment_open;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("frame", frame::run),
    ("segment_open", segment_open::run),
    ("look_up_table", look_up_table::run),
    ("envelope_json", envelope_json::run),
    ("cloudevents_json", cloudevents_json::run),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kept_input_is_survived() {
        for (name, run) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("corpus")
                .join(name);
            let inputs = std::fs::read_dir(&folder).unwrap().map(Result::unwrap);
            let count = inputs
                .map(|input| run(&std::fs::read(input.path()).unwrap()))
                .count();

            assert!(count > 0, "{name} has no kept inputs");
        }
    }
}
