//! Every bound of tidings in one place, with its unit in its name.

use std::time::Duration;

/// The text of this file, from which the reference of limits is made.
pub const SOURCE: &str = include_str!("limits.rs");

/// Bytes of an event id.
pub const EVENT_ID_BYTES_MAX: usize = 256;
/// Bytes of an event type, version suffix included.
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// Bytes of an aggregate id, which is the key that order is kept by.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a source.
pub const SOURCE_BYTES_MAX: usize = 1_024;
/// Bytes of a correlation or causation id.
pub const CORRELATION_ID_BYTES_MAX: usize = 256;
/// Bytes of a timestamp as given.
pub const TIMESTAMP_BYTES_MAX: usize = 64;
/// Bytes of a content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Bytes of the name of an extension attribute.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;
/// Bytes of the JSON text of one extension attribute.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 65_536;
/// Extension attributes of one envelope.
pub const ATTRIBUTES_MAX: usize = 64;
/// Bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = 1_048_576;
/// Bytes of the payload of an internal fact: a dead letter holds a whole envelope in it.
pub const INTERNAL_PAYLOAD_BYTES_MAX: usize = 8_388_608;
/// Levels of nesting of a JSON line, payload included.
pub const JSON_DEPTH_MAX: usize = 64;
/// Bytes of one line of JSON: a full payload in base64 with every attribute at its limit, and room to spare.
pub const LINE_BYTES_MAX: usize = 8_388_608;
/// Characters of the name of a consumer group.
pub const GROUP_NAME_BYTES_MAX: usize = 120;
/// Patterns of one group.
pub const PATTERNS_MAX: usize = 64;

/// Events of one batch handed to a broker.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// Bytes of one encoded record in the log.
pub const RECORD_BYTES_MAX: usize = 12_582_912;
/// Bytes of the body of one frame that the writer fills before it begins the next; a single larger record gets a frame of its own.
pub const FRAME_BODY_BYTES_TARGET: usize = 1_048_576;
/// Bytes of the body of one frame, before compression, that a reader accepts.
pub const FRAME_BODY_BYTES_MAX: usize = 16_777_216;
/// Events of one frame.
pub const FRAME_EVENTS_MAX: usize = 16_384;
/// Bytes after which a segment is closed and the next one begun.
pub const SEGMENT_BYTES_DEFAULT: u64 = 67_108_864;
/// Bytes of a segment that are reserved ahead of the writer in one step.
pub const SEGMENT_RESERVE_BYTES: u64 = 8_388_608;
/// Bytes between two entries of the sparse index of a segment.
pub const INDEX_INTERVAL_BYTES: u64 = 65_536;
/// Events that wait for the writer of the log before publishers are made to wait.
pub const APPEND_QUEUE_EVENTS_MAX: usize = 65_536;
/// Bytes that wait for the writer of the log before publishers are made to wait.
pub const APPEND_QUEUE_BYTES_MAX: usize = 33_554_432;
/// Positions that a group reserves ahead of what it hands out, so that a restart knows which events may have been handled.
pub const HANDED_OUT_STEP: u64 = 4_096;
/// Positions that a fast group reserves ahead at most, so that it need not wait for a flush every few milliseconds.
pub const HANDED_OUT_STEP_MAX: u64 = 65_536;
/// Bytes kept free on the disk for cursors, beyond which publishes are refused.
pub const DISK_RESERVE_BYTES: u64 = 4_194_304;
/// Group cursors are flushed to the disk this often while they move.
pub const CURSOR_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// A process beside the owner looks this often whether the log has grown.
pub const FOLLOW_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a publisher waits for its outcome unless it says otherwise.
pub const PUBLISH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Events that a producer has in flight before `publish` waits.
pub const PUBLISH_QUEUE_EVENTS_MAX: usize = 16_384;
/// Events that a group has in flight, in lanes and handlers together.
pub const IN_FLIGHT_EVENTS_DEFAULT: usize = 4_096;
/// Handlers of a group that run at the same time.
pub const PARALLEL_DEFAULT: usize = 64;
/// Processes of a command-line group that run at the same time, or events that its one process has at once.
pub const PROCESS_PARALLEL_DEFAULT: usize = 16;
/// Handlers of a group that may be asked to run at the same time.
pub const PARALLEL_MAX: usize = 4_096;
/// Attempts of a handler at one event before it becomes a dead letter.
pub const ATTEMPTS_DEFAULT: u32 = 5;
/// Attempts that may be asked for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Wait before the second attempt; it doubles from there.
pub const RETRY_BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between two attempts in place.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The longest delay that a handler may ask for before the next attempt in place.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Time limit of one handling.
pub const HANDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Events that one handling may emit.
pub const EMITTED_EVENTS_MAX: usize = 10_000;
/// Bytes of the lines of JSON by which one run of a handler's command may emit events.
pub const EMITTED_BYTES_MAX: usize = 67_108_864;
/// Events of one call of a batch handler.
pub const HANDLER_BATCH_EVENTS_MAX: usize = 1_000;
/// How long `drain` waits for handlers in flight unless it says otherwise.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes of the reason that a dead letter keeps.
pub const REASON_BYTES_MAX: usize = 8_192;
/// Attempts that a dead letter tells in full: the first one and the newest.
pub const HISTORY_ATTEMPTS_MAX: usize = 32;
/// Bytes of the error that a dead letter keeps of each attempt.
pub const HISTORY_ERROR_BYTES_MAX: usize = 1_024;
/// Bytes of one line that a handler process may write.
pub const HANDLER_LINE_BYTES_MAX: usize = LINE_BYTES_MAX;
/// Wait before a dead handler process is started again; it doubles from there.
pub const PROCESS_RESTART_BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a dead handler process is started again.
pub const PROCESS_RESTART_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long the streams of an ended handler process are read on, for what it left running, and how long a killed one is waited for.
pub const PROCESS_OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// A paused group tries again this often when the log refuses what it emits.
pub const PAUSE_RETRY_INTERVAL: Duration = Duration::from_millis(250);
