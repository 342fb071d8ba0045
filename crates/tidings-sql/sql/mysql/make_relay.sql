-- What a relay keeps beside an outbox, ours or somebody else's.

-- The random identity of an outbox, which makes ids for rows that have none.
CREATE TABLE IF NOT EXISTS tidings_relay_outbox (
  outbox   VARCHAR(255) NOT NULL PRIMARY KEY,
  identity VARCHAR(64)  NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- Who relays which shard, and until when by the clock of this database (microseconds since 1970).
CREATE TABLE IF NOT EXISTS tidings_relay_lease (
  outbox        VARCHAR(255) NOT NULL,
  shard         INT          NOT NULL,
  shards        INT          NOT NULL,
  owner         VARCHAR(255) NOT NULL,
  epoch         BIGINT       NOT NULL,
  expires_at_us BIGINT       NOT NULL,
  PRIMARY KEY (outbox, shards, shard)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- Rows that failed (state 0), were given up (1), were discarded (2), or were sent where the outbox cannot say so (3).
CREATE TABLE IF NOT EXISTS tidings_relay_note (
  outbox      VARCHAR(255)  NOT NULL,
  row_id      VARCHAR(64)   NOT NULL,
  state       INT           NOT NULL,
  attempts    BIGINT        NOT NULL,
  reason      TEXT          NOT NULL,
  event_id    VARCHAR(256),
  event_type  VARCHAR(256)  NOT NULL,
  destination VARCHAR(256)  NOT NULL,
  event_key   VARCHAR(1024),
  noted_at_us BIGINT        NOT NULL,
  PRIMARY KEY (outbox, row_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
