-- The outbox: events that were committed with the change that they state, until a relay has brought them to their broker.
CREATE TABLE IF NOT EXISTS outbox (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id      VARCHAR(256)    NOT NULL DEFAULT (UUID()),
  event_type    VARCHAR(256)    NOT NULL,
  -- What order is kept by; null is unordered. A collation that ignores case would merge keys.
  aggregate_id  VARCHAR(1024)   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  -- Topic or lane; empty: the event type decides.
  destination   VARCHAR(256)    CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  -- A text keeps every byte; the JSON type of MySQL would write the document anew.
  payload       LONGTEXT        CHECK (payload IS NULL OR JSON_VALID(payload)),
  payload_bytes LONGBLOB,
  -- Further attributes of the envelope: version, source, correlation_id, causation_id, timestamp, content_type, traceparent, ...
  headers       LONGTEXT        NOT NULL DEFAULT ('{}'),
  -- An instant, whatever the time zone of the session that writes.
  created_at    TIMESTAMP(6)    NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  sent          TINYINT(1)      NOT NULL DEFAULT 0,
  sent_at       TIMESTAMP(6)    NULL DEFAULT NULL,
  CONSTRAINT outbox_one_payload CHECK (payload IS NULL OR payload_bytes IS NULL)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- A row for each slot of keys whose writers wait for each other, where an application asks for that.
CREATE TABLE IF NOT EXISTS tidings_outbox_slot (
  slot INT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
