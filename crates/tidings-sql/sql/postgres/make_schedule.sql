-- Events that are published later, once or again and again.
CREATE TABLE IF NOT EXISTS tidings_schedule (
  id            text    NOT NULL PRIMARY KEY,
  -- When it is published next, in microseconds since 1970.
  due_us        bigint  NOT NULL,
  -- When it comes again; null for once.
  cron          text,
  time_zone     text,
  -- The event as the JSON of an envelope.
  envelope      text    NOT NULL,
  fired         bigint  NOT NULL,
  fired_last_us bigint,
  added_us      bigint  NOT NULL
);
CREATE INDEX IF NOT EXISTS tidings_schedule_due ON tidings_schedule (due_us);
