-- Events that are published later, once or again and again.
CREATE TABLE IF NOT EXISTS tidings_schedule (
  id            TEXT    NOT NULL PRIMARY KEY,
  -- When it is published next, in microseconds since 1970.
  due_us        INTEGER NOT NULL,
  -- When it comes again; null for once.
  cron          TEXT,
  time_zone     TEXT,
  -- The event as the JSON of an envelope.
  envelope      TEXT    NOT NULL,
  fired         INTEGER NOT NULL,
  fired_last_us INTEGER,
  added_us      INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS tidings_schedule_due ON tidings_schedule (due_us);
