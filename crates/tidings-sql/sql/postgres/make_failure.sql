-- What groups could not handle yet, and what persons decided about it.

-- Deliveries that wait: of a lane, the one with the smallest id is next.
CREATE TABLE IF NOT EXISTS tidings_parked (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  consumer     text    NOT NULL,
  -- A hash of the key, in hexadecimal; and the key itself, null where the event has none.
  lane         text    NOT NULL,
  lane_key     text,
  -- The 16-byte dedupe key of the event, in hexadecimal.
  event_key    text    NOT NULL,
  event_id     text    NOT NULL,
  event_type   text    NOT NULL,
  -- The event as the JSON of an envelope, with the bytes of a message that is no event.
  envelope     text    NOT NULL,
  problem      text,
  log_position bigint,
  attempts     bigint NOT NULL,
  rounds       bigint NOT NULL,
  deaths       bigint NOT NULL,
  history      text    NOT NULL,
  -- When it is tried, in microseconds since 1970; null behind another row, and while its dead letter holds it.
  due_us       bigint,
  -- The dead letter that holds it or handed it back.
  letter       text,
  parked_us    bigint NOT NULL,
  UNIQUE (consumer, event_key)
);
CREATE INDEX IF NOT EXISTS tidings_parked_lane ON tidings_parked (consumer, lane, id);
CREATE INDEX IF NOT EXISTS tidings_parked_due ON tidings_parked (consumer, due_us);
-- Attempts that failed of events that are not settled.
CREATE TABLE IF NOT EXISTS tidings_attempt (
  consumer  text    NOT NULL,
  event_key text    NOT NULL,
  attempts  bigint NOT NULL,
  noted_us  bigint NOT NULL,
  PRIMARY KEY (consumer, event_key)
) WITH (fillfactor = 50);
-- Events that were given up; one row for each event and group, however often it dies.
CREATE TABLE IF NOT EXISTS tidings_dead_letter (
  -- Stays when the event dies again, so that lists can be read page by page.
  number          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id              text    NOT NULL UNIQUE,
  consumer        text    NOT NULL,
  lane            text    NOT NULL,
  lane_key        text,
  event_key       text    NOT NULL,
  event_id        text    NOT NULL,
  event_type      text    NOT NULL,
  aggregate_id    text,
  correlation_id  text,
  envelope        text    NOT NULL,
  problem         text,
  log_position    bigint,
  handler         text    NOT NULL,
  code_version    text    NOT NULL,
  cause           text    NOT NULL,
  reason          text    NOT NULL,
  reasons         text    NOT NULL,
  fingerprint     text    NOT NULL,
  attempts        bigint NOT NULL,
  rounds          bigint NOT NULL,
  deaths          bigint NOT NULL,
  history         text    NOT NULL,
  -- Whether later events of the key wait for a decision.
  holds           bigint NOT NULL,
  -- open, redriven, resolved, discarded, edited
  status          text    NOT NULL,
  redrives        bigint NOT NULL DEFAULT 0,
  first_failed_us bigint,
  first_died_us   bigint NOT NULL,
  died_us         bigint NOT NULL,
  changed_us      bigint NOT NULL,
  -- The edited copy that stands for the event.
  edited          text,
  -- The run that handed it back last.
  redrive_run     text,
  decided_by      text,
  decided_why     text,
  UNIQUE (consumer, event_key)
);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_status ON tidings_dead_letter (consumer, status, redrives, died_us);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_fingerprint ON tidings_dead_letter (fingerprint, status);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_event ON tidings_dead_letter (event_id);
CREATE INDEX IF NOT EXISTS tidings_dead_letter_run ON tidings_dead_letter (redrive_run);
-- What persons said of groups.
CREATE TABLE IF NOT EXISTS tidings_group (
  consumer   text    NOT NULL PRIMARY KEY,
  -- Why it is paused; null while it is not.
  paused_why text,
  changed_us bigint NOT NULL
);
-- Who did what, when and why.
CREATE TABLE IF NOT EXISTS tidings_operator_action (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_us    bigint NOT NULL,
  actor    text    NOT NULL,
  action   text    NOT NULL,
  consumer text,
  target   text    NOT NULL,
  reason   text    NOT NULL,
  detail   text    NOT NULL
);
CREATE INDEX IF NOT EXISTS tidings_operator_action_target ON tidings_operator_action (target);
-- How far sources of dead letters, such as the log, were taken over.
CREATE TABLE IF NOT EXISTS tidings_taken_over (
  source text NOT NULL PRIMARY KEY,
  up_to  bigint NOT NULL
);
