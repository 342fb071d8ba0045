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
/// Bytes of a JSON payload that lies with the other texts of its envelope in one block of memory.
pub const ENVELOPE_PAYLOAD_INLINE_BYTES_MAX: usize = 4_096;
/// A payload stays a part of the block it was read with if that is at most so many times as long; else it is copied, so that an event that is kept does not keep the block.
pub const PAYLOAD_SHARED_RATIO_MAX: usize = 16;
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
/// Events after which a segment is closed, so that what is kept in memory to look events up in the newest one stays bounded.
pub const SEGMENT_EVENTS_MAX: u64 = 524_288;
/// Bytes of a segment that are reserved ahead of the writer in one step.
pub const SEGMENT_RESERVE_BYTES: u64 = 8_388_608;
/// Bytes between two entries of the sparse index of a segment.
pub const INDEX_INTERVAL_BYTES: u64 = 65_536;
/// Bytes of unpacked events that a look-up reads for one hit, at least: where events are looked up, they are known by blocks of this size.
pub const LOOK_UP_BLOCK_BYTES: usize = 65_536;
/// Bytes of look-up tables that are kept in memory; tables beyond them are read from the disk, a bucket at a time.
pub const LOOK_UP_KEPT_BYTES_MAX: u64 = 67_108_864;
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
/// The owner looks this often whether retention has something to remove, and after each closed segment.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// A wall clock that moved so much further than the time that passed has jumped.
pub const CLOCK_JUMP: Duration = Duration::from_secs(60);
/// Retention goes by a clock that jumped forward only once it has stood by that for so long.
pub const CLOCK_JUMP_SETTLES: Duration = Duration::from_secs(3_600);
/// A group that nobody worked for while the log went on for so long is abandoned, unless the rule of retention says otherwise.
pub const ABANDONED_AFTER_DEFAULT: Duration = Duration::from_secs(604_800);
/// The first position that is never given: so far below what a number holds that nothing can be added to a position beyond it.
pub const POSITION_END: u64 = 1 << 62;
/// Events that a bridge copies at once.
pub const BRIDGE_BATCH_EVENTS: usize = 1_000;
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
/// Newest outcomes by which a circuit breaker judges whether everything fails.
pub const BREAKER_OUTCOMES_DEFAULT: usize = 10;
/// Failures among them with which the circuit opens: nearly all, so that a group in which much fails and something succeeds goes on.
pub const BREAKER_FAILURES_DEFAULT: usize = 9;
/// Outcomes by which a circuit breaker may be told to judge.
pub const BREAKER_OUTCOMES_MAX: usize = 1_000;
/// Wait between the opening of a circuit and the event that is tried, less a random part; it doubles from there.
pub const BREAKER_PROBE_AFTER_DEFAULT: Duration = Duration::from_secs(30);
/// The longest wait between two events that are tried while a circuit is open, unless the group says otherwise.
pub const BREAKER_PROBE_MAX_DEFAULT: Duration = Duration::from_secs(300);
/// The longest wait between two such events that may be asked for.
pub const BREAKER_PROBE_AFTER_MAX: Duration = Duration::from_secs(86_400);
/// Keys whose failure an open circuit remembers, so that it tries others first.
pub const BREAKER_KEYS_MAX: usize = 4_096;
/// Handlings a second that each instance of a group may be limited to.
pub const RATE_MAX: u32 = 1_000_000;
/// Attempts with which a process may die before the event is a dead letter, if fewer attempts in place are allowed.
pub const CRASHES_MAX: u32 = 3;
/// Attempts in a row with which a process may die before an event that was put off once is put off again: a single one may have been noted and never made.
pub const CRASHES_LATER_MAX: u32 = 2;
/// Waits of a schedule by which an event is tried again later.
pub const LATER_STEPS_MAX: usize = 100;
/// The longest wait of such a schedule.
pub const LATER_DELAY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Events of one group that may be parked in a store, unless it says otherwise; beyond that it stops.
pub const PARKED_DEFAULT: u64 = 1_000_000;
/// Events of one key that may be parked in a store, unless the group says otherwise; beyond that it stops.
pub const PARKED_OF_KEY_DEFAULT: u64 = 100_000;
/// A group looks this often whether something that is parked is due, while anything is parked: so late a retry is, and after the instance that looks for all of them was killed by `PARKED_LEASE` more.
pub const PARKED_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A group looks this often for what persons and other processes did, while nothing is parked.
pub const PARKED_LOOK_IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an instance of a group keeps picking up what is due for all of them, unless it says so again; so long what is due waits when it is killed.
pub const PARKED_LEASE: Duration = Duration::from_secs(10);
/// A group compares what it knows of its parked lanes with the store this often.
pub const PARKED_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
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
/// Bytes of the version of the code that a dead letter tells; a column of MySQL has room for so many.
pub const CODE_VERSION_BYTES_MAX: usize = 255;
/// Attempts that a dead letter tells in full: the first one and the newest.
pub const HISTORY_ATTEMPTS_MAX: usize = 32;
/// Bytes of the error that a dead letter keeps of each attempt.
pub const HISTORY_ERROR_BYTES_MAX: usize = 1_024;
/// Dead letters that one transaction of a redrive or a discard decides on.
pub const REDRIVE_BATCH_LETTERS: u32 = 500;
/// Bytes of a pipe that an import of dead letters holds in memory, to look whose they are before it stores one.
pub const IMPORT_HELD_BYTES_MAX: u64 = 268_435_456;
/// A dead letter that was handed back so often and died again is left alone unless that is forced.
pub const REDRIVES_MAX_DEFAULT: u32 = 5;
/// Dead letters that a redrive that watches for failures has under way at a time.
pub const REDRIVE_OUTSTANDING_MAX: usize = 100;
/// How often a redrive that watches for failures looks what became of them.
pub const REDRIVE_WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A redrive that watches for failures stops when nothing becomes of what it handed back for so long.
pub const REDRIVE_WATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Dead letters that a list reads from its store at once.
pub const LETTERS_PAGE_MAX: u32 = 256;
/// Clusters of dead letters that are listed.
pub const LETTER_CLUSTERS_MAX: u32 = 1_000;
/// Decisions about a dead letter that are shown.
pub const LETTER_ACTIONS_MAX: u32 = 1_000;
/// Bytes of one line that a handler process may write.
pub const HANDLER_LINE_BYTES_MAX: usize = LINE_BYTES_MAX;
/// Wait before a dead handler process is started again; it doubles from there.
pub const PROCESS_RESTART_BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a dead handler process is started again.
pub const PROCESS_RESTART_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long the streams of an ended handler process are read on, for what it left running, and how long a killed one is waited for.
pub const PROCESS_OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// Runs of a handling that another transaction was in the way of, before its group waits; they count no attempt.
pub const STORE_CONFLICT_RETRIES_MAX: u32 = 10;
/// Wait before a handling runs again that another transaction was in the way of; it doubles from there.
pub const STORE_CONFLICT_BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// The longest wait before a handling runs again that another transaction was in the way of.
pub const STORE_CONFLICT_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long the end of a transaction may take before the connection is given up.
pub const STORE_FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an inbox remembers that an event was handled, unless it is told otherwise.
pub const INBOX_KEEP_DEFAULT: Duration = Duration::from_secs(14 * 86_400);
/// How long after it was handled an event may be delivered again, unless it is told otherwise: by a broker, by a redrive of a dead letter, by a relay that comes back.
pub const INBOX_REDELIVERY_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
/// Events that an inbox remembers of one group before the oldest are forgotten early, unless it is told otherwise.
pub const INBOX_ROWS_DEFAULT: u64 = 50_000_000;
/// Events that a reset of a group looks for in its inbox, to warn of what would be handled a second time.
pub const RESET_EVENTS_LOOKED_FOR: usize = 100;
/// What an inbox need not remember is looked for this often.
pub const INBOX_UPKEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Rows of an inbox that one statement forgets.
pub const INBOX_FORGET_ROWS: u32 = 1_000;
/// A paused group tries again this often when the log refuses what it emits, or a database what it writes.
pub const PAUSE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Connections to a database that are opened at most unless another number is given.
pub const SQL_CONNECTIONS_DEFAULT: u32 = 8;
/// How long a caller waits for a connection to a database.
pub const SQL_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer to a statement of ours is waited for, from a server that may be gone without a word; a statement that works takes milliseconds, a
/// count over a very large table seconds.
pub const SQL_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long beyond the time limit of its handler a transaction may lie unused before PostgreSQL gives it up, so that whoever takes over from a process that stands still can go on.
pub const SQL_IDLE_GRACE: Duration = Duration::from_secs(5);
/// How long a transaction of a store's own may lie unused before PostgreSQL gives it up: between two of its statements there is no work but ours.
pub const SQL_CHANGE_IDLE_MAX: Duration = Duration::from_secs(5);
/// How long a statement on a connection of ours waits for a lock of PostgreSQL, MySQL or MariaDB: less than for an answer, because a server does not notice that nobody waits for it any more.
pub const SQL_LOCK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the tables of one part may take to be made or changed on a server, the wait for another process that does so included.
pub const SQL_MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a connection that nobody uses may take to say that it is alive, before another is taken.
pub const SQL_PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a writer of SQLite waits for another one.
pub const SQL_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a SQLite file is tried again that another one is just making.
pub const SQL_BUSY_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Rows that one statement of a store is about at most. A text is made and prepared for this number and its halves.
pub const SQL_MANY_ROWS_MAX: usize = 128;
/// Bytes of values that one statement of a store carries, unless a single row has more: well within what every server takes at once.
pub const SQL_MANY_BYTES_MAX: usize = 4_194_304;
/// Events that one statement puts into an outbox; more of them take further statements of the same transaction.
pub const OUTBOX_INSERT_EVENTS_MAX: usize = 1_000;
/// Bytes of payload that one statement puts into an outbox, unless a single event has more.
pub const OUTBOX_INSERT_BYTES_MAX: usize = 4_194_304;
/// Rows given up or discarded that a relay can leave out whose state is in another database; with more of them it stops.
pub const OUTBOX_DEAD_ROWS_MAX: u32 = 10_000;
/// A change of a SQLite file by another process is looked for this often.
pub const SQLITE_WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// A process tells relays of others about its commits at most this often.
pub const OUTBOX_NOTIFY_INTERVAL: Duration = Duration::from_millis(10);

/// Rows that a relay reads from an outbox at once, unless it says otherwise.
pub const RELAY_BATCH_ROWS_DEFAULT: usize = 500;
/// Rows that a relay may be told to read at once.
pub const RELAY_BATCH_ROWS_MAX: usize = 5_000;
/// Bytes of the events of one batch that a relay publishes; a single larger event goes alone.
pub const RELAY_BATCH_BYTES_MAX: usize = 4_194_304;
/// Batches that a relay has on their way, to all destinations together.
pub const RELAY_BATCHES_MAX: usize = 4;
/// Batches that a relay has on their way to one destination, so that a slow one leaves room for the others.
pub const RELAY_BATCHES_OF_DESTINATION_MAX: usize = 2;
/// Events by which a relay tries whether a destination that was down accepts again.
pub const RELAY_PROBE_ROWS: usize = 16;
/// Keys and events without a key that a relay has waiting for a later attempt before it reads no further.
pub const RELAY_BLOCKED_KEYS_MAX: usize = 1_000;
/// Keys whose newest event a relay remembers, to notice events that were committed in another order.
pub const RELAY_RECENT_KEYS_MAX: usize = 4_096;
/// How long the lease of a relay lasts by the clock of the database; so long the events of a killed one wait.
pub const RELAY_LEASE_DEFAULT: Duration = Duration::from_secs(5);
/// The shortest lease that may be asked for.
pub const RELAY_LEASE_MIN: Duration = Duration::from_secs(1);
/// A relay that waits for another one's lease asks this often.
pub const RELAY_LEASE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Wait between two reads of an outbox in which events keep coming; it doubles while there are none.
pub const RELAY_POLL_BUSY: Duration = Duration::from_millis(2);
/// The longest wait between two reads of an outbox, unless the relay says otherwise.
pub const RELAY_POLL_IDLE_DEFAULT: Duration = Duration::from_millis(250);
/// The shortest wait between the beginnings of two reads, however often a relay is woken.
pub const RELAY_READ_GAP: Duration = Duration::from_millis(1);
/// A relay reads this often below the id from which on it reads otherwise.
pub const RELAY_SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// A relay looks at most this often from which id on it may read.
pub const RELAY_FLOOR_INTERVAL: Duration = Duration::from_millis(50);
/// Wait before a key, or a destination that is down, is tried again; it doubles from there, and each wait is drawn between nothing and the whole.
pub const RELAY_BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait before a key or a destination is tried again.
pub const RELAY_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait before a relay asks a database again that does not answer.
pub const RELAY_STORE_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Attempts at an event that its destination refuses, before it is given up.
pub const RELAY_ATTEMPTS_DEFAULT: u32 = 10;
/// How long a relay waits for the outcome of a batch.
pub const RELAY_PUBLISH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// A relay asks this often how many events wait in the outbox, for its metrics.
pub const RELAY_STATUS_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// How long opening a connection to a broker may take, login included.
pub const REMOTE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take to answer anything but a publish.
pub const REMOTE_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a publish waits for a connection, and then for the broker's answer, before its outcome is unknown.
pub const REMOTE_PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Events of one batch that are on their way to NATS or RabbitMQ at the same time.
pub const REMOTE_PUBLISH_IN_FLIGHT: usize = 1_024;
/// Wait before a lost connection to a broker is tried again; it doubles from there.
pub const REMOTE_RECONNECT_BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait before a lost connection to a broker is tried again.
pub const REMOTE_RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Events that a group on NATS or RabbitMQ has received and not settled, unless its URL says otherwise.
pub const REMOTE_IN_FLIGHT_EVENTS_DEFAULT: usize = 4_096;
/// Events that a group on NATS or RabbitMQ may be told to have received and not settled.
pub const REMOTE_IN_FLIGHT_EVENTS_MAX: usize = 60_000;
/// Bytes of payload that a group on NATS or RabbitMQ has received and not settled before it asks for no more.
pub const REMOTE_IN_FLIGHT_BYTES_MAX: usize = 67_108_864;
/// How long NATS waits for the settlement of a delivery, renewed while its event is at work: so long the events of a killed instance wait.
pub const NATS_ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest such wait that may be asked for.
pub const NATS_ACK_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Copies of a stream that NATS keeps at most.
pub const NATS_REPLICAS_MAX: u64 = 5;
/// Bytes of headers that a message of NATS has at most; JetStream takes 64 KiB, and needs a little of it for its own. Above, the attributes travel in the body.
pub const NATS_HEADER_BYTES_MAX: usize = 61_440;
/// Bytes of the largest message of NATS that are left for headers.
pub const NATS_HEADER_BYTES_RESERVED: usize = 8_192;
/// Events of one batch of NATS at most, as its server has it.
pub const NATS_BATCH_EVENTS_MAX: usize = 1_000;
/// Payload bytes of one batch of NATS at most: the server keeps it aside until it is complete.
pub const NATS_BATCH_BYTES_MAX: usize = 4_194_304;
/// Duplicates of an event are known to NATS for so long.
pub const NATS_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// How long one request for further events stays open at NATS.
pub const NATS_PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Events of one request for further events.
pub const NATS_PULL_EVENTS_MAX: usize = 1_024;
/// Bytes of one request for further events.
pub const NATS_PULL_BYTES_MAX: usize = 16_777_216;
/// Events that RabbitMQ sends ahead of their settlement to one group, unless its URL says otherwise.
pub const RABBITMQ_PREFETCH_DEFAULT: u16 = 1_024;
/// Bytes of the largest message that RabbitMQ takes unless it is set up otherwise.
pub const RABBITMQ_MESSAGE_BYTES_MAX: usize = 134_217_728;
/// Bytes of headers that a message of RabbitMQ has at most: all of them fit into one frame.
pub const RABBITMQ_HEADER_BYTES_MAX: usize = 65_536;
/// A connection to RabbitMQ that is silent for twice so long is given up.
pub const RABBITMQ_HEARTBEAT: Duration = Duration::from_secs(10);
/// Deliveries after which RabbitMQ would drop an event: never reached, because attempts are counted by us.
pub const RABBITMQ_DELIVERY_LIMIT: i32 = 1_000_000_000;
/// The queue of someone who reads along without a group is forgotten when it was not read for so long.
pub const RABBITMQ_TAIL_EXPIRES: Duration = Duration::from_secs(60);

/// Entries of one request to SNS, SQS or EventBridge.
pub const AWS_BATCH_ENTRIES_MAX: usize = 10;
/// Bytes of one message of SNS or one entry of EventBridge, attributes included.
pub const AWS_MESSAGE_BYTES_MAX: usize = 262_144;
/// Bytes of all messages of one request to SNS or EventBridge.
pub const AWS_BATCH_BYTES_MAX: usize = 262_144;
/// Bytes of a payload that has room in such a message whatever it is: base64 makes it a third longer, and 16 KiB are left for the attributes.
pub const AWS_PAYLOAD_BYTES_MAX: usize = 184_320;
/// Requests that one call of publish has under way.
pub const AWS_REQUESTS_IN_FLIGHT_MAX: usize = 8;
/// How long a connection to AWS may take to come about.
pub const AWS_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request to AWS waits for its answer, a long poll for as much longer as it waits for messages.
pub const AWS_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long one call of publish to AWS sends nothing further.
pub const AWS_PUBLISH_LIMIT: Duration = Duration::from_secs(15);
/// Wait before AWS is asked again that did not answer; it doubles from there.
pub const AWS_RETRY_BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before AWS is asked again.
pub const AWS_RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Pages of a listing that are read from AWS at most.
pub const AWS_PAGES_MAX: usize = 1_000;
/// Characters of the id of a message group on AWS.
pub const AWS_GROUP_ID_CHARS_MAX: usize = 128;
/// Characters of the detail type of EventBridge, which is the event type.
pub const EVENTBRIDGE_TYPE_CHARS_MAX: usize = 128;
/// Characters of the source that EventBridge sees; a longer one stands in the event alone.
pub const EVENTBRIDGE_SOURCE_CHARS_MAX: usize = 256;
/// Characters of a resource of EventBridge, which is the aggregate id; a longer one stands in the event alone.
pub const EVENTBRIDGE_RESOURCE_CHARS_MAX: usize = 2_048;
/// Characters of the name of a rule of EventBridge.
pub const EVENTBRIDGE_RULE_CHARS_MAX: usize = 64;
/// Characters of the name of a topic of SNS.
pub const SNS_NAME_CHARS_MAX: usize = 256;
/// Characters of the name of a queue of SQS.
pub const SQS_NAME_CHARS_MAX: usize = 80;
/// How long a message of SQS is kept from others at once, unless the URL says otherwise; it is kept on while it is open.
pub const SQS_VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);
/// How long a message of SQS is kept from others at all: SQS allows twelve hours from its delivery.
pub const SQS_HELD_MAX: Duration = Duration::from_secs(41_400);
/// The first wait of a poll of SQS; it doubles while nothing comes.
pub const SQS_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait of a poll of SQS unless the URL says otherwise; leaving a group waits for its poll.
pub const SQS_WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest wait of a poll that SQS allows.
pub const SQS_WAIT_MAX: Duration = Duration::from_secs(20);
/// Pause between polls that found nothing and did not wait.
pub const SQS_POLL_PAUSE: Duration = Duration::from_millis(100);
/// For so long it is taken for true that nothing of a queue of SQS is elsewhere, once it was counted.
pub const SQS_COUNT_FRESH: Duration = Duration::from_secs(1);
/// Messages of a queue that wait to be handed out before polling pauses, unless the URL says otherwise.
pub const SQS_PREFETCH_DEFAULT: usize = 100;
/// Messages that may be asked to wait so.
pub const SQS_PREFETCH_MAX: usize = 10_000;
/// Polls of a queue at the same time that may be asked for.
pub const SQS_POLLERS_MAX: usize = 32;
/// How long a first connection to Kafka may take, log-in included.
pub const KAFKA_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request to Kafka may take. It also bounds how long a connection that answers nothing is believed in.
pub const KAFKA_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long publishing a batch to Kafka may take before what has no outcome is told as ambiguous.
pub const KAFKA_PUBLISH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long it may be asked to take.
pub const KAFKA_PUBLISH_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Events that a producer of Kafka has in its queue before publishing waits.
pub const KAFKA_QUEUE_EVENTS_MAX: u32 = 32_768;
/// Bytes that a producer of Kafka has in its queue before publishing waits.
pub const KAFKA_QUEUE_BYTES_MAX: u32 = 67_108_864;
/// Partitions of a topic that we make, unless the URL says otherwise.
pub const KAFKA_PARTITIONS_DEFAULT: u32 = 6;
/// Partitions that a URL may ask for.
pub const KAFKA_PARTITIONS_MAX: u32 = 10_000;
/// Bytes that a topic which we make takes in one message: a record of the embedded log fits.
pub const KAFKA_MESSAGE_BYTES_MAX: u32 = 12_582_912;
/// Bytes that a topic takes in one message where it does not say: the broker's own default.
pub const KAFKA_MESSAGE_BYTES_DEFAULT: u32 = 1_048_588;
/// Bytes of a Kafka message kept free for attributes when the largest payload is told.
pub const KAFKA_ATTRIBUTES_BYTES: u32 = 16_384;
/// An instance that Kafka has not heard of for so long loses its partitions.
pub const KAFKA_SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest that a URL may ask for: the broker's own limit.
pub const KAFKA_SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(1_800);
/// A partition that is given up waits so long for handlers that are at work on its events.
pub const KAFKA_REVOKE_WAIT: Duration = Duration::from_secs(10);
/// What is settled is committed to Kafka this often.
pub const KAFKA_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// A consumer of Kafka waits so long for something new before it looks after its own affairs.
pub const KAFKA_POLL_WAIT: Duration = Duration::from_millis(20);
/// Offsets by which what may have been handed out is committed ahead of it at first; it doubles each time.
pub const KAFKA_HANDED_OUT_AHEAD_FIRST: u64 = 1_024;
/// The most offsets by which it is ahead: so many events more are suspected after a process died.
pub const KAFKA_HANDED_OUT_AHEAD_MAX: u64 = 65_536;
/// Events taken from Kafka at once.
pub const KAFKA_POLL_EVENTS_MAX: usize = 512;
/// Events of a group that wait to be received, before no more are taken from Kafka.
pub const KAFKA_PENDING_EVENTS_MAX: usize = 4_096;
/// Bytes of events of a group that wait to be received, before no more are taken from Kafka.
pub const KAFKA_PENDING_BYTES_MAX: usize = 8_388_608;
/// How long a group waits for room before it tells Kafka to pause: shorter, and pauses, which throw away what was fetched ahead, come often.
pub const KAFKA_ROOM_WAIT: Duration = Duration::from_millis(100);
/// Kibibytes that a consumer of Kafka fetches ahead.
pub const KAFKA_FETCH_AHEAD_KIBIBYTES: u32 = 8_192;
/// How long leaving a group may take: the group may be dealt out anew just then, with requests about offsets, the wait for handlers, and a last commit.
pub const KAFKA_LEAVE_TIMEOUT: Duration = Duration::from_secs(30);
/// Somebody else may have scheduled an event: a scheduler looks this often.
pub const SCHEDULE_TICK: Duration = Duration::from_secs(1);
/// While its store does not answer, a scheduler looks this rarely at the rarest.
pub const SCHEDULE_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Events that are due, read at once.
pub const SCHEDULE_FIRE_MAX: u32 = 256;
/// The name of a scheduled event, in bytes.
pub const SCHEDULE_ID_BYTES_MAX: usize = 256;
/// A cron expression, in bytes.
pub const CRON_BYTES_MAX: usize = 256;

/// Dead letters of one failure are told in one message in so long a time.
pub const ALERT_WINDOW_DEFAULT: Duration = Duration::from_secs(600);
/// Messages about dead letters in one such time; what is beyond is told in one message.
pub const ALERT_MESSAGES_PER_WINDOW_MAX: usize = 20;
/// A group that is behind and has not moved for so long is stalled.
pub const ALERT_STALLED_AFTER_DEFAULT: Duration = Duration::from_secs(300);
/// An outbox whose oldest event waits longer is told.
pub const ALERT_OUTBOX_AGE_DEFAULT: Duration = Duration::from_secs(120);
/// A delivery that is parked longer is told.
pub const ALERT_PARKED_AGE_DEFAULT: Duration = Duration::from_secs(900);
/// Trouble that lasts is told again after so long.
pub const ALERT_REMIND_AFTER_DEFAULT: Duration = Duration::from_secs(14_400);
/// Dead letters of which no store tells what became of them are over once no further one came for so long.
pub const ALERT_QUIET_AFTER: Duration = Duration::from_secs(86_400);
/// Open dead letters of which no fact came for so long are told by what the store knows.
pub const ALERT_FACT_PATIENCE: Duration = Duration::from_secs(30);
/// Groups and outboxes are looked at this often.
pub const ALERT_LOOK_INTERVAL_DEFAULT: Duration = Duration::from_secs(15);
/// How long one look may take.
pub const ALERT_LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Facts that are remembered, so that one which is delivered again is not counted again.
pub const ALERT_FACTS_REMEMBERED_MAX: usize = 4_096;
/// Facts that are counted in one step.
pub const ALERT_FACTS_PER_STEP_MAX: usize = 256;
/// Alerts that are not over; what is beyond is told in one message.
pub const ALERTS_MAX: usize = 1_000;
/// Messages that wait for one channel; beyond, the oldest is given up.
pub const ALERT_MESSAGES_WAITING_MAX: usize = 1_000;
/// The wait before a message is sent again, after the first failure; it doubles.
pub const ALERT_RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait before a message is sent again.
pub const ALERT_RETRY_MAX: Duration = Duration::from_secs(3_600);
/// The longest wait that a channel may ask for.
pub const ALERT_RETRY_ASKED_MAX: Duration = Duration::from_secs(21_600);
/// A message that was not accepted for so long is given up.
pub const ALERT_RETRY_FOR: Duration = Duration::from_secs(259_200);
/// Characters of a reason or a name in an alert.
pub const ALERT_TEXT_CHARS_MAX: usize = 300;
/// How long the command of an alert may run unless said otherwise.
pub const ALERT_COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long one attempt at a webhook may take, resolving and connecting included.
pub const WEBHOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);
/// Bytes of the head of a webhook's answer; its body is not read.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16_384;
/// Bytes of a webhook's secret, at least.
pub const WEBHOOK_SECRET_BYTES_MIN: usize = 24;
/// Bytes of a webhook's secret, at most.
pub const WEBHOOK_SECRET_BYTES_MAX: usize = 64;
/// Secrets that a message is signed with at the same time, while one takes the place of another.
pub const WEBHOOK_SECRETS_MAX: usize = 4;
/// Events looked at to explain where one of them is.
pub const EXPLAIN_SCAN_EVENTS_MAX: usize = 1_000_000;
/// Newest events of a key that are explained at once.
pub const EXPLAIN_KEY_EVENTS_MAX: usize = 100;
/// Events with one id and source that are explained at once, the oldest ones.
pub const EXPLAIN_COPIES_MAX: usize = 16;
/// Rows of a lane looked at to explain where an event is.
pub const EXPLAIN_LANE_ROWS_MAX: u32 = 10_000;
