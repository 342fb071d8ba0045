-- An outbox as plain SQL writes it: INSERT INTO outbox (event_type, payload, created_at, sent) VALUES (...).
CREATE TABLE IF NOT EXISTS outbox (
  id             BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  event_type     VARCHAR(255) NOT NULL,
  -- LONGTEXT keeps every byte; a column of the type JSON would write the document anew on MySQL.
  payload        LONGTEXT NOT NULL CHECK (JSON_VALID(payload)),
  created_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  sent           TINYINT(1) NOT NULL DEFAULT 0,
  -- What order is kept by; without it the event is unordered. Compared byte by byte, so that two keys stay two.
  aggregate_id   VARCHAR(255) COLLATE utf8mb4_bin,
  correlation_id VARCHAR(255),
  source         VARCHAR(255),
  KEY outbox_unsent (sent, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
