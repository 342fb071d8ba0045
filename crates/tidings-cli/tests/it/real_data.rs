//! 262,200 real events, where they are present: imported, exported, handled in Python under kills.

use crate::command::{Place, tidings};
use std::io::Read as _;
use std::path::PathBuf;

/// The folder of real data: named by the environment, or beside the repository. Absent elsewhere, which is told loudly.
fn real_data(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("TIDINGS_TEST_DATA").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: {} is not there; name the folder in TIDINGS_TEST_DATA",
        path.display()
    );
    None
}

#[test]
fn real_events_come_back_line_by_line() {
    for name in ["loan-applications.jsonl.gz", "permit-receipts.jsonl.gz"] {
        let Some(path) = real_data(name) else {
            continue;
        };
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(&path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let place = Place::new();

        tidings(["event", "import"])
            .argument(&path)
            .data(&place.data())
            .ok();

        let exported = tidings(["event", "export"]).data(&place.data()).ok().stdout;
        assert!(exported == text, "{name} differs");
    }
}
