-- What a relay keeps beside an outbox, ours or somebody else's.

-- The random identity of an outbox, which makes ids for rows that have none.
CREATE TABLE IF NOT EXISTS tidings_relay_outbox (
  outbox   text NOT NULL PRIMARY KEY,
  identity text NOT NULL
);
-- Who relays which shard, and until when by the clock of this database (microseconds since 1970).
CREATE TABLE IF NOT EXISTS tidings_relay_lease (
  outbox        text    NOT NULL,
  shard         integer NOT NULL,
  shards        integer NOT NULL,
  owner         text    NOT NULL,
  epoch         bigint  NOT NULL,
  expires_at_us bigint  NOT NULL,
  PRIMARY KEY (outbox, shards, shard)
) WITH (fillfactor = 50);
-- Rows that failed (state 0), were given up (1), were discarded (2), or were sent where the outbox cannot say so (3).
CREATE TABLE IF NOT EXISTS tidings_relay_note (
  outbox      text    NOT NULL,
  row_id      text    NOT NULL,
  state       integer NOT NULL,
  attempts    bigint  NOT NULL,
  reason      text    NOT NULL,
  event_id    text,
  event_type  text    NOT NULL,
  destination text    NOT NULL,
  event_key   text,
  noted_at_us bigint  NOT NULL,
  PRIMARY KEY (outbox, row_id)
);
