-- An outbox as Debezium's outbox event router expects it. Rows are not in the order of their UUIDs, so that a number beside them tells it; in tidings.toml:
--   [relay.mapping]
--   order = "sequence"
CREATE TABLE IF NOT EXISTS outbox (
  sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT NOT NULL UNIQUE,
  aggregatetype TEXT NOT NULL,
  aggregateid   TEXT NOT NULL,
  type          TEXT NOT NULL,
  payload       TEXT CHECK (payload IS NULL OR json_valid(payload))
);
