-- The inbox: which events each group has handled, so that handling one again has no further effect.
CREATE TABLE IF NOT EXISTS inbox (
  consumer     VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  -- The 16-byte dedupe key of the event id.
  event_key    BINARY(16)   NOT NULL,
  -- The id as the event carries it.
  event_id     VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  processed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (event_key, consumer),
  KEY inbox_processed_at (consumer, processed_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
