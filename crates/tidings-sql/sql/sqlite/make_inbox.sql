-- The inbox: which events each group has handled, so that handling one again has no further effect.
CREATE TABLE IF NOT EXISTS inbox (
  consumer     TEXT NOT NULL,
  -- The 16-byte dedupe key of the event id.
  event_key    BLOB NOT NULL,
  -- The id as the event carries it.
  event_id     TEXT NOT NULL,
  -- Microseconds since 1970.
  processed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)),
  PRIMARY KEY (event_key, consumer)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS inbox_processed_at ON inbox (consumer, processed_at);
