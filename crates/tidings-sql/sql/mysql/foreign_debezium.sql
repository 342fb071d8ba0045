-- An outbox as Debezium's outbox event router expects it. Rows are not in the order of their UUIDs, so that a number beside them tells it; in tidings.toml:
--   [relay.mapping]
--   order = "sequence"
CREATE TABLE IF NOT EXISTS outbox (
  id            CHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
  aggregatetype VARCHAR(255) NOT NULL,
  aggregateid   VARCHAR(255) COLLATE utf8mb4_bin NOT NULL,
  type          VARCHAR(255) NOT NULL,
  payload       LONGTEXT CHECK (payload IS NULL OR JSON_VALID(payload)),
  sequence      BIGINT UNSIGNED AUTO_INCREMENT UNIQUE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
