-- An outbox as plain SQL writes it: INSERT INTO outbox (event_type, payload, created_at, sent) VALUES (...).
CREATE TABLE IF NOT EXISTS outbox (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  event_type     TEXT    NOT NULL,
  payload        TEXT    NOT NULL CHECK (json_valid(payload)),
  created_at     TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
  sent           INTEGER NOT NULL DEFAULT 0,
  -- What order is kept by; without it the event is unordered.
  aggregate_id   TEXT,
  correlation_id TEXT,
  source         TEXT
);
CREATE INDEX IF NOT EXISTS outbox_unsent ON outbox (id) WHERE sent = 0;
