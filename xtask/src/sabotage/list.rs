//! The planted bugs: each is one that a log or a relay of this kind has had somewhere, and the tests that must find it.
//!
//! Whoever finds a new one in the wild adds it here, with the test that was missing.

use super::suite::Package;

/// A bug that is planted by replacing a piece of source text.
#[derive(Debug)]
pub(super) struct Bug {
    pub(super) name: &'static str,
    pub(super) package: Package,
    pub(super) file: &'static str,
    /// Must stand in the file exactly once.
    pub(super) text: &'static str,
    pub(super) replacement: &'static str,
    /// Tests of the package, of which at least one must fail.
    pub(super) tests: &'static [&'static str],
}

const AT_EVERY_CALL: &str = "crash::what_was_acknowledged_survives_a_power_cut_at_every_call";
const AFTER_A_FAILED_FLUSH: &str =
    "trouble::after_a_failed_flush_nothing_is_acknowledged_until_the_log_is_opened_again";
const IDLE_LOG: &str =
    "rot::the_last_acknowledged_batch_of_an_idle_log_is_damage_when_it_rots_and_no_unfinished_end";
const CURSOR: &str = "crowd::the_cursor_never_passes_what_is_not_settled";

const TWO_RELAYS: &str =
    "outbox::step::explore::two_relays_of_which_one_crashes_and_whose_leases_end_at_any_time";
const FAULTY_DESTINATION: &str =
    "outbox::step::explore::publishes_that_fail_are_late_or_lost_while_events_of_the_key_follow";
const LEASE_IN_THE_AIR: &str =
    "outbox::step::explore::a_lease_that_ends_at_any_time_between_a_call_and_its_answer";
const OTHER_DESTINATION: &str =
    "outbox::step::explore::a_destination_in_trouble_delays_nobody_else";
const LATE_ROWS: &str = "outbox::step::explore::rows_that_become_visible_late_are_above_the_floor";
const GOES_ON: &str = "outbox::step::explore::two_relays_of_which_one_crashes_and_whose_keys_go_on_without_what_was_given_up";
const ENDS_BY_ITSELF: &str =
    "outbox::step::explore::two_relays_that_end_by_themselves_of_which_one_crashes";
const BROKER_DOWN: &str = "outbox::tests::trouble::a_broker_that_is_down_for_minutes_costs_no_attempt_and_nothing_is_lost";

const FAILURES_AND_KILLS: &str = "consumer::tests::parking_model::whatever_fails_and_is_killed_each_key_keeps_its_order_and_loses_nothing";
const KEY_PUT_OFF: &str =
    "consumer::tests::parking::a_key_whose_event_is_put_off_waits_in_the_store_and_keeps_its_order";
const TOLD_WHILE_IT_CHANGES: &str = "consumer::parking::tests::a_lane_of_which_the_store_told_while_it_changed_is_looked_at_before_it_is_forgotten";
const STARTED_AGAIN_WHILE_OPEN: &str = "consumer::tests::breaker::a_process_that_is_killed_and_started_again_while_everything_fails_uses_up_no_attempts";
const TRIED_ONE_BY_ONE: &str =
    "consumer::tests::breaker::while_it_is_open_one_event_is_tried_at_growing_intervals";
const COUNTS_ON: &str = "consumer::tests::parking::attempts_count_on_across_the_end_of_the_process";
const OUTBOX_STORE: &str = "conformance::our_table_in_sqlite";
const DEAD_LETTERS: &str = "failures_conformance::what_groups_could_not_handle_in_sqlite";

const READ_BEFORE: &str = "schedules::what_is_cancelled_or_moved_does_not_fire_as_it_was_read";
const READ_TWICE: &str =
    "schedules::each_time_of_a_recurring_event_fires_once_however_often_it_was_read";
const HALF_WAY: &str =
    "schedules::a_firing_that_fails_half_way_leaves_the_schedule_due_and_publishes_nothing";

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "ack-before-sync",
        package: Package::Log,
        file: "crates/tidings-log/src/append/writer.rs",
        text: "match written.and_then(|()| self.sync(tried.next)) {
                Ok(()) => self.accept(tried, &mut wakers),",
        replacement: "match written {
                Ok(()) => {
                    let next = tried.next;
                    self.accept(tried, &mut wakers);
                    drop(self.sync(next));
                }",
        tests: &[AT_EVERY_CALL],
    },
    Bug {
        name: "flush-believed-alone",
        package: Package::Log,
        file: "crates/tidings-log/src/append/writer.rs",
        text: "Err(error) if is_full(&error) => {",
        replacement: "Err(error) => {",
        tests: &["trouble::a_file_system_that_refuses_writes_behind_a_flush_acknowledges_nothing"],
    },
    Bug {
        name: "no-directory-sync",
        package: Package::Log,
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
        package: Package::Log,
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
        package: Package::Log,
        file: "crates/tidings-log/src/group/state.rs",
        text: "let position = progress.watermark.position();",
        replacement: "let position = progress.watermark.position()
            + u64::from(progress.watermark.open_count() > 0);",
        tests: &[CURSOR],
    },
    Bug {
        name: "retry-after-failed-sync",
        package: Package::Log,
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
        package: Package::Log,
        file: "crates/tidings-log/src/poison.rs",
        text: "if !matches!(*state, LogState::Poisoned { .. }) && *state != to {",
        replacement: "if *state != to {",
        tests: &[AFTER_A_FAILED_FLUSH],
    },
    Bug {
        name: "index-trusted-without-check",
        package: Package::Log,
        file: "crates/tidings-log/src/scan.rs",
        text: "if matches!(read, FrameRead::Frame(frame) if frame.head.first == entry.position) {",
        replacement: "if matches!(read, FrameRead::Frame(_) | FrameRead::Nothing | FrameRead::Bad(_)) {",
        tests: &["planted::an_index_that_points_to_a_frame_of_another_position_is_not_believed"],
    },
    Bug {
        name: "look-up-trusted-without-check",
        package: Package::Log,
        file: "crates/tidings-log/src/look_up/mod.rs",
        text: "LookUpBy::EventId(id) => names.event_id == id,",
        replacement: "LookUpBy::EventId(id) => !names.event_id.is_empty() && !id.is_empty(),",
        tests: &["look_ups::what_a_table_says_is_compared_with_the_events"],
    },
    Bug {
        name: "stale-look-up-table-trusted",
        package: Package::Log,
        file: "crates/tidings-log/src/look_up/table.rs",
        text: "if table.next != closed.next || table.covered != covered {",
        replacement: "if table.next < closed.first && table.covered != covered {",
        tests: &["look_ups::a_table_of_what_the_segment_was_before_is_not_believed"],
    },
    Bug {
        name: "checksum-over-the-body-only",
        package: Package::Log,
        file: "crates/tidings-log/src/format/frame.rs",
        text: "    crc32c::crc32c_append(sum, &identity.bytes())",
        replacement: "    let _ = (sum, identity);
    body_checksum",
        tests: &["rot::every_flipped_bit_of_a_segment_costs_one_batch_at_most_and_is_told"],
    },
    Bug {
        name: "checksum-without-identity",
        package: Package::Log,
        file: "crates/tidings-log/src/format/frame.rs",
        text: "    crc32c::crc32c_append(sum, &identity.bytes())",
        replacement: "    let _ = identity;
    sum",
        tests: &["planted::a_frame_of_another_log_at_the_same_place_is_damage"],
    },
    Bug {
        name: "no-sync-mark",
        package: Package::Log,
        file: "crates/tidings-log/src/append/writer.rs",
        text: "if self.marked || self.state.poisoned().is_some() {",
        replacement: "if self.next > 0 || self.state.poisoned().is_some() {",
        tests: &[IDLE_LOG],
    },
    Bug {
        name: "page-cache-trusted",
        package: Package::Log,
        file: "crates/tidings-log/src/segment/recovery.rs",
        text: "let carry = unsynced.next().map(|frame| Carry {",
        replacement: "let carry = unsynced.next().filter(|_| false).map(|frame| Carry {",
        tests: &[
            "crash::a_process_that_ends_without_a_farewell_loses_nothing_at_a_later_power_cut",
        ],
    },
    Bug {
        name: "one-cursor-slot",
        package: Package::Log,
        file: "crates/tidings-log/src/group/cursor_file.rs",
        text: "        self.flushed = 1 - self.flushed;
",
        replacement: "",
        tests: &["planted::a_torn_write_of_a_cursor_leaves_the_one_that_was_flushed"],
    },
    Bug {
        name: "handed-out-before-it-is-noted",
        package: Package::Log,
        file: "crates/tidings-log/src/group/state.rs",
        text: "            self.write(&mut progress, raised)?;
            self.flush(&mut progress)?;",
        replacement: "            self.write(&mut progress, raised)?;",
        tests: &[CURSOR],
    },
    Bug {
        name: "retention-past-a-group",
        package: Package::Log,
        file: "crates/tidings-log/src/retention/decide.rs",
        text: "let allowed = boundaries.filter(|first| *first <= hold).max();",
        replacement: "let allowed = boundaries.filter(|_| hold > 0).max();",
        tests: &["retention::groups::the_slowest_group_is_never_passed_and_is_named"],
    },
    Bug {
        name: "retention-by-an-unflushed-cursor",
        package: Package::Log,
        file: "crates/tidings-log/src/group/standing.rs",
        text: "let slot = if durably {",
        replacement: "let slot = if durably && rule.held_by == HeldBy::NoGroup {",
        tests: &[
            "retention::trouble::a_crash_at_any_call_of_a_removal_leaves_a_log_without_a_hole_and_a_group_that_goes_on",
        ],
    },
    Bug {
        name: "retention-without-a-record",
        package: Package::Log,
        file: "crates/tidings-log/src/retention/mod.rs",
        text: "record_first(&self.log.folder, self.log.number, decided.first)?;",
        replacement: "",
        tests: &[
            "retention::trouble::a_crash_at_any_call_of_a_removal_leaves_a_log_without_a_hole_and_a_group_that_goes_on",
        ],
    },
    Bug {
        name: "retention-by-a-clock-that-jumped",
        package: Package::Log,
        file: "crates/tidings-log/src/retention/decide.rs",
        text: "if wall.since(expected) > CLOCK_JUMP {",
        replacement: "if wall < expected {",
        tests: &["retention::a_clock_that_jumps_forward_and_back_removes_nothing_young"],
    },
    Bug {
        name: "settled-before-accepted",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/publish.rs",
        text: "        self.batches.insert(id, batch);",
        replacement: "        self.acked.extend(batch.rows.iter().map(|row| row.id));
        self.batches.insert(id, batch);",
        tests: &[TWO_RELAYS],
    },
    Bug {
        name: "two-batches-of-one-key",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "        let in_flight = in_flight.map(|row| (row.id, &row.lane));",
        replacement: "        rows.extend(in_flight.map(|row| row.id));
        let in_flight = std::iter::empty::<(RowId, &Lane)>();",
        tests: &[FAULTY_DESTINATION],
    },
    Bug {
        name: "failed-event-skipped",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "        let failing = failing.map(|(id, one)| (*id, &one.lane));",
        replacement: "        rows.extend(failing.map(|(id, _)| *id));
        let failing = std::iter::empty::<(RowId, &Lane)>();",
        tests: &[FAULTY_DESTINATION],
    },
    Bug {
        name: "skipped-before-it-is-given-up",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "        let given_up = given_up.map(|(id, (lane, _))| (*id, lane));",
        replacement: "        rows.extend(given_up.map(|(id, _)| *id));
        let given_up = std::iter::empty::<(RowId, &Lane)>();",
        tests: &[GOES_ON],
    },
    Bug {
        name: "ends-while-keys-wait",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "if self.bounds.until_empty && empty && reading.complete && self.is_settled() {",
        replacement: "if self.bounds.until_empty && empty && self.is_settled() {",
        tests: &[ENDS_BY_ITSELF],
    },
    Bug {
        name: "publish-without-lease",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/lease.rs",
        text: "            .is_some_and(|held| now < held.publish_until)",
        replacement: "            .is_none_or(|held| now < held.publish_until || now >= held.publish_until)",
        tests: &[TWO_RELAYS],
    },
    Bug {
        name: "lease-counted-from-the-answer",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/lease.rs",
        text: "                let (publish_until, ask_at) = self.lease.asked;",
        replacement: "                let (_, ask_at) = self.lease.asked;
                let publish_until = now + self.bounds.time_to_live - self.bounds.margin;",
        tests: &[LEASE_IN_THE_AIR],
    },
    Bug {
        name: "busy-destination-fills-the-reads",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "            excluded_destinations: self.closed_destinations(now),",
        replacement: "            excluded_destinations: Vec::new(),",
        tests: &[OTHER_DESTINATION],
    },
    Bug {
        name: "every-batch-waited-for",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "        self.batches.len() < self.bounds.batches
            && unfinished",
        replacement: "        self.batches.is_empty()
            && unfinished",
        tests: &[OTHER_DESTINATION],
    },
    Bug {
        name: "lag-frozen-while-the-database-is-silent",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/metrics.rs",
        text: "            && now > believed",
        replacement: "            && now > believed
            && told > believed",
        tests: &[
            "outbox::tests::life::the_lag_grows_on_while_the_database_does_not_answer_and_is_nothing_once_nothing_waits",
        ],
    },
    Bug {
        name: "read-beyond-the-last-id",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/read.rs",
        text: "            floor: self.floor.proven,
            blocked_keys",
        replacement: "            floor: self.floor.proven.max(self.floor.highest),
            blocked_keys",
        tests: &[LATE_ROWS],
    },
    Bug {
        name: "floor-by-transactions-alone",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/floor.rs",
        text: "self.floor.proven.max(below(candidate.row))",
        replacement: "self.floor.proven.max(Some(candidate.row))",
        tests: &[LATE_ROWS],
    },
    Bug {
        name: "attempt-counted-while-down",
        package: Package::Flow,
        file: "crates/tidings-flow/src/outbox/step/publish.rs",
        text: "        } else if let Some(reason) = trouble(&failed) {",
        replacement: "        } else if let Some(reason) = trouble(&failed).filter(String::is_empty) {",
        tests: &[
            "outbox::tests::trouble::an_event_whose_outcome_is_never_known_is_given_up_only_while_others_are_accepted",
            BROKER_DOWN,
        ],
    },
    Bug {
        name: "ack-before-park",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/keeping.rs",
        text: "let origin = work.origin();
        self.parked.park(lane, 1);",
        replacement: "let origin = work.origin();
        self.ack(origin.token);
        self.parked.park(lane, 1);",
        tests: &[FAILURES_AND_KILLS],
    },
    Bug {
        name: "parked-key-overtaken",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/keeping.rs",
        text: "if !self.parked.has(lane) || self.table.has_from(key, work.scope) {",
        replacement: "if self.parked.rows_of(lane) > 2 || !self.parked.has(lane) {",
        tests: &[KEY_PUT_OFF, FAILURES_AND_KILLS],
    },
    Bug {
        name: "silent-key-forgotten",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/parking.rs",
        text: "lane.unsure = true;\n                    self.learn_rows(one.lane);",
        replacement: "self.learn_rows(one.lane);",
        tests: &[TOLD_WHILE_IT_CHANGES],
    },
    Bug {
        name: "circuit-counts-attempts",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/circuit.rs",
        text: "                    self.forgive_all(&mut state);",
        replacement: "                    drop(state.circuit.to_forgive());",
        tests: &[STARTED_AGAIN_WHILE_OPEN],
    },
    Bug {
        name: "circuit-tries-everything",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/circuit.rs",
        text: "                let paused = state.is_paused();
                state.table.set_paused(paused);",
        replacement: "                let paused = state.is_paused() && state.draining;
                state.table.set_paused(paused);",
        tests: &[TRIED_ONE_BY_ONE],
    },
    Bug {
        name: "attempts-counted-by-the-broker",
        package: Package::Flow,
        file: "crates/tidings-flow/src/consumer/failing.rs",
        text: "let failures = self.attempts.remove(&event).unwrap_or(0);",
        replacement: "let failures = self.attempts.remove(&event).map_or(0, |_| 0);",
        tests: &[COUNTS_ON, FAILURES_AND_KILLS],
    },
    Bug {
        name: "read-skips-a-row",
        package: Package::Sql,
        file: "crates/tidings-sql/src/store/statements.rs",
        text: "\"AND {id} > :floor\"",
        replacement: "\"AND {id} > :floor + 1\"",
        tests: &[OUTBOX_STORE],
    },
    Bug {
        name: "settled-up-to-the-last",
        package: Package::Sql,
        file: "crates/tidings-sql/src/dialect.rs",
        text: "    settle_delete: \"DELETE FROM {table} WHERE {id_column} IN ({ids})\",
    settle_mark: \"UPDATE {table} SET {mark} WHERE {id_column} IN ({ids})\",",
        replacement: "    settle_delete: \"DELETE FROM {table} WHERE {id_column} <= (SELECT MAX(id) FROM ({ids}))\",
    settle_mark: \"UPDATE {table} SET {mark} WHERE {id_column} IN ({ids})\",",
        tests: &[OUTBOX_STORE],
    },
    Bug {
        name: "lease-taken-while-it-lasts",
        package: Package::Sql,
        file: "crates/tidings-sql/sql/store/take_lease.sql",
        text: "(owner = :owner OR expires_at_us < {now})",
        replacement: "(owner = :owner OR expires_at_us < {now} + :time_to_live)",
        tests: &[OUTBOX_STORE],
    },
    Bug {
        name: "epoch-of-the-first-owner-alone",
        package: Package::Sql,
        file: "crates/tidings-sql/sql/store/take_lease.sql",
        text: "epoch = epoch + CASE WHEN owner = :owner THEN 0 ELSE 1 END",
        replacement: "epoch = epoch + CASE WHEN owner = '' THEN 1 ELSE 0 END",
        tests: &[OUTBOX_STORE],
    },
    Bug {
        name: "redrive-to-all-groups",
        package: Package::Sql,
        file: "crates/tidings-sql/sql/failure/park_letters.sql",
        text: "FROM ({texts}) AS listed JOIN tidings_dead_letter AS l ON l.id = listed.id",
        replacement: "FROM ({texts}) AS listed JOIN tidings_dead_letter AS k ON k.id = listed.id JOIN tidings_dead_letter AS l ON l.event_key = k.event_key",
        tests: &[DEAD_LETTERS],
    },
    Bug {
        name: "redrive-twice-counts-twice",
        package: Package::Sql,
        file: "crates/tidings-sql/src/failure/decide.rs",
        text: "found.status == status && u64::from(found.redrives) == redrives",
        replacement: "u64::from(found.redrives) <= redrives || found.status == status",
        tests: &[DEAD_LETTERS],
    },
    Bug {
        name: "parked-again-lost",
        package: Package::Sql,
        file: "crates/tidings-sql/src/failure/plan.rs",
        text: "self.events_gone.contains(&event)",
        replacement: "self.events_gone.len() > 1_000 && self.events_gone.contains(&event)",
        tests: &[DEAD_LETTERS],
    },
    Bug {
        name: "discard-without-release",
        package: Package::Sql,
        file: "crates/tidings-sql/sql/failure/heads_of_letters.sql",
        text: "MIN(p.id)",
        replacement: "MAX(p.id)",
        tests: &[DEAD_LETTERS],
    },
    Bug {
        name: "timer-fired-twice",
        package: Package::Sql,
        file: "crates/tidings-sql/src/schedule.rs",
        text: "if changing.execute(statement, &values).await? == 0 {",
        replacement: "if changing.execute(statement, &values).await? == 0 && firing.next.is_some() {",
        tests: &[READ_BEFORE],
    },
    Bug {
        name: "recurring-timer-fired-twice",
        package: Package::Sql,
        file: "crates/tidings-sql/sql/schedule/advance.sql",
        text: "WHERE id = :id AND due_us = :due AND fired = :fired",
        replacement: "WHERE id = :id AND (due_us >= :due OR fired = :fired)",
        tests: &[READ_TWICE],
    },
    Bug {
        name: "timer-fired-before-it-is-taken-out",
        package: Package::Sql,
        file: "crates/tidings-sql/src/schedule.rs",
        text: "        if changing.execute(statement, &values).await? == 0 {
            return Ok(false);
        }
        let events = std::slice::from_ref(firing.event);",
        replacement: "        changing.publish(self.outbox.as_ref(), std::slice::from_ref(firing.event)).await?;
        changing.commit().await?;
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        if changing.execute(statement, &values).await? == 0 {
            return Ok(false);
        }
        let events = &[];",
        tests: &[HALF_WAY],
    },
    Bug {
        name: "timer-taken-out-before-it-fires",
        package: Package::Sql,
        file: "crates/tidings-sql/src/schedule.rs",
        text: "        let events = std::slice::from_ref(firing.event);",
        replacement: "        changing.commit().await?;
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let events = std::slice::from_ref(firing.event);",
        tests: &[HALF_WAY],
    },
];
