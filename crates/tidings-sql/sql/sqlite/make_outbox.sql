-- The outbox: events that were committed with the change that they state, until a relay has brought them to their broker.
CREATE TABLE IF NOT EXISTS outbox (
  -- AUTOINCREMENT bears load: without it the id of a deleted row is given to the next one.
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id      TEXT    NOT NULL DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  event_type    TEXT    NOT NULL,
  -- What order is kept by; null is unordered.
  aggregate_id  TEXT,
  -- Topic or lane; empty: the event type decides.
  destination   TEXT    NOT NULL DEFAULT '',
  payload       TEXT    CHECK (payload IS NULL OR json_valid(payload)),
  payload_bytes BLOB,
  -- Further attributes of the envelope: version, source, correlation_id, causation_id, timestamp, content_type, traceparent, ...
  headers       TEXT    NOT NULL DEFAULT '{}',
  created_at    TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
  sent          INTEGER NOT NULL DEFAULT 0,
  sent_at       TEXT,
  CHECK (payload IS NULL OR payload_bytes IS NULL)
);
