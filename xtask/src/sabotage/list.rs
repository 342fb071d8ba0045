//! The planted bugs: each is one that a log of this kind has had somewhere, and the tests that must find it.
//!
//! Whoever finds a new one in the wild adds it here, with the test that was missing.

/// A bug that is planted by replacing a piece of source text.
#[derive(Debug)]
pub(super) struct Bug {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// Must stand in the file exactly once.
    pub(super) text: &'static str,
    pub(super) replacement: &'static str,
    /// Tests of `tests/it` of `tidings-log`, of which at least one must fail.
    pub(super) tests: &'static [&'static str],
}

const AT_EVERY_CALL: &str = "crash::what_was_acknowledged_survives_a_power_cut_at_every_call";
const AFTER_A_FAILED_FLUSH: &str =
    "trouble::after_a_failed_flush_nothing_is_acknowledged_until_the_log_is_opened_again";
const IDLE_LOG: &str =
    "rot::the_last_acknowledged_batch_of_an_idle_log_is_damage_when_it_rots_and_no_unfinished_end";
const CURSOR: &str = "crowd::the_cursor_never_passes_what_is_not_settled";

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "ack-before-sync",
        file: "crates/tidings-log/src/append/writer.rs",
        text: "match written.and_then(|()| self.sync()) {
                Ok(()) => self.accept(groups, &mut wakers),",
        replacement: "match written {
                Ok(()) => {
                    self.accept(groups, &mut wakers);
                    drop(self.sync());
                }",
        tests: &[AT_EVERY_CALL],
    },
    Bug {
        name: "no-directory-sync",
        file: "crates/tidings-log/src/segment/writer.rs",
        text: ".sync_directory(&folder.log())
                .map_err(",
        replacement: ".info(&folder.log())
                .map(drop)
                .map_err(",
        tests: &[AT_EVERY_CALL],
    },
    Bug {
        name: "truncate-on-rot",
        file: "crates/tidings-log/src/segment/recovery.rs",
        text: "stretch.expected >= synced && stretch.next != Some(stretch.expected)",
        replacement: "stretch.expected >= synced || stretch.end >= stretch.offset",
        tests: &[
            IDLE_LOG,
            "rot::an_owner_opens_a_log_with_any_flipped_bit_and_goes_on",
        ],
    },
    Bug {
        name: "cursor-ahead-of-settle",
        file: "crates/tidings-log/src/group/state.rs",
        text: "let position = progress.watermark.position();",
        replacement: "let position = progress.watermark.position()
            + u64::from(progress.watermark.open_count() > 0);",
        tests: &[CURSOR],
    },
    Bug {
        name: "retry-after-failed-sync",
        file: "crates/tidings-log/src/segment/writer.rs",
        text: "            .sync_data()
            .map_err(",
        replacement: "            .sync_data()
            .or_else(|_| self.file.sync_data())
            .map_err(",
        tests: &[AFTER_A_FAILED_FLUSH],
    },
    Bug {
        name: "poison-that-heals",
        file: "crates/tidings-log/src/poison.rs",
        text: "if !matches!(*state, LogState::Poisoned { .. }) && *state != to {",
        replacement: "if *state != to {",
        tests: &[AFTER_A_FAILED_FLUSH],
    },
    Bug {
        name: "index-trusted-without-check",
        file: "crates/tidings-log/src/scan.rs",
        text: "if matches!(read, FrameRead::Frame(frame) if frame.head.first == entry.position) {",
        replacement: "if matches!(read, FrameRead::Frame(_) | FrameRead::Nothing | FrameRead::Bad(_)) {",
        tests: &["planted::an_index_that_points_to_a_frame_of_another_position_is_not_believed"],
    },
    Bug {
        name: "checksum-over-the-body-only",
        file: "crates/tidings-log/src/format/frame.rs",
        text: "    crc32c::crc32c_append(sum, &identity.bytes())",
        replacement: "    let _ = (sum, identity);
    body_checksum",
        tests: &["rot::every_flipped_bit_of_a_segment_costs_one_batch_at_most_and_is_told"],
    },
    Bug {
        name: "checksum-without-identity",
        file: "crates/tidings-log/src/format/frame.rs",
        text: "    crc32c::crc32c_append(sum, &identity.bytes())",
        replacement: "    let _ = identity;
    sum",
        tests: &["planted::a_frame_of_another_log_at_the_same_place_is_damage"],
    },
    Bug {
        name: "no-sync-mark",
        file: "crates/tidings-log/src/append/writer.rs",
        text: "if self.marked || self.state.poisoned().is_some() {",
        replacement: "if self.next > 0 || self.state.poisoned().is_some() {",
        tests: &[IDLE_LOG],
    },
    Bug {
        name: "page-cache-trusted",
        file: "crates/tidings-log/src/segment/recovery.rs",
        text: "let carry = unsynced.next().map(|frame| Carry {",
        replacement: "let carry = unsynced.next().filter(|_| false).map(|frame| Carry {",
        tests: &[
            "crash::a_process_that_ends_without_a_farewell_loses_nothing_at_a_later_power_cut",
        ],
    },
    Bug {
        name: "one-cursor-slot",
        file: "crates/tidings-log/src/group/cursor_file.rs",
        text: "        self.flushed = 1 - self.flushed;
",
        replacement: "",
        tests: &["planted::a_torn_write_of_a_cursor_leaves_the_one_that_was_flushed"],
    },
    Bug {
        name: "handed-out-before-it-is-noted",
        file: "crates/tidings-log/src/group/state.rs",
        text: "            self.write(&mut progress, raised)?;
            self.flush(&mut progress)?;",
        replacement: "            self.write(&mut progress, raised)?;",
        tests: &[CURSOR],
    },
];
