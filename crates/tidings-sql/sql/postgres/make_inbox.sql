-- The inbox: which events each group has handled, so that handling one again has no further effect.
CREATE TABLE IF NOT EXISTS inbox (
  consumer     text        NOT NULL,
  -- The 16-byte dedupe key of the event id.
  event_key    uuid        NOT NULL,
  -- The id as the event carries it.
  event_id     text        NOT NULL,
  processed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (event_key, consumer)
);
CREATE INDEX IF NOT EXISTS inbox_processed_at ON inbox (consumer, processed_at);
