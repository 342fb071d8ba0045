-- What a relay keeps beside an outbox, ours or somebody else's.

-- The random identity of an outbox, which makes ids for rows that have none.
CREATE TABLE IF NOT EXISTS tidings_relay_outbox (
  outbox   TEXT NOT NULL PRIMARY KEY,
  identity TEXT NOT NULL
);
-- Who relays which shard, and until when by the clock of this database (microseconds since 1970).
CREATE TABLE IF NOT EXISTS tidings_relay_lease (
  outbox        TEXT    NOT NULL,
  shard         INTEGER NOT NULL,
  shards        INTEGER NOT NULL,
  owner         TEXT    NOT NULL,
  epoch         INTEGER  NOT NULL,
  expires_at_us INTEGER  NOT NULL,
  PRIMARY KEY (outbox, shards, shard)
);
-- Rows that failed (state 0), were given up (1), were discarded (2), or were sent where the outbox cannot say so (3).
CREATE TABLE IF NOT EXISTS tidings_relay_note (
  outbox      TEXT    NOT NULL,
  row_id      TEXT    NOT NULL,
  state       INTEGER NOT NULL,
  attempts    INTEGER  NOT NULL,
  reason      TEXT    NOT NULL,
  event_id    TEXT,
  event_type  TEXT    NOT NULL,
  destination TEXT    NOT NULL,
  event_key   TEXT,
  noted_at_us INTEGER  NOT NULL,
  PRIMARY KEY (outbox, row_id)
);
