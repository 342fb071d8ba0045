//! 262,200 real events, where they are present: imported, exported, handled in Python under kills.

use crate::command::{Place, tidings};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The folder of real data: named by the environment, or beside the repository. Absent elsewhere, which is told loudly.
pub(crate) fn real_data(name: &str) -> Option<PathBuf> {
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

/// What is packed in a file of real data.
pub(crate) fn text_of(path: &Path) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn real_events_come_back_line_by_line() {
    for name in ["loan-applications.jsonl.gz", "permit-receipts.jsonl.gz"] {
        let Some(path) = real_data(name) else {
            continue;
        };
        let text = text_of(&path);
        let place = Place::new();

        tidings(["event", "import"])
            .argument(&path)
            .data(&place.data())
            .ok();

        let exported = tidings(["event", "export"]).data(&place.data()).ok().stdout;
        assert!(exported == text, "{name} differs");
        let again = tidings(["event", "import", "--skip-existing", "-o", "json"])
            .argument(&path)
            .data(&place.data())
            .ok();
        let count = text.lines().count();
        assert_eq!(
            (&again.json()["imported"], &again.json()["skipped"]),
            (&0.into(), &count.into())
        );
        let exported = tidings(["event", "export"]).data(&place.data()).ok().stdout;
        assert!(
            exported == text,
            "{name} differs once it was imported again"
        );
    }
}
