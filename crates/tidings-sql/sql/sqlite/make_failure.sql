-- What groups could not handle yet, and what persons decided about it.

-- Deliveries that wait: of a lane, the one with the smallest id is next.
CREATE TABLE IF NOT EXISTS tidings_parked (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  consumer     TEXT    NOT NULL,
  -- A hash of the key, in hexadecimal; and the key itself, null where the event has none.
  lane         TEXT    NOT NULL,
  lane_key     TEXT,
  -- The 16-byte dedupe key of the event, in hexadecimal.
  event_key    TEXT    NOT NULL,
  event_id     TEXT    NOT NULL,
  event_type   TEXT    NOT NULL,
  -- The event as the JSON of an envelope, with the bytes of a message that is no event.
  envelope     TEXT    NOT NULL,
  problem      TEXT,
  log_position INTEGER,
  attempts     INTEGER NOT NULL,
  rounds       INTEGER NOT NULL,
  deaths       INTEGER NOT NULL,
  history      TEXT    NOT NULL,
  -- When it is tried, in microseconds since 1970; null behind another row, and while its dead letter holds it.
  due_us       INTEGER,
  -- The dead letter that holds it or handed it back.
  letter       TEXT,
  parked_us    INTEGER NOT NULL,
  UNIQUE (consumer, event_key)
);
CREATE INDEX IF NOT EXISTS tidings_parked_lane ON tidings_parked (consumer, lane, id);
CREATE INDEX IF NOT EXISTS tidings_parked_due ON tidings_parked (consumer, due_us);
-- Attempts that failed of events that are not settled.
CREATE TABLE IF NOT EXISTS tidings_attempt (
  consumer  TEXT    NOT NULL,
  event_key TEXT    NOT NULL,
  attempts  INTEGER NOT NULL,
  noted_us  INTEGER NOT NULL,
  PRIMARY KEY (consumer, event_key)
) WITHOUT ROWID;
-- Events that were given up; one row for each event and group, however often it dies.
CREATE TABLE IF NOT EXISTS tidings_dead_letter (
  -- Stays when the event dies again, so that lists can be read page by page.
  number          INTEGER PRIMARY KEY AUTOINCREMENT,
  id              TEXT    NOT NULL UNIQUE,
  consumer        TEXT    NOT NULL,
  lane            TEXT    NOT NULL,
  lane_key        TEXT,
  event_key       TEXT    NOT NULL,
  event_id        TEXT    NOT NULL,
  event_type      TEXT    NOT NULL,
  aggregate_id    TEXT,
  correlation_id  TEXT,
  envelope        TEXT    NOT NULL,
  problem         TEXT,
  log_position    INTEGER,
  handler         TEXT    NOT NULL,
  code_version    TEXT    NOT NULL,
  cause           TEXT    NOT NULL,
  reason          TEXT    NOT NULL,
  reasons         TEXT    NOT NULL,
  fingerprint     TEXT    NOT NULL,
  attempts        INTEGER NOT NULL,
  rounds          INTEGER NOT NULL,
  deaths          INTEGER NOT NULL,
  history         TEXT    NOT NULL,
  -- Whether later events of the key wait for a decision.
  holds           INTEGER NOT NULL,
  -- open, redriven, resolved, discarded, edited
  status          TEXT    NOT NULL,
  redrives        INTEGER NOT NULL DEFAULT 0,
  first_failed_us INTEGER,
  first_died_us   INTEGER NOT NULL,
  died_us         INTEGER NOT NULL,
  changed_us      INTEGER NOT NULL,
  -- The edited copy that stands for the event.
  edited          TEXT,
  -- The run that handed it back last.
  redrive_run     TEXT,
  decided_by      TEXT,
  decided_why     TEXT,
  UNIQUE (consumer, event_key)
);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_status ON tidings_dead_letter (consumer, status, redrives, died_us);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_fingerprint ON tidings_dead_letter (fingerprint, status);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_event ON tidings_dead_letter (event_id);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_run ON tidings_dead_letter (redrive_run);
-- What persons said of groups.
CREATE TABLE IF NOT EXISTS tidings_group (
  consumer   TEXT    NOT NULL PRIMARY KEY,
  -- Why it is paused; null while it is not.
  paused_why TEXT,
  changed_us INTEGER NOT NULL
);
-- Who did what, when and why.
CREATE TABLE IF NOT EXISTS tidings_operator_action (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us    INTEGER NOT NULL,
  actor    TEXT    NOT NULL,
  action   TEXT    NOT NULL,
  consumer TEXT,
  target   TEXT    NOT NULL,
  reason   TEXT    NOT NULL,
  detail   TEXT    NOT NULL
);
CREATE INDEX IF NOT EXISTS tidings_operator_action_target ON tidings_operator_action (target);
-- How far sources of dead letters, such as the log, were taken over.
CREATE TABLE IF NOT EXISTS tidings_taken_over (
  source TEXT NOT NULL PRIMARY KEY,
  up_to  INTEGER NOT NULL
);
